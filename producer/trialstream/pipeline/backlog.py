"""The backlog: events in the order in which they were queued, in memory and on disk, until Kafka has acknowledged them.

They lie in three stages, the oldest in the first:

1. *queues*: in memory, one for each partition; what the sender sends. They may be in a segment of the spool too.
2. *cold* segments: on disk only; loaded into the queues when there is room.
3. *waiting*: in memory, to be written to the spool before they may go on.

Usually all events go straight into the queues. Once the spool is needed they go into *waiting*, until no segment is
cold. Invariants:

- numbers rise from each stage to the next, so the events of a subject leave in the order in which they were queued;
- of what is not acknowledged, the spool holds the oldest: what is in no segment is newer than all that is in one.

Safe to use from any thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, NamedTuple

from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.codec import encode
from trialstream_schemas.wire.events import SubjectEvent, TrialEvent

from trialstream.log.topics import Route
from trialstream.spool.folder import Segment
from trialstream.spool.segment import Row

__all__ = ["Backlog", "Entry", "Statistics"]

log = logging.getLogger("trialstream")

# What an entry takes in memory beside its encoded event.
_ENTRY_BYTES = 512


@dataclass(slots=True)
class Entry:
    """An event that waits to be acknowledged.

    Attributes:
        topic: Which of the log's topics.
        key: Key of the record.
        event: The event, until it is encoded.
        size: About what it takes in memory.
        encoded: The event in single-object encoding; empty for one that cannot be encoded.
        number: Its place among all of the backlog.
        segment: The segment that has it too.
        gone: Whether it was acknowledged or given up.
        request: The event's, if it has one.
    """

    topic: Literal["registry", "trials"]
    key: bytes
    event: SubjectEvent | None
    size: int
    encoded: bytes | None = None
    number: int = 0
    segment: Segment | None = None
    gone: bool = False
    request: str | None = None

    @classmethod
    def of(cls, event: SubjectEvent, size: int) -> Entry:
        """The entry of an event."""
        if isinstance(event, TrialEvent):
            return cls("trials", event.hash.encode(), event, size, request=event.request)
        return cls("registry", event.subject.encode(), event, size, request=event.request)

    def wire(self) -> bytes:
        """The event as it goes out; empty if it cannot be encoded, which callers of the Protocol have prevented."""
        event = self.event  # sender and spooler may both encode it: the result is there before the event is gone
        if event is not None:
            try:
                self.encoded = encode(event)
            except SchemaError:
                log.exception("an event cannot be encoded and is lost; please report this")
                self.encoded = b""
            self.event = None
        assert self.encoded is not None
        return self.encoded

    @property
    def row(self) -> Row:
        """The event as the spool takes it."""
        return Row(self.topic, self.key, self.wire())


class Statistics(NamedTuple):
    """What waits and what was.

    Attributes:
        queued: Events that wait to be acknowledged, in memory or on disk.
        bytes: About what those in memory and the open frames take.
        acked: Events acknowledged.
        dropped: Events that were given up.
        spooled: Of those that wait, how many are on disk.
    """

    queued: int
    bytes: int
    acked: int
    dropped: int
    spooled: int


@dataclass(slots=True)
class _Queue:
    """Entries of a partition in the order in which they go out.

    Attributes:
        entries: The entries.
        since: Since when the first has been the first.
        sending: How many of the first are being sent.
    """

    entries: deque[Entry] = field(default_factory=deque)
    since: float = 0.0
    sending: int = 0


class Backlog:
    """See the module.

    Args:
        wake_sender: Called, from any thread, when something can be sent.
        direct: Whether events may go straight into the queues.

    Attributes:
        bytes: About what all of it takes in memory.
        high: From so many on the spooler is needed.
        awaited: Requests whose outcomes are waited for: until then nobody expects to read what they bring.
    """

    def __init__(self, wake_sender: Callable[[], object], *, direct: bool = True) -> None:
        self.bytes = 0
        self.high = 2**63
        self.awaited: set[str] = set()
        self._wake_sender = wake_sender
        self._wake_spooler: Callable[[], object] = lambda: None
        self._lock = threading.Lock()
        self._route: Callable[[Entry], Route] | None = None
        self._direct = direct
        self._queues: dict[Route, _Queue] = {}
        self._queue_bytes = 0
        # Of the entries in the queues, those in no segment, while new ones are not direct.
        self._unwritten: deque[Entry] = deque()
        self._cold: deque[Segment] = deque()
        self._waiting: deque[Entry] = deque()
        # The segments whose events are in memory too.
        self._loaded: list[Segment] = []
        # The sender was woken and has not looked since.
        self._rung = False
        self._next = 0
        # Behind the last one that is not awaited.
        self._logged = 0
        self._acked = 0
        self._dropped = 0

    # --- Coming in

    def put(self, entry: Entry) -> None:
        """Queue an entry behind all others."""
        with self._lock:
            entry.number = self._next
            self._next += 1
            if entry.request not in self.awaited:
                self._logged = self._next
            crosses = self.bytes < self.high <= self.bytes + entry.size
            self.bytes += entry.size
            if self._direct:
                self._queue(entry)
            else:
                crosses |= not self._waiting
                self._waiting.append(entry)
        if crosses:
            self._wake_spooler()

    def give_up(self) -> None:
        """Count an event that was dropped before it was queued."""
        with self._lock:
            self._dropped += 1

    def connect(self, route: Callable[[Entry], Route]) -> None:
        """From now on it is known where each event goes, and that it can go there."""
        with self._lock:
            self._route = route
        self._wake_spooler()

    # --- What the sender does

    def routes(self) -> list[Route]:
        """Where something waits to be sent."""
        with self._lock:
            self._rung = False
            return [route for route, queue in self._queues.items() if queue.entries]

    def peek(self, route: Route, limit: int) -> list[Entry]:
        """The first entries that wait there; they stay."""
        with self._lock:
            return list(islice(self._queues[route].entries, limit))

    def sending(self, route: Route, count: int) -> None:
        """So many of the first that wait there are being sent."""
        with self._lock:
            self._queues[route].sending = count

    def acked(self, route: Route, count: int) -> None:
        """Kafka has the first entries that wait there."""
        with self._lock:
            self._remove(route, count)
            self._acked += count
        if not self._direct:  # there may be room to load, or a segment to delete
            self._wake_spooler()

    def discard(self, route: Route) -> None:
        """Give up the first entry that waits there: the fold sees the gap in the `seq` and counts it."""
        with self._lock:
            self._remove(route, 1)
            self._dropped += 1

    # --- What others wait for

    def mark(self) -> int:
        """Stands for all that was queued so far."""
        with self._lock:
            return self._next

    def logged(self) -> int:
        """The mark of all that was queued so far and is not awaited."""
        with self._lock:
            return self._logged

    def abandon(self, request: str) -> None:
        """Nobody waits for a request any more, and it is not decided: see `Sender.abandon`."""
        with self._lock:
            self.awaited.discard(request)
            self._logged = self._next

    def reached(self, mark: int) -> bool:
        """Whether all up to the mark is acknowledged (or given up)."""
        with self._lock:
            firsts = [queue.entries[0].number for queue in self._queues.values() if queue.entries]
            firsts += [each.first for each in islice(self._cold, 1)]
            firsts += [each.number for each in islice(self._waiting, 1)]
            return all(first >= mark for first in firsts)

    def secured(self, mark: int) -> bool:
        """Whether all up to the mark is acknowledged or on disk."""
        with self._lock:
            if self._direct:
                return not any(each.number < mark for each in self._in_queues() if each.segment is None)
            while self._unwritten and self._unwritten[0].gone:
                self._unwritten.popleft()
            firsts = [*islice(self._unwritten, 1), *islice(self._waiting, 1)]
            return all(each.number >= mark for each in firsts)

    def statistics(self) -> Statistics:
        """What waits and what was."""
        with self._lock:
            held = sum(len(queue.entries) for queue in self._queues.values())
            cold = sum(each.records for each in self._cold)
            written = sum(each.pending for each in self._loaded)
            return Statistics(held + cold + len(self._waiting), self.bytes, self._acked, self._dropped, cold + written)

    # --- What the spooler does

    def watch(self, wake: Callable[[], object]) -> None:
        """Call this, from any thread, when the spooler has something to do."""
        self._wake_spooler = wake

    @property
    def direct(self) -> bool:
        """Whether new entries go straight into the queues."""
        return self._direct

    @property
    def connected(self) -> bool:
        """Whether the queues can take anything."""
        return self._route is not None

    @property
    def queue_bytes(self) -> int:
        """About what the queues take in memory."""
        return self._queue_bytes

    def age(self, now: float) -> float:
        """Seconds since anything was acknowledged of the queue that has stood still for the longest."""
        with self._lock:
            return max((now - queue.since for queue in self._queues.values() if queue.entries), default=0.0)

    def hold(self) -> None:
        """Let new entries wait for the spool, and remember which ones in the queues are in no segment."""
        with self._lock:
            self._direct = False
            self._unwritten = deque(each for each in self._in_queues() if each.segment is None)

    def release(self) -> None:
        """Let what waits, and all that comes, go straight into the queues; nothing may be cold."""
        with self._lock:
            assert not self._cold
            assert self._route is not None
            while self._waiting:
                self._queue(self._waiting.popleft())
            self._direct = True
            self._unwritten.clear()

    def adopt(self, segments: Iterable[Segment]) -> None:
        """Take segments from before: they are cold, and older than all else."""
        with self._lock:
            assert not self._next
            for each in segments:
                each.cold, each.first = True, self._next
                self._next += each.records
                self._cold.append(each)

    def unwritten(self, limit: int) -> tuple[list[Entry], bool]:
        """The oldest entries in no segment, up to so many bytes (and one); whether they are waiting, not queued."""
        with self._lock:
            while self._unwritten and self._unwritten[0].gone:
                self._unwritten.popleft()
            source = self._unwritten or self._waiting
            taken: list[Entry] = []
            total = 0
            for each in source:
                if taken and total >= limit:
                    break
                taken.append(each)
                total += each.size
            return taken, source is self._waiting

    def written(self, entries: Sequence[Entry], segment: Segment) -> None:
        """These entries, the oldest in no segment, are in that one now; waiting ones move on, or leave memory."""
        with self._lock:
            if not segment.cold and segment not in self._loaded:
                self._loaded.append(segment)
            for entry in entries:
                if self._waiting and self._waiting[0] is entry:
                    self._waiting.popleft()
                    if segment.cold or not entry.encoded:
                        self._leave_memory(entry, segment)
                        continue
                    self._queue(entry)
                elif self._unwritten and self._unwritten[0] is entry:
                    self._unwritten.popleft()
                if entry.encoded and not entry.gone:
                    entry.segment = segment
                    segment.pending += 1

    def evict(self) -> bool:
        """Let the newest segment in memory be on disk only; whether that could be done."""
        with self._lock:
            if self._unwritten or not self._loaded:
                return False
            newest = self._loaded[-1]
            mine = [
                [i for i, each in enumerate(queue.entries) if each.segment is newest] for queue in self._queues.values()
            ]
            free = all(i[0] >= queue.sending for i, queue in zip(mine, self._queues.values(), strict=True) if i)
            if not newest.closed or not free or not newest.pending or newest.pending != newest.records:
                return False  # of what is sent already, nothing may come back
            numbers = []
            for places, queue in zip(mine, self._queues.values(), strict=True):
                for _ in places:  # nothing is behind them
                    entry = queue.entries.pop()
                    assert entry.segment is newest
                    numbers.append(entry.number)
                    self.bytes -= entry.size
                    self._queue_bytes -= entry.size
            self._loaded.pop()
            newest.first, newest.pending, newest.cold = min(numbers), 0, True
            self._cold.appendleft(newest)
            return True

    def unwritable(self) -> None:
        """The spool takes nothing: what waits goes on without it, unless older events are cold."""
        with self._lock:
            if self._cold or self._route is None:
                return
            while self._waiting:
                entry = self._waiting.popleft()
                self._queue(entry)
                self._unwritten.append(entry)

    def colds(self) -> list[Segment]:
        """The segments that are on disk only, oldest first."""
        with self._lock:
            return list(self._cold)

    def loaded(self, segment: Segment, rows: Sequence[Row]) -> None:
        """The oldest cold segment was read; its events are in memory now, and count as given up where they are not."""
        with self._lock:
            assert self._cold[0] is segment
            self._cold.popleft()
            self._loaded.append(segment)
            segment.cold = False
            self._dropped += max(0, segment.records - len(rows))
            for i, (topic, key, value) in enumerate(rows):
                entry = Entry(topic, key, None, len(value) + _ENTRY_BYTES, value, segment.first + i, segment)
                self.bytes += entry.size
                segment.pending += 1
                self._queue(entry)

    def thinned(self, segment: Segment, dropped: int) -> None:
        """So many events of a cold segment were given up."""
        with self._lock:
            self._dropped += dropped
            if not segment.records:
                self._cold.remove(segment)
                self._loaded.append(segment)

    def emptied(self) -> list[Segment]:
        """The segments whose events are all acknowledged, each once."""
        with self._lock:
            done = [each for each in self._loaded if each.closed and not each.pending]
            self._loaded = [each for each in self._loaded if each not in done]
            return done

    # --- Under the lock

    def _in_queues(self) -> list[Entry]:
        return sorted((each for queue in self._queues.values() for each in queue.entries), key=lambda each: each.number)

    def _queue(self, entry: Entry) -> None:
        assert self._route is not None
        queue = self._queues.setdefault(self._route(entry), _Queue())
        if not queue.entries:
            queue.since = time.monotonic()
        queue.entries.append(entry)
        self._queue_bytes += entry.size
        if not self._rung:
            self._rung = True
            self._wake_sender()

    def _leave_memory(self, entry: Entry, segment: Segment) -> None:
        self.bytes -= entry.size
        if not entry.encoded:
            self._dropped += 1
        elif not self._cold or self._cold[-1] is not segment:
            segment.first = entry.number
            self._cold.append(segment)

    def _remove(self, route: Route, count: int) -> None:
        queue = self._queues[route]
        queue.sending = max(0, queue.sending - count)
        for _ in range(count):
            entry = queue.entries.popleft()
            entry.gone = True
            self.bytes -= entry.size
            self._queue_bytes -= entry.size
            if (segment := entry.segment) is not None:
                segment.pending -= 1
        queue.since = time.monotonic()
