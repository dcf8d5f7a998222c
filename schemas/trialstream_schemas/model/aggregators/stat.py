"""The aggregator that keeps statistics of numbers, and the last of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from trialstream_schemas.model.aggregators.base import Aggregator, AggregatorSpec, check_kept
from trialstream_schemas.model.aggregators.moments import Moments, moments, moments_of_columns

__all__ = ["StatAggregator"]


class StatAggregator(Aggregator):
    """Keeps statistics of numbers (count, average, standard deviation, minimum, maximum and sum) and the last number.

    The statistics leave out the first `skip_obs` observations, which are kept in `skipped_values`. They also leave out
    NaN and ±inf, which are counted separately (`nan`, `inf`, `neginf`). `last` leaves out nothing.

    The mean and the sum of squared deviations of several observations are computed in two passes and combined pairwise
    (Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979).

    For finite numbers of at most M in absolute value that come in k ≤ 2²⁰ parts (frames) of at most m numbers, the
    error of `avg` is at most (4·m + k + 10)·u·M with u = 2⁻⁵³, and that of `sum` as many times more as there are
    numbers (property-tested): the bound of `moments` for each part, and one more rounding for each.

    Args:
        skip_obs: Number of observations to skip, 0 to `MAX_KEPT` (4,096).

    Raises:
        InvalidType: `skip_obs` is not an int.
        InvalidValue: `skip_obs` is out of range.

    Attributes:
        skip_obs: Number of observations to skip.
        count: Number of finite observations after the skipped ones; the statistics below are of these.
        avg: Mean; None while `count` is 0.
        min: Minimum; 0.0 if it is a zero of either sign; None while `count` is 0.
        max: Maximum; 0.0 if it is a zero of either sign; None while `count` is 0.
        sum: Sum; ±inf if the sum is beyond a double.
        nan: Number of observations that were NaN, after the skipped ones.
        inf: Number of observations that were +inf, after the skipped ones.
        neginf: Number of observations that were -inf, after the skipped ones.
        skipped_values: The skipped observations, at most `skip_obs`, in the order of the log.
        last: Last observation in the order of the log, also a skipped one, NaN or ±inf; None before the first, and in a
            document of a version before `last`, until the next observation.
    """

    kind = "stat"
    numeric = True

    def __init__(self, skip_obs: int = 0) -> None:
        self.skip_obs = check_kept(skip_obs, "StatAggregator: skip_obs", 0)
        # A merge counts those of the later aggregator that one pass over all observations would not have skipped.
        self.skipped_values: list[float] = []
        self.last: float | None = None
        self.count = 0
        self.avg: float | None = None
        self.min: float | None = None
        self.max: float | None = None
        self.sum = 0.0
        self.nan = self.inf = self.neginf = 0
        self._m2 = 0.0

    @classmethod
    def lazy(cls, skip_obs: int = 0) -> AggregatorSpec:
        """Specify a stat aggregator, for log calls.

        Args:
            skip_obs: Number of observations to skip, 0 to `MAX_KEPT` (4,096).

        Returns:
            The specification.

        Raises:
            InvalidType: `skip_obs` is not an int.
            InvalidValue: `skip_obs` is out of range.
        """
        return AggregatorSpec(cls.kind, check_kept(skip_obs, "StatAggregator: skip_obs", 0))

    @classmethod
    def make(cls, argument: int) -> Self:
        """Make an aggregator; the argument is `skip_obs`."""
        return cls(argument)

    @property
    def argument(self) -> int:
        """`skip_obs`."""
        return self.skip_obs

    @property
    def sd(self) -> float | None:
        """Population standard deviation (divided by `count`, not by `count` - 1); None while `count` is 0."""
        return math.sqrt(self._m2 / self.count) if self.count else None

    def extend(self, xs: Sequence[float], step: float | str | None = None) -> None:  # noqa: ARG002 (keeps no step)
        """Add observations."""
        missing = self.skip_obs - len(self.skipped_values)
        if missing > 0 and len(xs):
            self.skipped_values.extend(map(float, xs[:missing]))
            self.last = self.skipped_values[-1]
            xs = xs[missing:]
        n = len(xs)
        if n == 1:
            self.last = x = float(xs[0])
            self._add((x,))
            return
        if not n:
            return
        self.last = float(xs[-1])
        self._include(xs, *moments_of_columns([xs]))

    def _include(self, xs: Sequence[float], found: Moments | None) -> None:
        """Add observations to the statistics: several, and their moments, or None if not all are finite."""
        if found is None:
            self.nan += sum(1 for x in xs if math.isnan(x))
            self.inf += sum(1 for x in xs if x == math.inf)
            self.neginf += sum(1 for x in xs if x == -math.inf)
            xs = [x for x in xs if math.isfinite(x)]
            found = moments(xs) if xs else None
        if found is not None:
            self._combine(*found)

    def _add(self, xs: Iterable[float]) -> None:
        """Add observations one by one, with the result of one `_combine` for each, at a fraction of the cost."""
        left = iter(xs)
        while True:
            count, m2, total = self.count, self._m2, self.sum
            average = math.nan if self.avg is None else self.avg
            low, high = self.min, self.max
            odd = None
            for x in left:
                delta = x - average
                if delta - delta != 0.0:  # x is the first, NaN, infinite, or too far from the mean for a double
                    odd = x
                    break
                before = count
                count += 1
                average += delta * (1 / count)
                m2 += delta * delta * (before / count)
                if not low < x:  # type: ignore[operator]  # neither is None: x is not the first
                    low = x
                if not high > x:  # type: ignore[operator]
                    high = x
                total += x
                if total != total:  # noqa: PLR0124 (only NaN differs from itself)
                    total = average * count
            if count > self.count:
                self.count, self.avg, self._m2, self.sum = count, average, m2, total
                self.min, self.max = low + 0.0, high + 0.0  # type: ignore[operator]
            if odd is None:
                return
            if math.isfinite(odd):
                self._combine(1, odd, 0.0, odd, odd, odd)
            else:
                self.nan += math.isnan(odd)
                self.inf += odd == math.inf
                self.neginf += odd == -math.inf

    def merge(self, later: Self) -> None:
        """Add the observations of another aggregator, which come after those of this aggregator."""
        last = self.last if later.last is None else later.last
        self.extend(later.skipped_values)
        self.last = last
        self.nan += later.nan
        self.inf += later.inf
        self.neginf += later.neginf
        if later.count:
            assert later.avg is not None
            assert later.min is not None
            assert later.max is not None
            self._combine(later.count, later.avg, later._m2, later.min, later.max, later.sum)

    def _combine(self, n: int, mean: float, m2: float, low: float, high: float, total: float) -> None:
        # Adding 0.0 makes a zero positive: of zeros of both signs, min and max may return either.
        if not self.count:
            self.count, self.avg, self._m2, self.sum = n, mean, m2, total
            self.min, self.max = low + 0.0, high + 0.0
            return
        assert self.avg is not None
        assert self.min is not None
        assert self.max is not None
        count = self.count + n
        delta = mean - self.avg
        if math.isfinite(delta):
            self.avg += delta * (n / count)
        else:  # the difference of the means is beyond a double
            self.avg = self.avg * (self.count / count) + mean * (n / count)
        self._m2 += m2 + delta * delta * (self.count / count) * n
        self.min = min(low, self.min) + 0.0
        self.max = max(high, self.max) + 0.0
        total += self.sum
        # NaN where the two sums overflowed in opposite directions; the mean did not overflow.
        self.sum = self.avg * count if math.isnan(total) else total
        self.count = count

    def summary(self) -> dict[str, Any]:
        """The statistics by name, and the last observation."""
        found = {key: getattr(self, key) for key in ("count", "avg", "sd", "min", "max", "sum")}
        return found | {key: n for key in ("nan", "inf", "neginf") if (n := getattr(self, key))} | {"last": self.last}

    def _state(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "avg": self.avg,
            "sd": self.sd,
            "min": self.min,
            "max": self.max,
            "sum": self.sum,
            "nan": self.nan,
            "inf": self.inf,
            "neginf": self.neginf,
            "m2": self._m2,
            "skipped": self.skipped_values,
            "last": self.last,
        }

    def _restore(self, argument: int, state: Mapping[str, Any], plain: Callable[[Any], Any]) -> None:  # noqa: ARG002
        self.skip_obs = argument
        self.count, self.nan = int(state["count"]), int(state["nan"])
        self.inf, self.neginf = int(state["inf"]), int(state["neginf"])
        self.avg, self.min, self.max = state["avg"], state["min"], state["max"]
        self.sum, self._m2 = state["sum"], state["m2"]
        self.skipped_values = list(state["skipped"])
        self.last = state.get("last")  # earlier versions stored none
