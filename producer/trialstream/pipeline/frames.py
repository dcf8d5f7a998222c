"""Frames that are still open: rows of one trial that will be one event."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from struct import Struct
from typing import Any

import numpy as np
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.model.values import MAX_NAME_BYTES
from trialstream_schemas.wire.events import ChronosFinished, MetricsLogged

__all__ = ["ChronosFrame", "MetricsFrame"]

# Measured: frames of 256 rows encode 4,000,000 points/s; longer ones gain little and delay more.
FRAME_ROWS = 256
# Encoded size at which a wide frame is full: far enough below MAX_EVENT_BYTES for names and one more row.
FRAME_BYTES = 128 * 1024
# What a packed row takes beside its fields: the bytes object and its place in the list.
_ROW_BYTES = 41
# Room for so many rows is allowed for at first, or for what the trial's last frame makes expect, and for four times as
# many each time: many trials log a row at a time, and each time takes the longer way.
_FIRST_ROWS = 16
# With a row each of 64 threads beyond that it stays under MAX_EVENT_BYTES.
_NARROW_ROWS = 16
# About what an event and its queue entry take beside its values.
EVENT_BYTES = 1024


class MetricsFrame:
    """Rows of metrics with the same names, aggregator and type of step, due to be sealed at a monotonic time.

    A row is packed by `struct`, its step, its time and its values, 8 bytes each, and the columns are slices of all rows
    together: both at the speed of C. Anyone may append to `rows` what `pack` gives, without a lock, as long as there is
    `room`, and then looks whether the frame has been sealed meanwhile (`Outbox.add_row`).

    Attributes:
        names: The metrics.
        aggregator: What becomes of them.
        step_type: Of all steps: int, float, str or NoneType.
        due: When to seal it.
        size: About what it takes in memory, in bytes, once its room is taken.
        pack: Makes a row: of step (0 for a text or none), nanoseconds since 1970 UTC, and values.
        rows: The rows.
        room: So many rows have been allowed for.
        is_sealed: Whether they are becoming an event.
        sealed: How many of them have become it; None until they are counted.
        owners: The trials, as the user holds them, whose rows may come without a look at anything else.
        given: The aggregator as they give it.
        hash: Of all of them, as are revision and request.
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
        "owners",
        "pack",
        "request",
        "revision",
        "room",
        "rows",
        "sealed",
        "size",
        "step_type",
    )

    def __init__(
        self, names: tuple[str, ...], aggregator: AggregatorSpec, step_type: type, due: float, expected_rows: int = 0
    ) -> None:
        self.names = names
        self.aggregator = aggregator
        self.step_type = step_type
        self.due = due
        row = _row("d" if step_type is float else "q", len(names))
        self.pack = row.pack
        self._row_bytes = row.size + _ROW_BYTES
        self.size = EVENT_BYTES + sum(map(len, names))
        encoded = row.size + (MAX_NAME_BYTES if step_type is str else 0)
        self._limit = max(1, min(FRAME_ROWS, FRAME_BYTES // encoded))
        self.room = 0
        self._next_room = max(_FIRST_ROWS, expected_rows)
        self.rows: list[bytes] = []
        self._texts: list[str] = []
        self.is_sealed = False
        self.sealed: int | None = None
        self.owners: list[Trial] = []
        self.given: AggregatorSpec | None = None
        self.hash = ""
        self.revision = 0
        self.request: str | None = None

    @property
    def wide(self) -> bool:
        """Whether a few rows more than it allows for, from as many threads at once, would make too large an event."""
        return self._limit < _NARROW_ROWS

    @property
    def full(self) -> bool:
        """Whether it can take no more rows."""
        return len(self.rows) >= self._limit

    def own(self, trial: Trial, given: AggregatorSpec | None) -> None:
        """Let rows of this trial, with the aggregator given so, come by the short way."""
        self.given = given
        self.hash, self.revision, self.request = trial.hash, trial.revision, trial.request
        if not any(each is trial for each in self.owners):
            self.owners.append(trial)

    def add(self, step: float | str | None, time_ns: int, row: Sequence[float]) -> int:
        """Append a row; return by how many bytes the frame has grown."""
        grown = 0
        if len(self.rows) >= self.room:
            room = min(self._next_room, self._limit)
            grown = (room - self.room) * self._row_bytes
            self.room, self._next_room = room, 4 * room
        if isinstance(step, str):
            self._texts[len(self.rows) :] = [step]  # in this place, also after an exception before the last line
            grown += len(step)
            step = 0
        self.size += grown
        self.rows.append(self.pack(step or 0, time_ns, *row))
        return grown

    def event(self, writer: str, uid: str) -> MetricsLogged:
        """The rows as one event, without its number; called again, the same one."""
        self.is_sealed = True  # first: who appends after the rows are counted must see it
        if self.sealed is None:
            self.sealed = len(self.rows)
        count = self.sealed
        packed = b"".join(self.rows[:count])
        values, integers = array("d", packed), array("q", packed)
        fields = 2 + len(self.names)
        times = np.frombuffer(integers, np.int64)[1::fields] // 1000
        time = int(times[0])
        return MetricsLogged(
            trial=uid,
            writer=writer,
            time=time,
            aggregator=self.aggregator,
            names=self.names,
            times=array("q", (times - time).tobytes()),
            columns=[values[i::fields] for i in range(2, fields)],
            steps=integers[::fields] if self.step_type is int else (),
            float_steps=values[::fields] if self.step_type is float else (),
            text_steps=self._texts[:count],
        )


@lru_cache(maxsize=1024)
def _row(step: str, values: int) -> Struct:
    """A row: step, time, values."""
    return Struct(f"={step}q{values}d")


class ChronosFrame:
    """Finished chronos of all names of a trial, due to be sealed at a monotonic time."""

    __slots__ = ("due", "limit", "names", "rows", "size", "time")

    def __init__(self, time_us: int, due: float) -> None:
        self.time = time_us
        self.due = due
        # By name: aggregator, how many had been announced, how many failed.
        self.names: dict[str, list[Any]] = {}
        self.rows: list[tuple[str, int, float]] = []
        self.size = EVENT_BYTES
        self.limit = FRAME_ROWS

    def event(self, writer: str, uid: str) -> ChronosFinished:
        """The chronos as one event, without its number."""
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
