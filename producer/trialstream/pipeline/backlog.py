"""The backlog: events in the order in which they were queued, in memory and on disk, until Kafka has acknowledged them.

The events are in three stages, the oldest in the first:

1. *queues*: in memory, one queue for each partition, which the sender sends. Segments of the spool may also hold them.
2. *on disk*: in segments of the spool only; loaded into the queues when there is room.
3. *waiting*: in memory; written to the spool before they move to one of the other stages.

Normally each event goes straight into a queue. While the backlog is *spilling*, new events wait for the spool.
Invariants:

- numbers rise from each stage to the next, so the events of a subject leave in the order in which they were queued;
- the spool holds the oldest events that are not acknowledged: an event in no segment is newer than all
  events in segments.

Safe to use from any thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from trialstream.event_log.topics import Route
from trialstream.pipeline.entry import Entry
from trialstream.pipeline.queue import Queues
from trialstream.pipeline.watermark import Watermark
from trialstream.spool.folder import Segment
from trialstream.spool.segment import SpooledEvent
from trialstream.statistics import Statistics

__all__ = ["Backlog"]


class Backlog:
    """The events of one writer that are not acknowledged. A new backlog is spilling, and not connected.

    Args:
        watermark: Where queued and acknowledged events are recorded.
        wake_sender: Called, from any thread, when an event can be sent.
        wake_spiller: Called, from any thread, when the spiller has something to do.
        spill_bytes: When the memory of all entries reaches this size, bytes, the backlog begins to spill, and wakes the
            spiller.

    Attributes:
        bytes: Estimated memory of the entries of all stages.
    """

    def __init__(
        self,
        watermark: Watermark,
        wake_sender: Callable[[], object],
        wake_spiller: Callable[[], object],
        *,
        spill_bytes: int,
    ) -> None:
        self.bytes = 0
        self._watermark = watermark
        self._wake_sender = wake_sender
        self._wake_spiller = wake_spiller
        self._spill_bytes = spill_bytes
        self._lock = threading.Lock()
        self._route: Callable[[Entry], Route] | None = None
        self._spilling = True
        self._queues = Queues()
        # While spilling: the entries in the queues that are in no segment, oldest first.
        self._unspooled: deque[Entry] = deque()
        self._on_disk: deque[Segment] = deque()
        self._waiting: deque[Entry] = deque()
        # The segments whose events are in memory too.
        self._in_memory: list[Segment] = []
        # Whether the sender was woken, or is awake, and has not called `routes` since.
        self._sender_notified = False
        self._next = 0
        self._acked = 0
        self._dropped = 0

    # --- Queuing

    def put(self, entry: Entry) -> None:
        """Queue an entry after all others."""
        with self._lock:
            entry.number = self._next
            self._next += 1
            self._watermark.queued(entry.request, entry.number)
            spiller_needed = self.bytes < self._spill_bytes <= self.bytes + entry.size
            self.bytes += entry.size
            if spiller_needed and not self._spilling:
                # The spiller may run after the last entry of a burst: all would be in the queues, and keep those that
                # are on disk as well from leaving the memory.
                self._start_spilling()
            if self._spilling:
                spiller_needed |= not self._waiting
                self._waiting.append(entry)
            else:
                self._queue(entry)
        if spiller_needed:
            self._wake_spiller()

    def count_dropped(self) -> None:
        """Count an event that was dropped before it was queued."""
        with self._lock:
            self._dropped += 1

    def connect(self, route: Callable[[Entry], Route]) -> None:
        """Set the function that gives each entry its partition: from now on entries can be queued and sent.

        Args:
            route: Returns the partition of an entry.
        """
        with self._lock:
            self._route = route
        self._wake_spiller()

    @property
    def has_connected(self) -> bool:
        """Whether entries can be queued for a partition."""
        return self._route is not None

    # --- Sending

    def expect_sender(self) -> None:
        """Wake the sender for no queued entry until it calls `routes`, which it is about to do."""
        with self._lock:
            self._sender_notified = True

    def routes(self) -> list[Route]:
        """Return the partitions that have entries to be sent, and make the next queued entry wake the sender again."""
        with self._lock:
            self._sender_notified = False
            return self._queues.routes()

    def peek(self, route: Route, limit: int) -> list[Entry]:
        """The first entries of a partition, up to `limit`; they stay queued."""
        with self._lock:
            return self._queues.peek(route, limit)

    def mark_sending(self, route: Route, count: int) -> None:
        """Record that the first `count` entries of a partition are being sent, so that they are not evicted."""
        with self._lock:
            self._queues.mark_sending(route, count)

    def acked(self, route: Route, count: int, end: int) -> None:
        """Remove the first `count` entries of a partition, which Kafka has acknowledged.

        Args:
            route: The partition.
            count: Number of entries.
            end: The offset after the last of these entries.
        """
        with self._lock:
            removed = self._remove(route, count)
            self._watermark.acked(route, [entry.request for entry in removed], end)
            self._acked += count
        if self._spilling:  # there may be room to load a segment, or a segment to delete
            self._wake_spiller()

    def discard(self, route: Route) -> None:
        """Drop the first entry of a partition: the fold finds the gap in the `seq` and counts the lost event."""
        with self._lock:
            self._remove(route, 1)
            self._dropped += 1

    # --- Waiting for progress

    @property
    def next_number(self) -> int:
        """The number of the next entry: all entries queued so far have lower numbers."""
        with self._lock:
            return self._next

    def is_acked(self, number: int) -> bool:
        """Whether all entries with lower numbers are acknowledged or dropped."""
        with self._lock:
            firsts = self._queues.first_numbers()
            firsts += [segment.first for segment in islice(self._on_disk, 1)]
            firsts += [entry.number for entry in islice(self._waiting, 1)]
            return all(first >= number for first in firsts)

    def is_secured(self, number: int) -> bool:
        """Whether all entries with lower numbers are acknowledged, dropped or on disk."""
        with self._lock:
            if not self._spilling:
                return not any(each.number < number for each in self._queues.in_order() if each.segment is None)
            unspooled = (entry for entry in self._unspooled if not entry.removed)
            firsts = [*islice(unspooled, 1), *islice(self._waiting, 1)]
            return all(entry.number >= number for entry in firsts)

    def statistics(self) -> Statistics:
        """Counts of the events; `bytes` excludes open frames."""
        with self._lock:
            on_disk = sum(segment.records for segment in self._on_disk)
            return Statistics(
                queued=len(self._queues) + on_disk + len(self._waiting),
                bytes=self.bytes,
                acked=self._acked,
                dropped=self._dropped,
                spooled=on_disk + sum(segment.pending for segment in self._in_memory),
            )

    # --- Spilling

    @property
    def spilling(self) -> bool:
        """Whether new entries wait for the spool."""
        return self._spilling

    @property
    def queue_bytes(self) -> int:
        """Estimated memory of the entries in the queues."""
        return self._queues.bytes

    def stalled_seconds(self) -> float:
        """Longest time that a partition with entries has waited for an acknowledgement, seconds; 0.0 without any."""
        with self._lock:
            return self._queues.stalled_seconds(time.monotonic())

    def start_spilling(self) -> None:
        """Make new entries wait for the spool; entries in the queues that are in no segment are written before them."""
        with self._lock:
            self._start_spilling()

    def _start_spilling(self) -> None:
        self._spilling = True
        self._unspooled = deque(each for each in self._queues.in_order() if each.segment is None)

    def stop_spilling(self) -> None:
        """Put waiting entries, and new ones from now on, straight into the queues; no segment may be on disk only."""
        with self._lock:
            assert not self._on_disk
            assert self._route is not None
            while self._waiting:
                self._queue(self._waiting.popleft())
            self._spilling = False
            self._unspooled.clear()

    def adopt(self, segments: Iterable[Segment]) -> None:
        """Take over the segments of an earlier process, oldest first, before anything is queued."""
        with self._lock:
            assert not self._next
            for segment in segments:
                segment.on_disk, segment.first = True, self._next
                self._next += segment.records
                self._on_disk.append(segment)

    def unspooled(self, limit: int) -> tuple[list[Entry], bool]:
        """The oldest entries that are in no segment.

        Args:
            limit: Maximum memory of the entries together, bytes; a single entry may exceed it.

        Returns:
            The entries, and whether they are waiting rather than in the queues.
        """
        with self._lock:
            while self._unspooled and self._unspooled[0].removed:
                self._unspooled.popleft()
            source = self._unspooled or self._waiting
            found: list[Entry] = []
            total = 0
            for entry in source:
                if found and total >= limit:
                    break
                found.append(entry)
                total += entry.size
            return found, source is self._waiting

    def spooled(self, entries: Sequence[Entry], segment: Segment) -> None:
        """Record that the oldest unspooled entries are in a segment now.

        Waiting ones move on into the queues or, if the segment is on disk only, leave memory.
        """
        with self._lock:
            if not segment.on_disk and segment not in self._in_memory:
                self._in_memory.append(segment)
            for entry in entries:
                if self._waiting and self._waiting[0] is entry:
                    self._waiting.popleft()
                    if segment.on_disk or not entry.encoded:
                        self._leave_memory(entry, segment)
                        continue
                    self._queue(entry)
                elif self._unspooled and self._unspooled[0] is entry:
                    self._unspooled.popleft()
                if entry.encoded and not entry.removed:
                    entry.segment = segment
                    segment.pending += 1

    def bypass_spool(self) -> None:
        """Queue the waiting entries although they are in no segment, unless older entries are on disk only."""
        with self._lock:
            if self._on_disk or self._route is None:
                return
            while self._waiting:
                entry = self._waiting.popleft()
                self._queue(entry)
                self._unspooled.append(entry)

    def evict(self) -> bool:
        """Remove the events of the newest segment from memory, so that they are on disk only.

        Does nothing if entries in the queues are newer than the segment, or the segment is open, or some of its events
        are being sent or were acknowledged: these would be queued a second time when the segment is loaded.

        Returns:
            Whether events were removed.
        """
        with self._lock:
            if self._unspooled or not self._in_memory:
                return False
            newest = self._in_memory[-1]
            if not newest.closed or not newest.pending or newest.pending != newest.records:
                return False
            evicted = self._queues.evict(newest)
            if not evicted:
                return False
            assert len(evicted) == newest.records
            self.bytes -= sum(entry.size for entry in evicted)
            self._in_memory.pop()
            newest.first, newest.pending, newest.on_disk = min(entry.number for entry in evicted), 0, True
            self._on_disk.appendleft(newest)
            return True

    def on_disk(self) -> list[Segment]:
        """The segments that are on disk only, oldest first."""
        with self._lock:
            return list(self._on_disk)

    def load(self, segment: Segment, events: Sequence[SpooledEvent]) -> None:
        """Queue the events of the oldest segment on disk; its events that could not be read count as dropped."""
        with self._lock:
            assert self._on_disk[0] is segment
            self._on_disk.popleft()
            self._in_memory.append(segment)
            segment.on_disk = False
            self._dropped += max(0, segment.records - len(events))
            for number, event in enumerate(events, segment.first):
                entry = Entry.from_spool(event, number, segment)
                self.bytes += entry.size
                segment.pending += 1
                self._queue(entry)

    def thin(self, segment: Segment, dropped: int) -> None:
        """Count events of a segment on disk as dropped; `segment.records` excludes these `dropped` events already."""
        with self._lock:
            self._dropped += dropped
            if not segment.records:
                self._on_disk.remove(segment)
                self._in_memory.append(segment)

    def take_sent(self) -> list[Segment]:
        """Remove and return the closed segments whose events are all acknowledged."""
        with self._lock:
            sent = [each for each in self._in_memory if each.closed and not each.pending]
            self._in_memory = [each for each in self._in_memory if each not in sent]
            return sent

    # --- Under the lock

    def _queue(self, entry: Entry) -> None:
        assert self._route is not None
        self._queues.append(self._route(entry), entry)
        if not self._sender_notified:
            self._sender_notified = True
            self._wake_sender()

    def _leave_memory(self, entry: Entry, segment: Segment) -> None:
        self.bytes -= entry.size
        if not entry.encoded:
            self._dropped += 1
        elif not self._on_disk or self._on_disk[-1] is not segment:
            segment.first = entry.number
            self._on_disk.append(segment)

    def _remove(self, route: Route, count: int) -> list[Entry]:
        removed = self._queues.remove(route, count)
        self.bytes -= sum(entry.size for entry in removed)
        return removed
