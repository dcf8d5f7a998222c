"""The outbox: gathers what the log calls have put into the inbox, makes events of it, and numbers these.

Rows gather in frames (see `frames.py`), and so do finished chronos. A trial may have many open frames: one of chronos,
and one of metrics for each tuple of names. Invariants:

- the events of one subject are queued in the order of their `seq`, which is 1, 2, 3 … without a gap unless an event was
  dropped;
- the rows of each metric are queued in the order in which they were logged: no two open frames of a trial have a name
  in common;
- all open frames of a trial are queued before any other event of the trial is. Frames without a common name may be
  queued in any order: they change different parts of the trial's state.

A row with values that a device is still computing (see `late.py`) is held until they are there, and with it all that is
logged for its trial afterwards: see `held.py`.

Belongs to the I/O thread, apart from the inbox.
"""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from trialstream_schemas.model.values import size
from trialstream_schemas.wire.events import EVENTS, SubjectEvent, updates_of

from trialstream.pipeline.backlog import Backlog
from trialstream.pipeline.entry import Entry
from trialstream.pipeline.frames import CHRONO_BYTES, EVENT_BYTES, ChronosFrame, FinishedChrono, Frame, MetricsFrame
from trialstream.pipeline.held import Held
from trialstream.pipeline.inbox import Inbox, Item
from trialstream.pipeline.late import LateRow
from trialstream.pipeline.signals import until_tick
from trialstream.statistics import Statistics

__all__ = ["Outbox"]

logger = logging.getLogger("trialstream")
T = TypeVar("T")

# Longest time between two looks into the inbox, seconds: an exception of a signal handler may end a call after its
# append and before it has woken the I/O thread.
_SLEEP_SECONDS = 1.0
# While more frames than these are open, they linger longer, in proportion, up to `_MAX_LINGER_SECONDS`: otherwise short
# frames, one for each of many trials, would take all the time of the I/O thread (0.1 ms for each).
_OPEN_FRAMES = 1000
_MAX_LINGER_SECONDS = 1.0
# Maximum number of trials whose frames of chronos are remembered.
_MAX_TRIALS = 20_000
# The fields with values of a user, of each type of event.
_SIZED = {
    event: [name for name in ("values", "parameters", "metadata", "tags") if name in event.__dataclass_fields__]
    for event in EVENTS
}


def memory(event: SubjectEvent) -> int:
    """Estimated memory of an event that is not made of a frame, bytes."""
    total = 0
    for each in updates_of(event):
        total += EVENT_BYTES
        for name in _SIZED[type(each)]:
            total += size(getattr(each, name))
    return total


