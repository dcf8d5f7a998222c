"""The outbox: what log calls append to, bounded in bytes.

Log calls append here and return. Rows gather in open frames; what is sealed goes into the backlog. Invariants:

- the events of one subject leave in the order of their `seq`, which is 1, 2, 3 … without a hole unless one was dropped;
- an exception that a signal handler raises inside leaves nothing half done: what was begun is done again by whoever
  comes next, with the same `seq`, so that the fold skips what is there twice;
- a row that `add_row` appends without the lock is in the event of its frame, or goes the other way: once, never not at
  all (the interpreter runs one thread at a time, and `append` is one step);
- metrics and chronos of a trial are gathered in open frames, and any other event of the trial seals them first. The two
  frames of a trial may overtake each other: they touch different parts of its state.

Safe to use from any thread: the lock is held for a few appends, never across I/O.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import error as StructError  # noqa: N812 (a class)
from time import time_ns
from typing import Any, NamedTuple

from trialstream_schemas.errors import ProtocolClosed
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.model.values import size
from trialstream_schemas.wire.events import SubjectEvent

from trialstream.pipeline.backlog import Backlog, Entry, Statistics
from trialstream.pipeline.frames import EVENT_BYTES, ChronosFrame, MetricsFrame
from trialstream.protocol import Step

__all__ = ["Full", "Outbox"]

# What a finished chrono takes while it waits.
_CHRONO_BYTES = 200
_COUNTING_SECONDS = 0.0001


class Full(Exception):
    """The outbox has no room."""


@dataclass(slots=True)
class _Open:
    """The open frames of a trial."""

    metrics: MetricsFrame | None = None
    chronos: ChronosFrame | None = None


class _Move(NamedTuple):
    """An event on its way to the backlog.

    Attributes:
        event: The event.
        size: About what it takes in memory.
        seq: Its number; None for a creation.
        opened: Where its frame was open, if it was one.
        frame: Its frame.
        bytes_left: What the open frames hold without it.
    """

    event: SubjectEvent
    size: int
    seq: int | None
    opened: _Open | None
    frame: MetricsFrame | ChronosFrame | None
    bytes_left: int


class Outbox:
    """See the module.

    Args:
        writer: Id of the writer whose events these are.
        backlog: Where sealed events go.
        wake: Called, from any thread, when a frame is due earlier than the sender knows.
        max_bytes: Bound of what frames and backlog hold in memory.
        linger: Seconds that a frame stays open at most.
    """

    def __init__(
        self,
        writer: str,
        backlog: Backlog,
        wake: Callable[[], object],
        *,
        max_bytes: int,
        linger: float,
    ) -> None:
        self.writer = writer
        self._backlog = backlog
        self._wake = wake
        self._max_bytes = max_bytes
        self._linger = linger
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}
        # By id of a trial that its frame keeps alive: see `add_row`.
        self._rows: dict[int, MetricsFrame] = {}
        # By trial, for how many rows its next frame of metrics needs room.
        self._expected_rows: dict[str, int] = {}
        self._seqs: dict[str, int] = {}
        # What the open frames hold.
        self._bytes = 0
        # When the sender looks by itself: never before it is woken, or at once since it was.
        self._alarm = math.inf
        self._closed = False
        # What is on its way, or was when an exception came.
        self._move: _Move | None = None
        _outboxes.add(self)

    # --- What log calls do

    def add_row(self, trial: Trial, step: Step | None, given: AggregatorSpec | None, row: dict[str, Any]) -> bool:
        """Append a row to an open frame, if that needs nothing else: almost every log call ends here.

        It does where `add_metrics` was called for this very trial, names and aggregator, the frame that it opened has
        room, the step is an int or None, and all values are floats. Whatever is wrong with a row is so left to the
        other way, which says so.

        Args:
            trial: The trial, as the user holds it.
            step: Its step.
            given: The aggregator, as the user gave it.
            row: Names and values.
        """
        frame = self._rows.get(id(trial))
        if (
            frame is None
            or frame.is_sealed
            or frame.given is not given
            or frame.step_type is not type(step)
            or frame.revision is not trial.revision  # the user's own object: who changes it logs to another trial
            or frame.request is not trial.request
            or frame.hash is not trial.hash
            or frame.names != tuple(row)
        ):
            return False
        for x in row.values():
            if type(x) is not float:
                return False
        rows = frame.rows
        if len(rows) >= frame.room:
            return False
        try:
            packed = frame.pack(step or 0, time_ns(), *row.values())
        except StructError:  # a step of more than 64 bits
            return False
        rows.append(packed)
        # Who sees no seal after that has come before it: the sealer raises the flag first and counts the rows then.
        return not frame.is_sealed or _is_in(frame, packed)  # type: ignore[unreachable]  # by another thread, meanwhile

    def add_metrics(
        self,
        uid: str,
        step: Step | None,
        time_ns: int,
        names: tuple[str, ...],
        row: Sequence[float],
        lazy: AggregatorSpec,
        owner: tuple[Trial, AggregatorSpec | None] | None = None,
    ) -> None:
        """Append one row.

        Args:
            uid: Uid of the trial.
            step: Step of the row.
            time_ns: When it was logged, nanoseconds since 1970 UTC.
            names: The metrics.
            row: A value for each.
            lazy: What becomes of them.
            owner: Trial and aggregator as the user gave them: further rows with the same can come by `add_row`.

        Raises:
            Full: there is no room; nothing was appended.
            ProtocolClosed: it was closed meanwhile; nothing was appended.
        """
        with self._lock:
            opened = self._opened(uid)
            frame = opened.metrics
            if (
                frame is None
                or frame.is_sealed  # which an exception has interrupted
                or frame.full
                or frame.names != names
                or frame.step_type is not type(step)
                or (frame.aggregator is not lazy and frame.aggregator != lazy)
            ):
                self._seal_metrics(uid, opened)
                due = time.monotonic() + self._linger
                frame = opened.metrics = MetricsFrame(names, lazy, type(step), due, self._expected_rows.get(uid, 0))
                self._bytes += frame.size
                self._ring(due)
            self._bytes += frame.add(step, time_ns, row)
            if frame.full:
                self._seal_metrics(uid, opened)
            elif owner is not None and not frame.wide:
                frame.own(*owner)
                self._rows[id(owner[0])] = frame

    def add_chrono(
        self, uid: str, name: str, time_us: int, elapsed: float, lazy: AggregatorSpec, *, announced: bool, failed: bool
    ) -> None:
        """Append a finished chrono.

        Raises:
            Full: there is no room; nothing was appended.
            ProtocolClosed: it was closed meanwhile; nothing was appended.
        """
        with self._lock:
            opened = self._opened(uid)
            frame = opened.chronos
            if frame is None:
                due = time.monotonic() + self._linger
                frame = opened.chronos = ChronosFrame(time_us, due)
                self._bytes += frame.size
                self._ring(due)
            counts = frame.names.setdefault(name, [lazy, 0, 0])
            counts[1] += announced
            counts[2] += failed
            frame.rows.append((name, time_us, elapsed))
            frame.size += _CHRONO_BYTES
            self._bytes += _CHRONO_BYTES
            if len(frame.rows) >= frame.limit:
                self._seal_chronos(uid, opened)

    def put(self, event: SubjectEvent) -> None:
        """Queue an event behind all of its subject.

        Raises:
            Full: there is no room; nothing was queued.
            ProtocolClosed: it was closed meanwhile; nothing was queued.
        """
        held = ("values", "parameters", "metadata", "tags")
        bytes_ = EVENT_BYTES + sum(size(getattr(event, name)) for name in held if hasattr(event, name))
        with self._lock:
            self._check_room()
            self._seal(event.subject)
            self._enqueue(event, bytes_)

    def drop(self, uid: str) -> None:
        """Give up an event for which there was no room: the fold sees the gap in the `seq` and counts it.

        Raises:
            ProtocolClosed: it was closed meanwhile; nothing is counted.
        """
        with self._lock:
            self._check_open()
            self._seal(uid)
            self._seqs[uid] = self._seqs.get(uid, 0) + 1
            self._backlog.give_up()

    # --- What the sender does

    def seal(self, due: float = math.inf) -> float:
        """Seal the frames that are due by then, all of them by default; return when the next one is."""
        with self._lock:
            self._finish_move()
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

    def close(self) -> None:
        """Seal all frames, and take nothing more: what came later would be lost without a word."""
        with self._lock:
            self._closed = True
        self.seal()

    def forget(self) -> None:
        """In a forked child: let no row come without a look at whether it may."""
        self._rows.clear()

    def statistics(self) -> Statistics:
        """What waits, in open frames too, and what was."""
        found = self._backlog.statistics()
        return found._replace(bytes=found.bytes + self._bytes)

    # --- Under the lock

    def _check_open(self) -> None:
        self._finish_move()
        if self._closed:
            raise ProtocolClosed("the protocol was closed during the call: leave its block after all calls")

    def _check_room(self) -> None:
        self._check_open()
        if self._bytes + self._backlog.bytes >= self._max_bytes:
            raise Full

    def _opened(self, uid: str) -> _Open:
        """The open frames of a trial, to add to."""
        self._check_room()
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
        if (frame := opened.metrics) is not None and frame.rows:  # an exception may have come before its first row
            self._enqueue(frame.event(self.writer, uid), frame.size, opened, frame)

    def _seal_chronos(self, uid: str, opened: _Open) -> None:
        if (frame := opened.chronos) is not None and frame.rows:
            self._enqueue(frame.event(self.writer, uid), frame.size, opened, frame)

    def _enqueue(
        self,
        event: SubjectEvent,
        bytes_: int,
        opened: _Open | None = None,
        frame: MetricsFrame | ChronosFrame | None = None,
    ) -> None:
        seq = self._seqs.get(event.subject, 0) + 1 if event.request is None else None
        left = self._bytes - (0 if frame is None else frame.size)
        self._move = _Move(event, bytes_, seq, opened, frame, left)
        self._finish_move()

    def _disown(self, frame: MetricsFrame) -> None:
        """Let no further row find a frame."""
        for trial in frame.owners:
            if self._rows.get(id(trial)) is frame:
                del self._rows[id(trial)]

    def _finish_move(self) -> None:
        """Bring the last event to the backlog, if it is not there for certain."""
        if (move := self._move) is None:
            return
        if (opened := move.opened) is not None:
            if (frame := opened.metrics) is not None and frame is move.frame:
                self._disown(frame)
                opened.metrics = None
                # As many as in the last one, and a quarter for chance.
                self._expected_rows[move.event.subject] = len(frame.rows) * 5 // 4
            if opened.chronos is move.frame:
                opened.chronos = None
        self._bytes = move.bytes_left
        if move.seq is not None:
            self._seqs[move.event.subject] = move.event.seq = move.seq
        self._backlog.put(Entry.of(move.event, move.size))
        self._move = None


def _is_in(frame: MetricsFrame, packed: bytes) -> bool:
    """Whether a row that was appended while its frame was being sealed, or later, has become part of the event."""
    while (count := frame.sealed) is None:  # whoever seals it is about to count
        time.sleep(_COUNTING_SECONDS)
    return any(each is packed for each in frame.rows[:count])


_outboxes: weakref.WeakSet[Outbox] = weakref.WeakSet()


def _after_fork() -> None:
    for outbox in list(_outboxes):
        outbox.forget()


# What a forked child added to a frame of its parent nobody would send.
os.register_at_fork(after_in_child=_after_fork)
