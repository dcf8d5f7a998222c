"""The outbox: what was logged and is not yet acknowledged, bounded in bytes.

Log calls append here and return; one sender takes from here. Invariants:

- the events of one subject leave in the order of their `seq`, which is 1, 2, 3 … without a hole unless one was dropped;
- metrics and chronos of a trial are gathered in open frames, and any other event of the trial seals them first. The two
  frames of a trial may overtake each other: they touch different parts of its state;
- an entry stays queued until Kafka has acknowledged it.

Safe to use from any thread: the lock is held for a few appends, never across I/O.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from trialstream_schemas.aggregators import Lazy
from trialstream_schemas.events import (
    ChronosFinished,
    MetricsLogged,
    SubjectEvent,
)
from trialstream_schemas.values import MAX_NAME_BYTES, size

__all__ = ["Entry", "Full", "Outbox", "Route", "Statistics"]

# Measured: frames of 256 rows encode 4,000,000 points/s; longer ones gain little and delay more.
FRAME_ROWS = 256
# Encoded size at which a wide frame is full: far enough below MAX_EVENT_BYTES for names and one more row.
FRAME_BYTES = 128 * 1024
# About what an event and its queue entry take beside its values, and what a float and a row take while they wait.
_EVENT_BYTES = 1024
_FLOAT_BYTES = 40
_ROW_BYTES = 200


class Full(Exception):
    """The outbox has no room."""


class Route(NamedTuple):
    """Where an event goes."""

    topic: str
    partition: int


@dataclass(slots=True)
class Entry:
    """An event that waits to be acknowledged."""

    event: SubjectEvent
    size: int
    encoded: bytes | None = None


class Statistics(NamedTuple):
    """What an outbox holds and has seen.

    Attributes:
        queued: Events that wait to be acknowledged.
        bytes: About what they and the open frames take.
        acked: Events acknowledged.
        dropped: Events that were given up.
    """

    queued: int
    bytes: int
    acked: int
    dropped: int


class _MetricsFrame:
    __slots__ = ("aggregator", "due", "limit", "names", "rows", "size", "step_type", "time")

    def __init__(self, names: tuple[str, ...], aggregator: Lazy, step_type: type, time_us: int, due: float) -> None:
        self.names = names
        self.aggregator = aggregator
        self.step_type = step_type
        self.time = time_us
        self.due = due
        self.rows: list[tuple[Any, int, Sequence[float]]] = []
        self.size = _EVENT_BYTES + sum(map(len, names))
        row = 8 * len(names) + 16 + (MAX_NAME_BYTES if step_type is str else 0)
        self.limit = max(1, min(FRAME_ROWS, FRAME_BYTES // row))

    def event(self, writer: str, uid: str) -> MetricsLogged:
        steps, times, rows = zip(*self.rows, strict=True)
        return MetricsLogged(
            trial=uid,
            writer=writer,
            time=self.time,
            aggregator=self.aggregator,
            names=self.names,
            times=[each - self.time for each in times],
            columns=list(zip(*rows, strict=True)),
            steps=steps if self.step_type is int else (),
            float_steps=steps if self.step_type is float else (),
            text_steps=steps if self.step_type is str else (),
        )


class _ChronosFrame:
    __slots__ = ("due", "limit", "names", "rows", "size", "time")

    def __init__(self, time_us: int, due: float) -> None:
        self.time = time_us
        self.due = due
        # By name: aggregator, how many had been announced, how many failed.
        self.names: dict[str, list[Any]] = {}
        self.rows: list[tuple[str, int, float]] = []
        self.size = _EVENT_BYTES
        self.limit = FRAME_ROWS

    def event(self, writer: str, uid: str) -> ChronosFinished:
        index = {name: i for i, name in enumerate(self.names)}
        aggregators, announced, failed = zip(*self.names.values(), strict=True)
        return ChronosFinished(
            trial=uid,
            writer=writer,
            time=self.time,
            names=list(self.names),
            aggregators=aggregators,
            announced=announced,
            failed=failed,
            chronos=[index[name] for name, _, _ in self.rows],
            times=[each - self.time for _, each, _ in self.rows],
            elapsed=[elapsed for _, _, elapsed in self.rows],
        )


@dataclass(slots=True)
class _Open:
    """The open frames of a trial."""

    metrics: _MetricsFrame | None = None
    chronos: _ChronosFrame | None = None


@dataclass(slots=True)
class _Queue:
    """Entries of a partition in the order in which they go out; how many ever came, and how many are gone."""

    entries: deque[Entry] = field(default_factory=deque)
    put: int = 0
    gone: int = 0


class Outbox:
    """See the module.

    Args:
        writer: Id of the writer whose events these are.
        route: Where an event goes.
        wake: Called, from any thread, when the sender has something to do earlier than it knows.
        max_bytes: Bound of what is queued.
        linger: Seconds that a frame stays open at most.
    """

    def __init__(
        self,
        writer: str,
        route: Callable[[SubjectEvent], Route],
        wake: Callable[[], object],
        *,
        max_bytes: int,
        linger: float,
    ) -> None:
        self.writer = writer
        self._route = route
        self._wake = wake
        self._max_bytes = max_bytes
        self._linger = linger
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}
        self._queues: dict[Route, _Queue] = {}
        self._seqs: dict[str, int] = {}
        self._bytes = 0
        self._acked = 0
        self._dropped = 0
        # When the sender looks by itself: never before it is woken, or at once since it was.
        self._alarm = math.inf

    # --- What log calls do

    def add_metrics(
        self, uid: str, step: float | str | None, time_us: int, names: tuple[str, ...], row: Sequence[float], lazy: Lazy
    ) -> None:
        """Append one row.

        Raises:
            Full: there is no room; nothing was appended.
        """
        with self._lock:
            opened = self._opened(uid)
            frame = opened.metrics
            if (
                frame is None
                or frame.names != names
                or frame.step_type is not type(step)
                or (frame.aggregator is not lazy and frame.aggregator != lazy)
            ):
                self._seal_metrics(uid, opened)
                due = time.monotonic() + self._linger
                frame = opened.metrics = _MetricsFrame(names, lazy, type(step), time_us, due)
                self._bytes += frame.size
                self._ring(due)
            frame.rows.append((step, time_us, row))
            added = _ROW_BYTES + _FLOAT_BYTES * len(row)
            frame.size += added
            self._bytes += added
            if len(frame.rows) >= frame.limit:
                self._seal_metrics(uid, opened)

    def add_chrono(
        self, uid: str, name: str, time_us: int, elapsed: float, lazy: Lazy, *, announced: bool, failed: bool
    ) -> None:
        """Append a finished chrono.

        Raises:
            Full: there is no room; nothing was appended.
        """
        with self._lock:
            opened = self._opened(uid)
            frame = opened.chronos
            if frame is None:
                due = time.monotonic() + self._linger
                frame = opened.chronos = _ChronosFrame(time_us, due)
                self._bytes += frame.size
                self._ring(due)
            counts = frame.names.setdefault(name, [lazy, 0, 0])
            counts[1] += announced
            counts[2] += failed
            frame.rows.append((name, time_us, elapsed))
            frame.size += _ROW_BYTES
            self._bytes += _ROW_BYTES
            if len(frame.rows) >= frame.limit:
                self._seal_chronos(uid, opened)

    def put(self, event: SubjectEvent) -> None:
        """Queue an event behind all of its subject.

        Raises:
            Full: there is no room; nothing was queued.
        """
        held = ("values", "parameters", "metadata", "tags")
        bytes_ = _EVENT_BYTES + sum(size(getattr(event, name)) for name in held if hasattr(event, name))
        with self._lock:
            if self._bytes >= self._max_bytes:
                raise Full
            self._seal(event.subject)
            self._bytes += bytes_
            self._enqueue(event, bytes_)

    def drop(self, uid: str) -> None:
        """Give up an event for which there was no room: the fold sees the gap in the `seq` and counts it."""
        with self._lock:
            self._seal(uid)
            self._seqs[uid] = self._seqs.get(uid, 0) + 1
            self._dropped += 1

    # --- What the sender does

    def seal(self, *, due: float = math.inf) -> float:
        """Seal the frames that are due by then, all of them by default; return when the next one is."""
        with self._lock:
            upcoming = math.inf
            for uid, opened in list(self._open.items()):
                if opened.metrics and opened.metrics.due <= due:
                    self._seal_metrics(uid, opened)
                if opened.chronos and opened.chronos.due <= due:
                    self._seal_chronos(uid, opened)
                left = [each.due for each in (opened.metrics, opened.chronos) if each]
                if left:
                    upcoming = min(upcoming, *left)
                else:
                    del self._open[uid]
            self._alarm = upcoming
            return upcoming

    def routes(self) -> list[Route]:
        """Where something waits to be sent."""
        with self._lock:
            return [route for route, queue in self._queues.items() if queue.entries]

    def peek(self, route: Route, limit: int) -> list[Entry]:
        """The first entries that wait there; they stay."""
        with self._lock:
            return list(islice(self._queues[route].entries, limit))

    def acked(self, route: Route, count: int) -> None:
        """Kafka has the first entries that wait there."""
        with self._lock:
            self._remove(route, count)
            self._acked += count

    def discard(self, route: Route) -> None:
        """Give up the first entry that waits there: the fold sees the gap in the `seq` and counts it."""
        with self._lock:
            self._remove(route, 1)
            self._dropped += 1

    def marks(self) -> dict[Route, int]:
        """How many entries were ever queued for each route; `seal` first to count the open frames."""
        with self._lock:
            return {route: queue.put for route, queue in self._queues.items()}

    def reached(self, marks: dict[Route, int]) -> bool:
        """Whether all entries up to the marks are gone."""
        with self._lock:
            return all(self._queues[route].gone >= mark for route, mark in marks.items())

    def statistics(self) -> Statistics:
        """What it holds and has seen."""
        with self._lock:
            queued = sum(len(queue.entries) for queue in self._queues.values())
            return Statistics(queued, self._bytes, self._acked, self._dropped)

    # --- Under the lock

    def _opened(self, uid: str) -> _Open:
        """The open frames of a trial, to add to."""
        if self._bytes >= self._max_bytes:
            raise Full
        opened = self._open.get(uid)
        if opened is None:
            opened = self._open[uid] = _Open()
        return opened

    def _ring(self, due: float) -> None:
        """Wake the sender, unless it looks by itself by then."""
        if due < self._alarm:
            self._alarm = -math.inf  # woken: it need not be woken again before it has looked
            self._wake()

    def _seal(self, uid: str) -> None:
        opened = self._open.get(uid)
        if opened is not None:
            self._seal_metrics(uid, opened)
            self._seal_chronos(uid, opened)

    def _seal_metrics(self, uid: str, opened: _Open) -> None:
        frame, opened.metrics = opened.metrics, None
        if frame is not None:
            self._enqueue(frame.event(self.writer, uid), frame.size)

    def _seal_chronos(self, uid: str, opened: _Open) -> None:
        frame, opened.chronos = opened.chronos, None
        if frame is not None:
            self._enqueue(frame.event(self.writer, uid), frame.size)

    def _enqueue(self, event: SubjectEvent, bytes_: int) -> None:
        if event.request is None:
            event.seq = self._seqs.get(event.subject, 0) + 1
            self._seqs[event.subject] = event.seq
        queue = self._queues.setdefault(self._route(event), _Queue())
        queue.entries.append(Entry(event, bytes_))
        queue.put += 1
        self._ring(0.0)

    def _remove(self, route: Route, count: int) -> None:
        queue = self._queues[route]
        for _ in range(count):
            self._bytes -= queue.entries.popleft().size
        queue.gone += count
