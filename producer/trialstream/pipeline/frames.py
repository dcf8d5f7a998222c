"""Open frames: rows of one trial that become one event."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from struct import error as StructError  # noqa: N812 (a class)
from typing import Any, TypeAlias

import numpy as np
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.model.values import MAX_NAME_BYTES
from trialstream_schemas.wire.events import ChronosFinished, MetricsLogged

__all__ = ["ChronosFrame", "Frame", "MetricsFrame", "OpenFrames"]

# Measured: frames of 256 rows encode 4,000,000 points/s; longer ones gain little and delay more.
FRAME_ROWS = 256
# Encoded size at which a wide frame is full, bytes: far enough below MAX_EVENT_BYTES for names and one more row.
FRAME_BYTES = 128 * 1024
# Memory of a packed row without its fields, bytes: the bytes object and its place in the list.
_ROW_BYTES = 41
# Number of rows for which a frame first reserves room, unless the trial's last frame had more. Used-up room grows
# fourfold. The first room is small, since frames often hold few rows when many trials log at the same time; the growth
# is fast, since a row that finds no room takes the slow path.
_FIRST_ROWS = 16
# A frame with a lower limit of rows is not open to `Outbox.add_row`. 64 threads may each append a row beyond the limit,
# and an event of 16 + 64 such rows is still smaller than MAX_EVENT_BYTES.
_NARROW_ROWS = 16
# Estimated memory of an event and its queue entry without the values, bytes.
EVENT_BYTES = 1024
# Poll interval while another thread counts the rows of a frame, seconds.
_COUNTING_SECONDS = 0.0001


class MetricsFrame:
    """An open frame of metrics: rows of one trial with the same names, aggregator and type of step.

    `struct` packs a row: its step, its time and its values, 8 bytes each. The columns of the event are strided slices
    of the joined rows. Both operations run in C. While there is `room`, any thread may append a packed row to `rows`
    without a lock; it must then check whether the frame was sealed in between (see `outbox.py`).

    Args:
        names: Names of the metrics.
        aggregator: How the values are aggregated.
        step_type: Type of all steps: int, float, str or NoneType.
        due: When to seal the frame, on the monotonic clock.
        expected_rows: Number of rows for which to reserve room at first, if it is larger than the default.

    Attributes:
        names: Names of the metrics.
        aggregator: How the values are aggregated.
        step_type: Type of all steps: int, float, str or NoneType.
        due: When to seal the frame, on the monotonic clock.
        size: Estimated memory, bytes, including all rows for which room is reserved.
        pack: Packs a row: step (0 if it is a text or None), nanoseconds since 1970 UTC, values.
        rows: The packed rows.
        room: Number of rows for which room is reserved.
        is_sealed: Whether the rows are becoming an event; set before they are counted.
        sealed_rows: Number of rows in the event; None until they are counted.
        trials: The trial objects, as the user passed them, whose rows `Outbox.add_row` accepts.
        given: The aggregator that the user passed with these trial objects.
        hash: The hash of the trial.
        revision: The revision of the trial.
        request: The request of the trial, if its creation is undecided.
    """

    __slots__ = (
        "_limit",
        "_next_room",
        "_row_bytes",
        "_texts",
        "aggregator",
        "due",
        "given",
        "hash",
        "is_sealed",
        "names",
        "pack",
        "request",
        "revision",
        "room",
        "rows",
        "sealed_rows",
        "size",
        "step_type",
        "trials",
    )

    def __init__(
        self, names: tuple[str, ...], aggregator: AggregatorSpec, step_type: type, due: float, expected_rows: int = 0
    ) -> None:
        self.names = names
        self.aggregator = aggregator
        self.step_type = step_type
        self.due = due
        row = _row_format("d" if step_type is float else "q", len(names))
        self.pack = _finite(row.pack) if step_type is float else row.pack
        self._row_bytes = row.size + _ROW_BYTES
        self.size = EVENT_BYTES + sum(map(len, names))
        encoded = row.size + (MAX_NAME_BYTES if step_type is str else 0)
        self._limit = max(1, min(FRAME_ROWS, FRAME_BYTES // encoded))
        self.room = 0
        self._next_room = max(_FIRST_ROWS, expected_rows)
        self.rows: list[bytes] = []
        self._texts: list[str] = []
        self.is_sealed = False
        self.sealed_rows: int | None = None
        self.trials: list[Trial] = []
        self.given: AggregatorSpec | None = None
        self.hash = ""
        self.revision = 0
        self.request: str | None = None

    @property
    def wide(self) -> bool:
        """Whether the rows are too large for `Outbox.add_row`, whose callers may exceed the limit by a few rows."""
        return self._limit < _NARROW_ROWS

    @property
    def full(self) -> bool:
        """Whether the frame can take no more rows."""
        return len(self.rows) >= self._limit

    def accept(self, trial: Trial, given: AggregatorSpec | None) -> None:
        """Open the frame to `Outbox.add_row`, for rows of this trial object with this aggregator."""
        self.given = given
        self.hash, self.revision, self.request = trial.hash, trial.revision, trial.request
        if not any(each is trial for each in self.trials):
            self.trials.append(trial)

    def add(self, step: float | str | None, time_ns: int, row: Sequence[float]) -> int:
        """Append a row; return the number of bytes by which the frame has grown."""
        grown = 0
        if len(self.rows) >= self.room:
            room = min(self._next_room, self._limit)
            grown = (room - self.room) * self._row_bytes
            self.room, self._next_room = room, 4 * room
        if isinstance(step, str):
            self._texts[len(self.rows) :] = [step]  # at this index: replaces the text of an interrupted call
            grown += len(step)
            step = 0
        self.size += grown
        self.rows.append(self.pack(step or 0, time_ns, *row))
        return grown

    def event(self, writer: str, uid: str) -> MetricsLogged:
        """Seal the frame: its rows as one event, without a `seq`. A second call returns an equal event."""
        self.is_sealed = True  # before the count, so that a thread that appends after the count sees it
        if self.sealed_rows is None:
            self.sealed_rows = len(self.rows)
        count = self.sealed_rows
        packed = b"".join(self.rows[:count])
        values, integers = array("d", packed), array("q", packed)
        fields = 2 + len(self.names)
        times = np.frombuffer(integers, np.int64)[1::fields] // 1000
        first = int(times[0])
        return MetricsLogged(
            trial=uid,
            writer=writer,
            time=first,
            aggregator=self.aggregator,
            names=self.names,
            times=array("q", (times - first).tobytes()),
            columns=[values[i::fields] for i in range(2, fields)],
            steps=integers[::fields] if self.step_type is int else (),
            float_steps=values[::fields] if self.step_type is float else (),
            text_steps=self._texts[:count],
        )

    def has_counted(self, packed: bytes) -> bool:
        """Whether a row that was appended during or after the sealing is in the event; waits for the count of rows."""
        while (count := self.sealed_rows) is None:  # the sealing thread has set the flag and counts next
            time.sleep(_COUNTING_SECONDS)
        return any(each is packed for each in self.rows[:count])


@lru_cache(maxsize=1024)
def _row_format(step_code: str, count: int) -> Struct:
    """Return the format of a row: a step with the format character `step_code`, a time, and `count` values."""
    return Struct(f"={step_code}q{count}d")


def _finite(pack: Callable[..., bytes]) -> Callable[..., bytes]:
    """Refuse a step that is NaN or infinite, as `struct` refuses an integer that does not fit."""

    def pack_finite(step: float, *rest: float) -> bytes:
        if step - step != 0.0:
            raise StructError(f"the step {step} is not finite")
        return pack(step, *rest)

    return pack_finite


class ChronosFrame:
    """An open frame of chronos: finished chronos of one trial, of all names, at most `FRAME_ROWS`.

    Args:
        time_us: When the first chrono finished, microseconds since 1970 UTC.
        due: When to seal the frame, on the monotonic clock.

    Attributes:
        time: When the first chrono finished, microseconds since 1970 UTC.
        due: When to seal the frame, on the monotonic clock.
        names: By name: the aggregator, the number of announced chronos and the number of failed ones.
        rows: For each chrono: its name, when it finished (microseconds since 1970 UTC) and its elapsed seconds.
        size: Estimated memory, bytes.
    """

    __slots__ = ("due", "names", "rows", "size", "time")

    def __init__(self, time_us: int, due: float) -> None:
        self.time = time_us
        self.due = due
        self.names: dict[str, list[Any]] = {}
        self.rows: list[tuple[str, int, float]] = []
        self.size = EVENT_BYTES

    def event(self, writer: str, uid: str) -> ChronosFinished:
        """The chronos as one event, without a `seq`."""
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


Frame: TypeAlias = MetricsFrame | ChronosFrame


@dataclass(slots=True)
class OpenFrames:
    """The open frames of a trial."""

    metrics: MetricsFrame | None = None
    chronos: ChronosFrame | None = None
