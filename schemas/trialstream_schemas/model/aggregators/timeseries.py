"""The aggregator that keeps statistics and the last observation of a series, with its step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from trialstream_schemas.model.aggregators.base import AggregatorSpec
from trialstream_schemas.model.aggregators.stat import StatAggregator

__all__ = ["TimeSeriesAggregator", "timeseries_aggregator"]


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
    def lazy(cls) -> AggregatorSpec:  # type: ignore[override]  # without skip_obs: nothing is skipped
        """Specify a time series aggregator, for log calls."""
        return AggregatorSpec(cls.kind)

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

    def _restore(self, state: Mapping[str, Any], plain: Callable[[Any], Any]) -> None:
        super()._restore(state, plain)
        self.last_step = plain(state["last_step"])


timeseries_aggregator = TimeSeriesAggregator.lazy()
"""The specification of a `TimeSeriesAggregator`."""
