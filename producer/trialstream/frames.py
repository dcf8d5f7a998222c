"""Frames that are still open: rows of one trial that will be one event."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from struct import Struct
from typing import Any

from trialstream_schemas.aggregators import Lazy
from trialstream_schemas.events import ChronosFinished, MetricsLogged
from trialstream_schemas.structure import Trial
from trialstream_schemas.values import MAX_NAME_BYTES

__all__ = ["ChronosFrame", "MetricsFrame"]

# Measured: frames of 256 rows encode 4,000,000 points/s; longer ones gain little and delay more.
FRAME_ROWS = 256
# Encoded size at which a wide frame is full: far enough below MAX_EVENT_BYTES for names and one more row.
FRAME_BYTES = 128 * 1024
# Room for so many rows at first, and for twice as many each time: many trials log a row at a time.
_FIRST_ROWS = 8
# About what an event and its queue entry take beside its values.
EVENT_BYTES = 1024


class MetricsFrame:
    """Rows of metrics with the same names, aggregator and type of step, due to be sealed at a monotonic time.

    A row lies in the buffer as its step, its time and its values, 8 bytes each: one call of `struct` takes it in, and
    the columns come out as slices, both at the speed of C (measured: 0.25 µs a row of 4 values, where a list of rows
    took 1 µs more to make and to turn into columns).

    Attributes:
        names: The metrics.
        aggregator: What becomes of them.
        step_type: Of all steps: int, float, str or NoneType.
        time: Of the first row, microseconds since 1970 UTC.
        due: When to seal it.
        size: About what it takes in memory, in bytes.
        at: Where in the buffer the next row goes.
        end: Behind the last row that has room; 0 once it is sealed.
        owners: The trials, as the user holds them, whose rows may come without a look at anything else.
        given: The aggregator as they give it.
        identity: Hash, revision and request of all of them.
    """

    __slots__ = (
        "_limit",
        "_texts",
        "aggregator",
        "at",
        "buffer",
        "due",
        "end",
        "given",
        "identity",
        "names",
        "owners",
        "pack",
        "size",
        "step_type",
        "time",
        "width",
    )

    def __init__(self, names: tuple[str, ...], aggregator: Lazy, step_type: type, time_us: int, due: float) -> None:
        self.names = names
        self.aggregator = aggregator
        self.step_type = step_type
        self.time = time_us
        self.due = due
        row = _row("d" if step_type is float else "q", len(names))
        self.pack = row.pack_into
        self.width = row.size
        self.buffer = bytearray(_FIRST_ROWS * row.size)
        self.at = 0
        self.end = len(self.buffer)
        self.size = EVENT_BYTES + sum(map(len, names)) + self.end
        self._limit = row.size * max(
            1, min(FRAME_ROWS, FRAME_BYTES // (row.size + (MAX_NAME_BYTES if step_type is str else 0)))
        )
        self._texts: list[str] = []
        self.owners: list[Trial] = []
        self.given: Lazy | None = None
        self.identity: tuple[str, int, str | None] = "", 0, None

    @property
    def full(self) -> bool:
        """Whether it can take no more rows."""
        return self.at >= self._limit

    def own(self, trial: Trial, given: Lazy | None) -> None:
        """Let rows of this trial, with the aggregator given so, come by the short way."""
        self.given = given
        self.identity = trial.hash, trial.revision, trial.request
        if not any(each is trial for each in self.owners):
            self.owners.append(trial)

    def add(self, step: float | str | None, time_us: int, row: Sequence[float]) -> int:
        """Append a row; return by how many bytes the frame has grown."""
        grown = 0
        if self.at >= self.end:
            grown = len(self.buffer)
            self.buffer.extend(bytes(grown))
            self.end = min(len(self.buffer), self._limit)
        if isinstance(step, str):
            self._texts[self.at // self.width :] = [step]  # in this place, also after an exception before the last line
            grown += len(step)
            step = 0
        self.size += grown
        self.pack(self.buffer, self.at, step or 0, time_us, *row)
        self.at += self.width
        return grown

    def event(self, writer: str, uid: str) -> MetricsLogged:
        """The rows as one event, without its number."""
        values = array("d")
        values.frombytes(memoryview(self.buffer)[: self.at])
        integers = array("q")
        integers.frombytes(memoryview(self.buffer)[: self.at])
        fields = 2 + len(self.names)
        return MetricsLogged(
            trial=uid,
            writer=writer,
            time=self.time,
            aggregator=self.aggregator,
            names=self.names,
            times=[each - self.time for each in integers[1::fields]],
            columns=[values[i::fields] for i in range(2, fields)],
            steps=integers[::fields] if self.step_type is int else (),
            float_steps=values[::fields] if self.step_type is float else (),
            text_steps=self._texts[: self.at // self.width],
        )


@lru_cache(maxsize=1024)
def _row(step: str, values: int) -> Struct:
    """A row in the buffer: step, time, values."""
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
