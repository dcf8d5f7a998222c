"""Rows of metrics, as a stream returns them: columns of numpy, made when they are first asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from trialstream_schemas.errors import TrialStreamError
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.columns import extremes
from trialstream_schemas.model.times import check_micros, from_micros
from trialstream_schemas.wire.codec import HEADER_BYTES
from trialstream_schemas.wire.events import MetricsLogged
from trialstream_schemas.wire.frames import decode_frame
from trialstream_schemas.wire.long_frames import LongFrame
from trialstream_schemas.wire.rows import RowTable

from trialstream.protocol import Step

__all__ = ["Columns", "Row", "Rows", "Steps", "columns_of_table", "rows_of"]

Steps: TypeAlias = NDArray[np.int64] | NDArray[np.float64] | NDArray[np.object_]
"""Steps of rows: int64 or float64; object if they are text, or None where rows have no step."""

# Rows that share their columns, which stay in memory as long as one of them.
_ROWS_TOGETHER = 64


class Row(NamedTuple):
    """One row of metrics: what one call logged.

    Attributes:
        writer: Id of the writer.
        step: The step, or None.
        time: When the row was logged, by the writer's clock, UTC.
        values: Name of the metric → value.
    """

    writer: str
    step: Step | None
    time: datetime
    values: dict[str, float]


class Columns:
    """Columns of metrics, which `Rows` are parts of.

    Args:
        aggregator: Specification of the aggregator.
        names: Names of the metrics.
        steps: Steps, or none.
        times: Times, microseconds after the base.
        columns: For each name its values.
        base: Microseconds since 1970 UTC.
        data: The frame that has steps, times and values, if it is not decoded yet: it is, when they are asked for.
    """

    __slots__ = ("aggregator", "base", "columns", "data", "names", "steps", "times")

    def __init__(
        self,
        aggregator: AggregatorSpec,
        names: Sequence[str],
        steps: Sequence[int] | Sequence[float] | Sequence[str],
        times: Sequence[int],
        columns: Sequence[Sequence[float]],
        base: int,
        data: bytes = b"",
    ) -> None:
        self.aggregator = aggregator
        self.names = names
        self.steps = steps
        self.times = times
        self.columns = columns
        self.base = base
        self.data = data

    def decode(self) -> None:
        """Decode the frame, if it is not decoded yet."""
        if self.data:
            event, _ = decode_frame(self.data, HEADER_BYTES)
            self.steps = event.steps or event.float_steps or event.text_steps
            self.times, self.columns, self.base, self.data = event.times, event.columns, event.time, b""


class Rows:
    """Rows of the same metrics, which a writer logged one after the other, in columns."""

    __slots__ = ("_of", "_start", "_stop", "_writer")

    def __init__(self, writer: str, of: Columns, start: int, stop: int) -> None:
        """Make rows of a part of columns, which are not copied.

        Args:
            writer: Id of the writer.
            of: The columns.
            start: Index of the first row.
            stop: Index after the last row.
        """
        self._writer = writer
        self._of = of
        self._start = start
        self._stop = stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __repr__(self) -> str:
        return f"Rows({len(self)} of {', '.join(self.names)})"

    @classmethod
    def of(cls, frame: LongFrame, data: bytes) -> Rows:
        """Make the rows of a frame that is checked and not decoded.

        Args:
            frame: The frame.
            data: Its record.

        Returns:
            The rows.
        """
        return cls(frame.writer, Columns(frame.aggregator, frame.names, (), (), (), 0, data), 0, frame.rows)

    @property
    def writer(self) -> str:
        """Id of the writer."""
        return self._writer

    @property
    def aggregator(self) -> AggregatorSpec:
        """Specification of the aggregator with which they were logged."""
        return self._of.aggregator

    @property
    def names(self) -> Sequence[str]:
        """Names of the metrics."""
        return self._of.names

    @property
    def steps(self) -> Steps:
        """Step of each row."""
        self._of.decode()
        if not self._of.steps:
            return np.full(len(self), None, np.object_)
        part = self._of.steps[self._start : self._stop]
        if isinstance(part[0], str):
            found: NDArray[np.object_] = np.empty(len(part), np.object_)
            found[:] = part
            return found
        return np.asarray(part)

    @property
    def times(self) -> NDArray[np.datetime64]:
        """Time at which each row was logged, by the writer's clock: datetime64[us] in UTC."""
        self._of.decode()
        micros = np.asarray(self._of.times[self._start : self._stop], np.int64) + self._of.base
        return micros.astype("datetime64[us]")

    @property
    def values(self) -> dict[str, NDArray[np.float64]]:
        """Name of the metric → value of each row; NaN and ±inf as they were logged."""
        self._of.decode()
        columns = [np.asarray(column[self._start : self._stop], np.float64) for column in self._of.columns]
        return dict(zip(self.names, columns, strict=True))

    def row(self, i: int) -> Row:
        """Return one of the rows.

        Args:
            i: Its index.

        Returns:
            The row.
        """
        of, at = self._of, self._start + i
        of.decode()
        step = of.steps[at] if of.steps else None
        values = {name: column[at] for name, column in zip(of.names, of.columns, strict=True)}
        return Row(self._writer, step, from_micros(of.base + of.times[at]), values)

    def part(self, start: int, stop: int | None = None) -> Rows:
        """Return some of the rows.

        Args:
            start: Index of the first one.
            stop: Index after the last one; None for all that follow.

        Returns:
            These rows.
        """
        begin = min(self._start + start, self._stop)
        end = self._stop if stop is None else min(self._start + stop, self._stop)
        return Rows(self._writer, self._of, begin, end)


def rows_of(event: MetricsLogged) -> Rows | None:
    """Return the rows of a frame; None if it is inconsistent, which the fold refuses."""
    times, names, columns = event.times, event.names, event.columns
    steps = event.steps or event.float_steps or event.text_steps
    count = len(times)
    is_consistent = (
        count > 0
        and len(columns) == len(names) > 0
        and all([len(column) == count for column in columns])
        and len(steps) in (0, count)
        and bool(event.steps) + bool(event.float_steps) + bool(event.text_steps) <= 1
    )
    if not is_consistent or not _are_times(times, event.time):
        return None
    return Rows(event.writer, Columns(event.aggregator, names, steps, times, columns, event.time), 0, count)


def columns_of_table(table: RowTable) -> Iterator[tuple[Columns, Iterable[tuple[int, int]]]]:
    """Cut a table into columns.

    Args:
        table: The table.

    Yields:
        Columns, and for each of their rows its index there and the position of its frame, but for rows whose time is
        not one of a calendar.
    """
    is_regular = _are_times(table.times, 0)
    for start in range(0, len(table.positions), _ROWS_TOGETHER):
        stop = start + _ROWS_TOGETHER
        times, columns = table.times[start:stop], [column[start:stop] for column in table.columns]
        rows: Iterable[tuple[int, int]] = enumerate(table.positions[start:stop])
        if not is_regular:
            rows = [row for row, time in zip(rows, times, strict=True) if _is_time(time)]
        yield Columns(table.shape.aggregator, table.shape.names, table.steps[start:stop], times, columns, 0), rows


def _are_times(times: Sequence[int], base: int) -> bool:
    return all([_is_time(base + each) for each in extremes(times)])


def _is_time(micros: int) -> bool:
    try:
        check_micros(micros)
    except TrialStreamError:
        return False
    return True
