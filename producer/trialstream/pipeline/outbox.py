"""The outbox: log calls append to it and return. Bounded in bytes.

Rows gather in open frames. A frame is *sealed* when its rows become one event, which is put in the backlog. Invariants:

- the events of one subject leave in the order of their `seq`, which is 1, 2, 3 … without a gap unless an event was
  dropped;
- a trial has at most two open frames, one of metrics and one of chronos; both are sealed before any other event of the
  trial is queued. Either of the two may be sealed before the other: they change different parts of the trial's state.

Safe to use from any thread. The lock is held for a few appends, never across I/O. The lock does not cover two cases:

**Appending without the lock** (`add_row`, almost every log call), while another thread may seal the frame:

    appending (`Outbox.add_row`)             sealing (`MetricsFrame.event`)
    1. append the row to `frame.rows`        1. set `frame.is_sealed`
    2. read `frame.is_sealed`                2. count the rows: `frame.sealed_rows`

Each step is atomic, since the interpreter runs one thread at a time. If the appending thread reads False, the row was
appended before the flag was set, and so before the count: the row is in the event. If it reads True,
`frame.has_counted` waits for the count and checks the row. A row that was not counted is in no event: `add_row` returns
False, and the caller logs the row by `add_metrics`. So each row is in exactly one event.

**Exceptions raised by signal handlers**, at any instruction. Moving an event into the backlog takes several steps, so
the event is first recorded as a `_Move`, and each step can be repeated. After an interruption, the next call under the
lock finishes the move, with the same `seq`. At worst the event is queued twice, and the fold skips the second one.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from struct import error as StructError  # noqa: N812 (a class)
from time import time_ns
from typing import Any, NamedTuple

from trialstream_schemas.errors import ProtocolClosed
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.model.values import size
from trialstream_schemas.wire.events import SubjectEvent, updates_of

from trialstream.pipeline.backlog import Backlog
from trialstream.pipeline.entry import Entry
from trialstream.pipeline.frames import EVENT_BYTES, FRAME_ROWS, ChronosFrame, Frame, MetricsFrame, OpenFrames
from trialstream.protocol import Step
from trialstream.runtime.io_thread import CLOSED_DURING_CALL
from trialstream.statistics import Statistics

__all__ = ["Outbox", "OutboxFull"]

# Memory of a finished chrono in an open frame.
_CHRONO_BYTES = 200


class OutboxFull(Exception):
    """The outbox has no room."""


class _Move(NamedTuple):
    """An event on its way to the backlog.

    Attributes:
        event: The event.
        size: Estimated memory, bytes.
        seq: Number of the event among the events of its subject; None for a request, which has no number.
        frames: The open frames of the trial; None if the event was not made of a frame.
        frame: The frame that the event was made of, if any.
        bytes_left: Memory of the open frames after the move, bytes.
    """

    event: SubjectEvent
    size: int
    seq: int | None
    frames: OpenFrames | None
    frame: Frame | None
    bytes_left: int


class Outbox:
    """The events of one writer on their way from log calls to the backlog.

    Args:
        writer: Id of the writer.
        backlog: Takes the sealed events.
        wake: Called, from any thread, when a frame is due before the sender next calls `seal`.
        max_bytes: Bound of the memory of open frames and backlog together.
        linger: Longest time that a frame stays open, seconds.
    """

    def __init__(
        self, writer: str, backlog: Backlog, wake: Callable[[], object], *, max_bytes: int, linger: float
    ) -> None:
        self.writer = writer
        self._backlog = backlog
        self._wake = wake
        self._max_bytes = max_bytes
        self._linger = linger
        self._lock = threading.Lock()
        # The open frames, by uid of the trial.
        self._open: dict[str, OpenFrames] = {}
        # The frames that `add_row` appends to, by `id` of the trial object that the user passes. The frame keeps a
        # reference to the trial, so no other object can get the same id.
        self._rows: dict[int, MetricsFrame] = {}
        # Number of rows for which the next frame of metrics of a trial reserves room, by uid.
        self._expected_rows: dict[str, int] = {}
        # The last `seq` of each subject.
        self._seqs: dict[str, int] = {}
        # Memory of the open frames.
        self._bytes = 0
        # When the sender next calls `seal` (monotonic clock): inf for never, -inf once the sender was woken.
        self._next_seal = math.inf
        self._closed = False
        # The event that is being moved into the backlog; an exception that interrupts the move leaves it here.
        self._move: _Move | None = None
        _outboxes.add(self)

    # --- Logging

    def add_row(self, trial: Trial, step: Step | None, given: AggregatorSpec | None, row: dict[str, Any]) -> bool:
        """Append a row to an open frame without the lock, if a frame fits the row. Almost every log call ends here.

        A frame fits if `add_metrics` has opened it for the same trial object, names and aggregator, and it has room.
        The step must have the type of the frame's steps, and all values must be floats. The caller passes any other row
        to `add_metrics`.

        Args:
            trial: The trial object that the user passed.
            step: The step of the row.
            given: The aggregator that the user passed.
            row: Values by name of the metric.

        Returns:
            Whether the row was appended; if not, nothing has changed.
        """
        frame = self._rows.get(id(trial))
        if (
            frame is None
            or frame.is_sealed
            or frame.given is not given
            or frame.step_type is not type(step)
            or frame.revision is not trial.revision  # a user who changes the trial object logs to another trial
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
        except StructError:  # a step of more than 64 bits, or one that is not finite
            return False
        rows.append(packed)
        # The flag is set before the rows are counted; if it is still clear, this row will be counted.
        return not frame.is_sealed or frame.has_counted(packed)  # type: ignore[unreachable]  # set by another thread

    def add_metrics(
        self,
        uid: str,
        step: Step | None,
        time_ns: int,
        names: tuple[str, ...],
        row: Sequence[float],
        aggregator: AggregatorSpec,
        given: tuple[Trial, AggregatorSpec | None] | None = None,
    ) -> None:
        """Append one row.

        Args:
            uid: Uid of the trial.
            step: Step of the row.
            time_ns: When the row was logged, nanoseconds since 1970 UTC.
            names: Names of the metrics.
            row: One value for each metric.
            aggregator: How the values are aggregated.
            given: Trial and aggregator as the user passed them; `add_row` then accepts further rows with the same two.

        Raises:
            OutboxFull: There is no room; nothing was appended.
            ProtocolClosed: The outbox is closed; nothing was appended.
        """
        with self._lock:
            frames = self._frames_of(uid)
            frame = frames.metrics
            if (
                frame is None
                or frame.is_sealed  # an exception has interrupted the sealing
                or frame.full
                or frame.names != names
                or frame.step_type is not type(step)
                or (frame.aggregator is not aggregator and frame.aggregator != aggregator)
            ):
                self._seal_frame(uid, frames, frames.metrics)
                due = time.monotonic() + self._linger
                frame = MetricsFrame(names, aggregator, type(step), due, self._expected_rows.get(uid, 0))
                frames.metrics = frame
                self._bytes += frame.size
                self._wake_sender(due)
            self._bytes += frame.add(step, time_ns, row)
            if frame.full:
                self._seal_frame(uid, frames, frames.metrics)
            elif given is not None and not frame.wide:
                frame.accept(*given)
                self._rows[id(given[0])] = frame

    def add_chrono(
        self,
        uid: str,
        name: str,
        time_us: int,
        elapsed: float,
        aggregator: AggregatorSpec,
        *,
        announced: bool,
        failed: bool,
    ) -> None:
        """Append a finished chrono.

        Args:
            uid: Uid of the trial.
            name: Name of the chrono.
            time_us: When the chrono finished, microseconds since 1970 UTC.
            elapsed: Duration of the chrono, seconds.
            aggregator: How the durations are aggregated.
            announced: Whether the start of the chrono was logged.
            failed: Whether the chrono ended with an exception.

        Raises:
            OutboxFull: There is no room; nothing was appended.
            ProtocolClosed: The outbox is closed; nothing was appended.
        """
        with self._lock:
            frames = self._frames_of(uid)
            frame = frames.chronos
            if frame is None:
                due = time.monotonic() + self._linger
                frame = frames.chronos = ChronosFrame(time_us, due)
                self._bytes += frame.size
                self._wake_sender(due)
            counts = frame.names.setdefault(name, [aggregator, 0, 0])
            counts[1] += announced
            counts[2] += failed
            frame.rows.append((name, time_us, elapsed))
            frame.size += _CHRONO_BYTES
            self._bytes += _CHRONO_BYTES
            if len(frame.rows) >= FRAME_ROWS:
                self._seal_frame(uid, frames, frames.chronos)

    def put(self, event: SubjectEvent) -> None:
        """Queue an event after all others of its subject.

        Raises:
            OutboxFull: There is no room; nothing was queued.
            ProtocolClosed: The outbox is closed; nothing was queued.
        """
        fields = ("values", "parameters", "metadata", "tags")
        bytes_ = sum(
            EVENT_BYTES + sum(size(getattr(each, name)) for name in fields if hasattr(each, name))
            for each in updates_of(event)
        )
        with self._lock:
            self._check_room()
            self._seal(event.subject)
            self._enqueue(event, bytes_)

    def drop(self, uid: str) -> None:
        """Count an event as dropped, and skip its `seq`: the fold finds the gap and counts the lost event.

        Raises:
            ProtocolClosed: The outbox is closed; nothing was counted.
        """
        with self._lock:
            self._check_open()
            self._seal(uid)
            self._seqs[uid] = self._seqs.get(uid, 0) + 1
            self._backlog.count_dropped()

    # --- Sealing

    def seal(self, due: float = math.inf) -> float:
        """Seal the open frames that are due.

        Args:
            due: Latest due time of the frames to seal, on the monotonic clock; inf seals all frames.

        Returns:
            When the next frame is due, on the monotonic clock; inf if none is open.
        """
        with self._lock:
            self._finish_move()
            next_due = math.inf
            for uid, frames in list(self._open.items()):
                if frames.metrics and frames.metrics.due <= due:
                    self._seal_frame(uid, frames, frames.metrics)
                if frames.chronos and frames.chronos.due <= due:
                    self._seal_frame(uid, frames, frames.chronos)
                left = [each.due for each in (frames.metrics, frames.chronos) if each]
                if left:
                    next_due = min(next_due, *left)
                else:
                    del self._open[uid]
            self._next_seal = next_due
            return next_due

    def close(self) -> None:
        """Refuse all further events, and seal all open frames."""
        with self._lock:
            self._closed = True
        self.seal()

    def disable_add_row(self) -> None:
        """In a forked child: make `add_row` refuse all rows, so that each log call checks which process it is in."""
        self._rows.clear()

    def statistics(self) -> Statistics:
        """Counts of the events; `bytes` includes the open frames."""
        found = self._backlog.statistics()
        return found._replace(bytes=found.bytes + self._bytes)

    # --- Under the lock

    def _check_open(self) -> None:
        self._finish_move()
        if self._closed:
            raise ProtocolClosed(CLOSED_DURING_CALL)

    def _check_room(self) -> None:
        self._check_open()
        if self._bytes + self._backlog.bytes >= self._max_bytes:
            raise OutboxFull

    def _frames_of(self, uid: str) -> OpenFrames:
        """The open frames of a trial, if there is room to add to them."""
        self._check_room()
        frames = self._open.get(uid)
        if frames is None:
            frames = self._open[uid] = OpenFrames()
        return frames

    def _wake_sender(self, due: float) -> None:
        """Wake the sender, unless its next call of `seal` comes by the time `due` anyway."""
        if due < self._next_seal:
            self._next_seal = -math.inf
            self._wake()

    def _seal(self, uid: str) -> None:
        frames = self._open.get(uid)
        if frames is not None:
            self._seal_frame(uid, frames, frames.metrics)
            self._seal_frame(uid, frames, frames.chronos)

    def _seal_frame(self, uid: str, frames: OpenFrames, frame: Frame | None) -> None:
        if frame is not None and frame.rows:  # no rows if an exception has interrupted the opening
            self._enqueue(frame.event(self.writer, uid), frame.size, frames, frame)

    def _enqueue(
        self, event: SubjectEvent, bytes_: int, frames: OpenFrames | None = None, frame: Frame | None = None
    ) -> None:
        seq = self._seqs.get(event.subject, 0) + 1 if event.request is None else None
        left = self._bytes - (0 if frame is None else frame.size)
        self._move = _Move(event, bytes_, seq, frames, frame, left)
        self._finish_move()

    def _close_to_add_row(self, frame: MetricsFrame) -> None:
        for trial in frame.trials:
            if self._rows.get(id(trial)) is frame:
                del self._rows[id(trial)]

    def _finish_move(self) -> None:
        """Move the recorded event, if there is one, into the backlog; each step may be repeated."""
        if (move := self._move) is None:
            return
        if (frames := move.frames) is not None:
            if (frame := frames.metrics) is not None and frame is move.frame:
                self._close_to_add_row(frame)
                frames.metrics = None
                # The rows of this frame and a quarter more, since the number varies from frame to frame.
                self._expected_rows[move.event.subject] = len(frame.rows) * 5 // 4
            if frames.chronos is move.frame:
                frames.chronos = None
        self._bytes = move.bytes_left
        if move.seq is not None:
            self._seqs[move.event.subject] = move.event.seq = move.seq
        self._backlog.put(Entry.of(move.event, move.size))
        self._move = None


_outboxes: weakref.WeakSet[Outbox] = weakref.WeakSet()


def _after_fork() -> None:
    for outbox in list(_outboxes):
        outbox.disable_add_row()


# Rows that a forked child added to a frame of its parent would be lost without an error.
os.register_at_fork(after_in_child=_after_fork)
