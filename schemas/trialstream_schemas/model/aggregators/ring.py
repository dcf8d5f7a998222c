"""The aggregator that keeps the last n observations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from trialstream_schemas.model.aggregators.base import Aggregator, AggregatorSpec, check_kept

__all__ = ["RingAggregator"]


class RingAggregator(Aggregator):
    """Keeps the last `size` observations, which may be any values.

    Args:
        size: Number of observations to keep, 1 to `MAX_KEPT` (4,096).

    Raises:
        InvalidType: `size` is not an int.
        InvalidValue: `size` is out of range.

    Attributes:
        size: Number of observations to keep.
        values: The kept observations, oldest first.
    """

    kind = "ring"

    def __init__(self, size: int) -> None:
        self.size = check_kept(size, "RingAggregator: size", 1)
        self.values: list[Any] = []

    @classmethod
    def lazy(cls, size: int) -> AggregatorSpec:
        """Specify a ring, for log calls.

        Args:
            size: Number of observations to keep, 1 to `MAX_KEPT` (4,096).

        Returns:
            The specification.

        Raises:
            InvalidType: `size` is not an int.
            InvalidValue: `size` is out of range.
        """
        return AggregatorSpec(cls.kind, check_kept(size, "RingAggregator: size", 1))

    @classmethod
    def make(cls, argument: int) -> Self:
        """Make a ring; the argument is its size."""
        return cls(argument)

    @property
    def argument(self) -> int:
        """The size."""
        return self.size

    @property
    def last(self) -> Any:
        """The last observation; None before the first."""
        return self.values[-1] if self.values else None

    def extend(self, xs: Sequence[Any], step: float | str | None = None) -> None:  # noqa: ARG002 (keeps no step)
        """Add observations: keep the last `size`."""
        self.values = [*self.values, *xs[-self.size :]][-self.size :]

    def merge(self, later: Self) -> None:
        """Add later observations: keep the last `size` of both."""
        self.extend(later.values)

    def summary(self) -> Any:
        """The kept observations, oldest first."""
        return list(self.values)

    def _state(self) -> dict[str, Any]:
        return {"values": self.values, "last": self.last}

    def _restore(self, argument: int, state: Mapping[str, Any], plain: Callable[[Any], Any]) -> None:
        self.size = argument
        self.values = [plain(each) for each in state["values"]]
