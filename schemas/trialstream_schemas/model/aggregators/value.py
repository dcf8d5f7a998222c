"""The aggregator that keeps the last observation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from trialstream_schemas.model.aggregators.base import Aggregator, AggregatorSpec

__all__ = ["ValueAggregator", "value_aggregator"]


class ValueAggregator(Aggregator):
    """Keeps the last observation, which may be any value.

    Attributes:
        value: The last observation; None before the first.
        count: Number of observations.
    """

    kind = "value"

    def __init__(self) -> None:
        self.value: Any = None
        self.count = 0

    @classmethod
    def lazy(cls) -> AggregatorSpec:
        """Specify a value aggregator, for log calls.

        Returns:
            The specification.
        """
        return AggregatorSpec(cls.kind)

    @classmethod
    def make(cls, argument: int) -> Self:  # noqa: ARG003 (this kind has none)
        """Make an aggregator; the argument is ignored."""
        return cls()

    @property
    def argument(self) -> int:
        """0."""
        return 0

    @property
    def last(self) -> Any:
        """The last observation; None before the first."""
        return self.value

    def extend(self, xs: Sequence[Any], step: float | str | None = None) -> None:  # noqa: ARG002 (keeps no step)
        """Add observations: keep the last."""
        if xs:
            self.value = xs[-1]
            self.count += len(xs)

    def merge(self, later: Self) -> None:
        """Add later observations: keep the last of them, if there is one."""
        if later.count:
            self.value = later.value
            self.count += later.count

    def summary(self) -> Any:
        """The last observation."""
        return self.value

    def _state(self) -> dict[str, Any]:
        return {"value": self.value, "last": self.value, "count": self.count}

    def _restore(self, argument: int, state: Mapping[str, Any], plain: Callable[[Any], Any]) -> None:  # noqa: ARG002
        self.value, self.count = plain(state["value"]), int(state["count"])


value_aggregator = ValueAggregator.lazy()
"""The specification of a `ValueAggregator`."""
