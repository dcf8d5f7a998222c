"""The aggregator that keeps statistics and the last observation of a series, with its step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

from trialstream_schemas.errors import InvalidValue
from trialstream_schemas.model.aggregators.base import Aggregator, AggregatorSpec
from trialstream_schemas.model.aggregators.moments import Moments, moments_of_columns
from trialstream_schemas.model.aggregators.stat import StatAggregator

__all__ = ["BEST_ARGUMENTS", "BEST_KIND", "TimeSeriesAggregator", "extend_columns", "timeseries_aggregator"]

BEST_KIND = "best"
"""Kind of the time series that keeps its best observation, `BestAggregator`."""
BEST_ARGUMENTS: dict[Literal["max", "min"], int] = {"max": 1, "min": 2}
"""The observation that is the best → argument of that kind."""


class TimeSeriesAggregator(StatAggregator):
    """Keeps what a `StatAggregator` that skips nothing keeps, and the step of the last observation.

    The full history is kept beside the trial, in buckets of rows.

    Attributes:
        last_step: Step of the last observation.
    """

    kind = "timeseries"

    def __init__(self) -> None:
        super().__init__(0)
        self.last_step: float | str | None = None

    @classmethod
    def lazy(cls, best: Literal["max", "min"] | None = None) -> AggregatorSpec:  # type: ignore[override]  # skips nothing
        """Specify a time series aggregator, for log calls.

        Args:
            best: `max` or `min` to keep the largest or smallest observation with its step, in a `BestAggregator`; None
                to keep neither.

        Returns:
            The specification.

        Raises:
            InvalidValue: `best` is none of these.
        """
        if best is None:
            return AggregatorSpec(TimeSeriesAggregator.kind)
        if best not in BEST_ARGUMENTS:
            raise InvalidValue(f"best: expected 'max', 'min' or None, got {best!r}")
        return AggregatorSpec(BEST_KIND, BEST_ARGUMENTS[best])

    @classmethod
    def make(cls, argument: int) -> Self:  # noqa: ARG003 (this kind has none)
        """Make an aggregator; the argument is ignored."""
        return cls()

    def extend(self, xs: Sequence[float], step: float | str | None = None) -> None:
        """Add observations; `step` is the step of the last observation."""
        if len(xs) == 1:
            self.extend_each((float(xs[0]),), step)
            return
        super().extend(xs)
        if len(xs):
            self.last_step = step

    def extend_by_moments(self, xs: Sequence[float], found: Moments | None, step: float | str | None) -> None:
        """Add observations, as `extend` does, whose moments are computed already.

        Args:
            xs: The observations, more than one.
            found: Their moments; None if not all are finite.
            step: Step of the last observation.
        """
        self._include(xs, found)  # nothing is skipped
        self.last, self.last_step = xs[-1], step

    def extend_each(self, xs: Sequence[float], step: float | str | None) -> None:
        """Add observations with the same result, to the bit, as one `extend` for each.

        Args:
            xs: The observations, at least one.
            step: Step of the last observation.
        """
        self._add(xs)  # nothing is skipped
        self.last, self.last_step = xs[-1], step

    def merge(self, later: Self) -> None:
        """Add the observations of another aggregator, which come after those of this aggregator."""
        super().merge(later)
        if later.last is not None:
            self.last_step = later.last_step

    def summary(self) -> dict[str, Any]:
        """The statistics by name, the last observation and its step."""
        return super().summary() | {"last_step": self.last_step}

    def _state(self) -> dict[str, Any]:
        return super()._state() | {"last_step": self.last_step}

    def _restore(self, argument: int, state: Mapping[str, Any], plain: Callable[[Any], Any]) -> None:  # noqa: ARG002
        super()._restore(0, state, plain)  # nothing is skipped
        self.last_step = plain(state["last_step"])


timeseries_aggregator = TimeSeriesAggregator.lazy()
"""The specification of a `TimeSeriesAggregator`."""


def extend_columns(
    aggregators: Sequence[Aggregator],
    columns: Sequence[Sequence[float]],
    step: float | str | None,
    found: Sequence[Moments | None] | None = None,
) -> None:
    """Extend each aggregator by its column, with the same result as one `extend` each, at a fraction of the cost.

    Args:
        aggregators: The aggregators, at least one.
        columns: The observations of each, of the same length, at least one in each.
        step: Step of the last observations.
        found: The `moments_of_columns`, if they are computed already.
    """
    series = [each for each in aggregators if type(each) is TimeSeriesAggregator]
    if len(columns[0]) > 1 and len(series) == len(columns):
        if found is None:
            found = moments_of_columns(columns)
        for each, column, moments in zip(series, columns, found, strict=True):
            each.extend_by_moments(column, moments, step)
    else:
        for aggregator, column in zip(aggregators, columns, strict=True):
            aggregator.extend(column, step)