class Outbox:
    """The events of one writer on their way from the inbox to the backlog.

    Args:
        writer: Id of the writer.
        backlog: Takes the events.
        wake: Called, from any thread, when there is something in the inbox and nothing would look into it soon.
        max_bytes: Bound of the memory of inbox, open frames and backlog together.
        linger: Longest time that a frame stays open, seconds; with thousands of open frames up to 1 s.

    Attributes:
        inbox: Log calls append to it: rows of frames (packed ones of metrics, those with texts as steps each with its
            text, and finished chronos), or one of our functions with its argument.
        held: What waits for a device.
        bytes: Estimated memory of the open frames.
    """

    def __init__(
        self, writer: str, backlog: Backlog, wake: Callable[[], object], *, max_bytes: int, linger: float
    ) -> None:
        self.bytes = 0
        self.held = Held(self._drop)
        self.inbox = Inbox(
            wake, self._gather, lambda: self.bytes + self.held.bytes + backlog.bytes, max_bytes=max_bytes
        )
        self._writer = writer
        self._backlog = backlog
        self._linger = linger
        # The open frames of each trial, by its uid: they have rows.
        self._open: dict[str, list[MetricsFrame | ChronosFrame]] = {}
        # All open frames, in the order in which they are due.
        self._lingering: OrderedDict[MetricsFrame | ChronosFrame, None] = OrderedDict()
        # The frame of chronos of each trial, by its uid; from any thread.
        self._chronos: dict[str, ChronosFrame] = {}
        # The last `seq` of each subject.
        self._seqs: dict[str, int] = {}
        # The time of the last `seal`, and when the frames that are opened now are due (monotonic clock). A `take` in
        # between does not count, so that all frames go on being due together: each batch costs up to a millisecond.
        self._looked = self._due = 0.0
        # Whether the sender does not look into the inbox until it is woken.
        self._sleeps = True

    # --- Logging, in any thread

    def put(self, event: SubjectEvent) -> None:
        """Queue an event after all that was logged before.

        Raises:
            InboxFull: There is no room; nothing was queued.
            ProtocolClosed: The outbox is closed; nothing was queued.
        """
        bytes_ = memory(event)
        self.inbox.add((self._put, (event, bytes_)), bytes_)

    def add_chrono(self, finished: FinishedChrono) -> None:
        """Log a finished chrono; errors as for `put`."""
        self.inbox.add((self.chronos(finished[0].trial), finished), CHRONO_BYTES)

    def chronos(self, uid: str) -> ChronosFrame:
        """Return the frame that gathers the chronos of a trial."""
        frame = self._chronos.get(uid)
        if frame is None:
            if len(self._chronos) >= _MAX_TRIALS:  # an open frame among them is queued when it is due, all the same
                self._chronos.clear()
            frame = self._chronos.setdefault(uid, ChronosFrame(uid))
        return frame

    def drop(self, uid: str) -> None:
        """Count an event as dropped, and skip its `seq`: the fold finds the gap and counts the lost event.

        Raises:
            ProtocolClosed: The outbox is closed; nothing was counted.
        """
        self.inbox.mark((self._drop, uid))

    # --- In the I/O thread

    def take(self) -> bool:
        """Gather what is in the inbox, and return whether there was anything."""
        # The items have waited since the last `seal` at the longest, or, after a sleep, have just been logged.
        since = time.monotonic() if self._sleeps else self._looked
        linger = max(self._linger, min(self._linger * len(self._lingering) / _OPEN_FRAMES, _MAX_LINGER_SECONDS))
        self._due = max(self._due, since + linger)
        found = self.inbox.take() > 0
        self.held.release(self._gather_free)
        return found

    def seal(self, due: float = math.inf) -> float:
        """Gather what is in the inbox, and queue the frames that are due.

        Args:
            due: Latest due time of the frames to queue, on the monotonic clock; inf queues all frames.

        Returns:
            When to call again at the latest, on the monotonic clock; the inbox wakes the I/O thread before if need be.
        """
        while True:
            now = time.monotonic()
            found = self.take()
            self._looked = now
            self._sleeps = self._sleeps and due == math.inf
            while self._lingering and (frame := next(iter(self._lingering))).due <= due:
                self._seal(frame)
            if due == math.inf:  # for a wait: the sender calls with the time
                return math.inf
            if self._lingering:
                return frame.due
            if found or self.held.trials:
                return self._looked + self._linger
            if self.inbox.sleep():
                self._sleeps = True
                return time.monotonic() + until_tick(_SLEEP_SECONDS)

    def close(self) -> None:
        """Refuse all that is logged from now on; from any thread."""
        self.inbox.close()

    def finish(self) -> None:
        """Queue the rest, once it is closed."""
        self.inbox.take_last()
        self.seal()

    def lose_late_rows(self) -> None:
        """Queue what is held; rows whose values are not there yet count as dropped."""
        self.held.release(self._gather_free, lose=True)
        self.seal()

    def statistics(self) -> Statistics:
        """Counts of the events; `bytes` includes inbox and open frames; from any thread."""
        # In the direction of the events: one that moves on meanwhile is counted twice, not left out.
        items = [*self.inbox.waiting(), *self.held.items()]
        targets = [target.frame if isinstance(target, LateRow) else target for target, _ in items]
        frames = len(self._lingering)
        found = self._backlog.statistics()
        dropped = targets.count(self._drop)
        # Each event, and one event for the rows of each frame.
        waiting = targets.count(self._put) + len(set(targets) - {self._put, self._drop})
        return found._replace(
            queued=found.queued + waiting + frames,
            bytes=found.bytes + self.bytes + self.held.bytes + self.inbox.bytes,
            dropped=found.dropped + dropped,
        )

    def put_now(self, event: SubjectEvent) -> None:
        """Queue an event before all that is in the inbox, whether there is room or not.

        Raises:
            ProtocolClosed: The outbox is closed; nothing was queued.
        """
        self.inbox.check_open()
        self._put((event, memory(event)))

    def _gather(self, items: list[Item]) -> None:
        """Take items, unless they have to wait for a device."""
        self._gather_free(self.held.sift(items) if self.held.trials else items)

    def _gather_free(self, items: list[Item]) -> None:
        """Take items that are behind none that is held.

        Rows of one frame are taken together, with rows of other frames in between if these have other metrics or are
        chronos.
        """
        left = iter(items)
        rows: dict[Frame | LateRow | Callable[[Any], object], list[Any]] = {}
        names: dict[str, set[str]] = {}  # of the frames in `rows`, by trial
        for target, argument in left:
            if (found := rows.get(target)) is not None:
                found.append(argument)
            elif isinstance(target, Frame):
                known = names.get(target.uid)
                if known is None:
                    names[target.uid] = set(target.names)
                elif known.isdisjoint(target.names):
                    known.update(target.names)
                else:  # the rows of a metric keep their order
                    self._add_all(rows)
                    rows, names = {}, {target.uid: set(target.names)}
                rows[target] = [argument]
            else:
                if rows:
                    self._add_all(rows)
                    rows, names = {}, {}
                if isinstance(target, LateRow):
                    self._gather_free(self.held.sift([(target, argument), *left]))
                else:
                    _call(target, argument)
        self._add_all(rows)

    def _add_all(self, rows: dict[Any, list[Any]]) -> None:
        for frame, each in rows.items():
            has_texts = isinstance(frame, MetricsFrame) and frame.kind is str
            _call(self._add_texts if has_texts else self._add, (frame, each))

    def _add(self, given: tuple[MetricsFrame | ChronosFrame, list[Any]]) -> None:
        frame, rows = given
        for part in self._parts(frame, rows):
            frame.rows += part
            self._grow(frame, len(part) * frame.row_bytes)

    def _add_texts(self, given: tuple[MetricsFrame, list[tuple[bytes, str]]]) -> None:
        frame, rows = given
        for part in self._parts(frame, rows):
            frame.rows += [packed for packed, _ in part]
            texts = [text for _, text in part]
            frame.texts += texts
            self._grow(frame, len(part) * frame.row_bytes + sum(map(len, texts)))

    def _parts(self, frame: MetricsFrame | ChronosFrame, rows: list[T]) -> Iterator[list[T]]:
        """Yield the rows in parts for which the frame has room, and begin it before each part if it is empty."""
        while rows:
            if not frame.rows:
                self._begin(frame)
            space = frame.limit - len(frame.rows)
            yield rows[:space]
            rows = rows[space:]

    def _put(self, given: tuple[SubjectEvent, int]) -> None:
        event, bytes_ = given
        self._seal_all(event.subject)
        self._enqueue(event, bytes_)

    def _drop(self, uid: str) -> None:
        self._seal_all(uid)
        self._seqs[uid] = self._seqs.get(uid, 0) + 1
        self._backlog.count_dropped()

    def _grow(self, frame: MetricsFrame | ChronosFrame, bytes_: int) -> None:
        """Count the memory of rows that were added to a frame, and make its event if it is full."""
        frame.size += bytes_
        self.bytes += bytes_
        if len(frame.rows) >= frame.limit:
            self._seal(frame)

    def _begin(self, frame: MetricsFrame | ChronosFrame) -> None:
        """Open a frame, before its first row is added."""
        frames = self._open.setdefault(frame.uid, [])
        for other in list(frames):
            if not set(other.names).isdisjoint(frame.names):
                self._seal(other)
        # Sealing the last frame of a trial removes its list.
        self._open.setdefault(frame.uid, frames).append(frame)
        self._lingering[frame] = None
        frame.due = self._due
        frame.size = EVENT_BYTES + sum(map(len, frame.names))
        self.bytes += frame.size

    def _seal_all(self, uid: str) -> None:
        for frame in list(self._open.get(uid, ())):
            self._seal(frame)

    def _seal(self, frame: MetricsFrame | ChronosFrame) -> None:
        """Make the event of an open frame, and queue it."""
        bytes_ = frame.size
        event = frame.event(self._writer)
        frames = self._open[frame.uid]
        frames.remove(frame)
        del self._lingering[frame]
        if not frames:
            del self._open[frame.uid]
        self.bytes -= bytes_
        self._enqueue(event, bytes_)

    def _enqueue(self, event: SubjectEvent, bytes_: int) -> None:
        if event.request is None:
            event.seq = self._seqs[event.subject] = self._seqs.get(event.subject, 0) + 1
        self._backlog.put(Entry.of(event, bytes_))


def _call(function: Callable[[Any], object], argument: Any) -> None:
    try:
        function(argument)
    except Exception:
        logger.exception("trialstream lost what a call has logged; please report this")
