"""The queues of the backlog: entries in memory that can be sent, one queue for each partition.

Not safe to use from several threads: the backlog calls it under its lock.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from trialstream.event_log.topics import Route
from trialstream.pipeline.entry import Entry
from trialstream.spool.folder import Segment

__all__ = ["Queues"]


@dataclass(slots=True)
class _Queue:
    """Entries of one partition in the order in which they are sent.

    Attributes:
        entries: The entries.
        since: When the first entry became the first (monotonic clock).
        sending: Number of entries at the front that are being sent.
    """

    entries: deque[Entry] = field(default_factory=deque)
    since: float = 0.0
    sending: int = 0


class Queues:
    """The queues of all partitions.

    Attributes:
        bytes: Estimated memory of all entries.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._queues: dict[Route, _Queue] = {}

    def __len__(self) -> int:
        """Number of entries."""
        return sum(len(queue.entries) for queue in self._queues.values())

    def routes(self) -> list[Route]:
        """The partitions that have entries to be sent."""
        return [route for route, queue in self._queues.items() if queue.entries]

    def peek(self, route: Route, limit: int) -> list[Entry]:
        """The first entries of a partition, up to `limit`; they stay queued."""
        return list(islice(self._queues[route].entries, limit))

    def in_order(self) -> list[Entry]:
        """All entries, by their numbers."""
        return sorted((each for queue in self._queues.values() for each in queue.entries), key=lambda each: each.number)

    def first_numbers(self) -> list[int]:
        """The number of the first entry of each partition that has entries."""
        return [queue.entries[0].number for queue in self._queues.values() if queue.entries]

    def stalled_seconds(self, now: float) -> float:
        """Longest time that a partition with entries has waited for an acknowledgement, seconds; 0.0 if there is none.

        Args:
            now: The time on the monotonic clock.
        """
        return max((now - queue.since for queue in self._queues.values() if queue.entries), default=0.0)

    def append(self, route: Route, entry: Entry) -> None:
        """Queue an entry after all others of its partition."""
        queue = self._queues.get(route)
        if queue is None:
            queue = self._queues[route] = _Queue()
        if not queue.entries:
            queue.since = time.monotonic()
        queue.entries.append(entry)
        self.bytes += entry.size

    def mark_sending(self, route: Route, count: int) -> None:
        """Record that the first `count` entries of a partition are being sent."""
        self._queues[route].sending = count

    def remove(self, route: Route, count: int) -> list[Entry]:
        """Remove the first `count` entries of a partition, and return them."""
        queue = self._queues[route]
        queue.sending = max(0, queue.sending - count)
        removed = [queue.entries.popleft() for _ in range(count)]
        for entry in removed:
            entry.removed = True
            self.bytes -= entry.size
            if entry.segment is not None:
                entry.segment.pending -= 1
        queue.since = time.monotonic()
        return removed

    def evict(self, segment: Segment) -> list[Entry]:
        """Remove the entries of the newest segment, which are the last of each queue, unless one is being sent.

        Returns:
            The entries that were removed; none if one of them is being sent.
        """
        counts = [(queue, _count_last(queue.entries, segment)) for queue in self._queues.values()]
        if any(count > len(queue.entries) - queue.sending for queue, count in counts):
            return []
        evicted = [queue.entries.pop() for queue, count in counts for _ in range(count)]
        self.bytes -= sum(entry.size for entry in evicted)
        return evicted


def _count_last(entries: deque[Entry], segment: Segment) -> int:
    """Count the entries at the end of a queue that are in the segment."""
    count = 0
    for entry in reversed(entries):
        if entry.segment is not segment:
            break
        count += 1
    return count
