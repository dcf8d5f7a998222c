"""Rows of metrics, as a stream returns them: columns of numpy, made when they are first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from trialstream_schemas.errors import TrialStreamError
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.columns import extremes
from trialstream_schemas.model.times import check_micros, from_micros
from trialstream_schemas.wire.events import MetricsLogged
from trialstream_schemas.wire.rows import RowRun

from trialstream.protocol import Step

__all__ = ["Row", "Rows", "Steps", "has_times", "rows_at", "rows_of"]

Steps: TypeAlias = NDArray[np.int64] | NDArray[np.float64] | NDArray[np.object_]
"""Steps of rows: int64 or float64; object if they are text, or None where rows have no step."""


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


class Rows:
    """Rows of the same metrics, which a writer logged one after the other, in columns.

    Attributes:
        writer: Id of the writer.
        aggregator: Specification of the aggregator with which they were logged.
        names: Names of the metrics.
    """

    __slots__ = ("_base", "_columns", "_start", "_steps", "_stop", "_times", "aggregator", "names", "writer")

    def __init__(
        self,
        writer: str,
        aggregator: AggregatorSpec,
        names: Sequence[str],
        steps: Sequence[int] | Sequence[float] | Sequence[str],
        times: Sequence[int],
        columns: Sequence[Sequence[float]],
        base: int = 0,
        *,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        """Make rows of a part of columns, which are not copied.

        Args:
            writer: Id of the writer.
            aggregator: Specification of the aggregator.
            names: Names of the metrics.
            steps: Steps, or none.
            times: Times, microseconds after the base.
            columns: For each name its values.
            base: Microseconds since 1970 UTC.
            start: Index of the first row.
            stop: Index after the last row; None for all.
        """
        self.writer = writer
        self.aggregator = aggregator
        self.names = names
        self._steps = steps
        self._times = times
        self._columns = columns
        self._base = base
        self._start = start
        self._stop = len(times) if stop is None else stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __repr__(self) -> str:
        return f"Rows({len(self)} of {', '.join(self.names)})"

    @property
    def steps(self) -> Steps:
        """Step of each row."""
        if not self._steps:
            return np.full(len(self), None, np.object_)
        part = self._steps[self._start : self._stop]
        if isinstance(part[0], str):
            found: NDArray[np.object_] = np.empty(len(part), np.object_)
            found[:] = part
            return found
        return np.asarray(part)

    @property
    def times(self) -> NDArray[np.datetime64]:
        """When each row was logged, by the writer's clock: datetime64[us] in UTC."""
        micros = np.asarray(self._times[self._start : self._stop], np.int64) + self._base
        return micros.astype("datetime64[us]")

    @property
    def values(self) -> dict[str, NDArray[np.float64]]:
        """Name of the metric → value of each row; NaN and ±inf as they were logged."""
        columns = [np.asarray(column[self._start : self._stop], np.float64) for column in self._columns]
        return dict(zip(self.names, columns, strict=True))

    def one_by_one(self) -> Iterator[Row]:
        """Return the rows, one after the other.

        Returns:
            An iterator over the rows.
        """
        return map(self._row, range(self._start, self._stop))

    def _row(self, i: int) -> Row:
        step = self._steps[i] if self._steps else None
        values = {name: column[i] for name, column in zip(self.names, self._columns, strict=True)}
        return Row(self.writer, step, from_micros(self._base + self._times[i]), values)

    def part(self, start: int, stop: int | None = None) -> Rows:
        """Return some of the rows.

        Args:
            start: Index of the first one.
            stop: Index after the last one; None for all that follow.

        Returns:
            These rows.
        """
        return Rows(
            self.writer,
            self.aggregator,
            self.names,
            self._steps,
            self._times,
            self._columns,
            self._base,
            start=min(self._start + start, self._stop),
            stop=self._stop if stop is None else min(self._start + stop, self._stop),
        )


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
    return Rows(event.writer, event.aggregator, names, steps, times, columns, event.time)


def rows_at(run: RowRun, row: int) -> Rows:
    """Return one row of a run."""
    return Rows(run.writer, run.aggregator, run.names, run.steps, run.times, run.columns, start=row, stop=row + 1)


def has_times(run: RowRun) -> bool:
    """Whether all times of a run are those of a calendar."""
    return _are_times(run.times, 0)


def _are_times(times: Sequence[int], base: int) -> bool:
    try:
        for each in extremes(times):
            check_micros(base + each)
    except TrialStreamError:
        return False
    return True
