"""Aggregators: what becomes of a stream of observations.

| class | keeps |
|---|---|
| `Value` | the last one |
| `Stat` | count, average, standard deviation, minimum, maximum and sum, after the first `skip_obs` |
| `Ring` | the last n |
| `TimeSeries` | the summary of `Stat`, the last one with its step; the full history lies in the series |

`Stat.lazy(1)` names an aggregator without making one: this is what the log calls take and what goes on the wire. Each
has a plain form for documents (`to_document`), and a strict JSON one (`to_json`), and comes back from both as it was.
Invariant: extending by xs and then by ys, or merging an aggregator of ys, equals one pass over xs + ys; exactly for all
but sums and moments, which agree to rounding, and to the bit when they are cut at the same places.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

from trialstream_schemas.errors import InvalidType, InvalidValue, SchemaError
from trialstream_schemas.model import values

__all__ = [
    "Aggregator",
    "AggregatorSpec",
    "RingAggregator",
    "StatAggregator",
    "TimeSeriesAggregator",
    "ValueAggregator",
    "is_aggregator_document",
    "timeseries_aggregator",
    "value_aggregator",
]

# User keys are escaped, so none of them can be this one: see values.escape_key.
_KIND = "%kind"
# A ring or the observations a Stat skipped lie in the trial's document; 4,096 doubles take about 60 KB of it.
MAX_KEPT = 4096
# About what an observation takes inside a BSON array: type byte, decimal index, double.
_KEPT_BYTES = 15


@dataclass(frozen=True)
class AggregatorSpec:
    """An aggregator that is yet to be made: its kind, and how many observations it skips or keeps.

    Attributes:
        kind: `value`, `stat`, `ring` or `timeseries`.
        argument: `skip_obs` of `stat`, the size of `ring`, 0 otherwise.
    """

    kind: str
    argument: int = 0

    def __call__(self) -> Aggregator:
        """Make it.

        Raises:
            SchemaError: a kind that this version does not know.
        """
        if self.kind not in _KINDS:
            raise SchemaError(f"no aggregator is called {self.kind!r}; this version knows {', '.join(_KINDS)}")
        return _KINDS[self.kind].make(self.argument)

    @staticmethod
    def check(given: object, path: str) -> AggregatorSpec:
        """Return what the user gave, if it is one.

        Raises:
            InvalidType: it is something else.
        """
        if not isinstance(given, AggregatorSpec):
            raise InvalidType(f"{path}: pass for example StatAggregator.lazy(1), not {type(given).__name__}")
        return given


class Aggregator(ABC):
    """What all aggregators share. Equal when their state is (NaN equals NaN)."""

    kind: ClassVar[str]
    # Whether observations must be numbers.
    numeric: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def make(cls, argument: int) -> Self:
        """Make one; `argument` as in `AggregatorSpec`."""

    @property
    @abstractmethod
    def argument(self) -> int:
        """See `AggregatorSpec`."""

    @property
    def reserved(self) -> int:
        """Bytes of document that it may take, numbers given."""
        return 400 + _KEPT_BYTES * self.argument

    @abstractmethod
    def extend(self, xs: Sequence[Any], step: float | str | None = None) -> None:
        """Take observations in their order; `step` is the last one's."""

    @abstractmethod
    def merge(self, later: Self) -> None:
        """Take what another of the same kind and argument has seen after this one."""

    @abstractmethod
    def summary(self) -> Any:
        """What a person wants to read of it, in plain values."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """Plain values that `_restore` and a query need."""

    @abstractmethod
    def _restore(self, state: Mapping[str, Any], plain: Callable[[Any], Any]) -> None:
        """Take the state that `_state` gave, each of its values by `plain` from the form that it has now."""

    def to_document(self) -> dict[str, Any]:
        """Its form in MongoDB."""
        return {_KIND: self.kind, "argument": self.argument, **values.to_document(self._state())}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """The aggregator that `to_document` made the document of.

        Raises:
            SchemaError: it is the document of another kind, or of none.
        """
        kind = document.get(_KIND)
        if kind not in _KINDS or not issubclass(_KINDS[kind], cls):
            raise SchemaError(f"not the document of {cls.__name__}: kind {kind!r}")
        made = _KINDS[kind].make(document["argument"])
        made._restore(document, values.from_document)  # noqa: SLF001 (a subclass's)
        return cast("Self", made)

    def to_json(self, short: bool = False) -> Any:
        """Strict JSON: the full state, or with `short` what a person reads (NaN and ±inf as text then)."""
        if short:
            return _readable(self.summary())
        return {
            "kind": self.kind,
            "argument": self.argument,
            **{key: values.to_json(each) for key, each in self._state().items()},
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """The aggregator that `to_json()` gave.

        Raises:
            SchemaError: it is the JSON of another kind, or of none.
        """
        kind = given.get("kind")
        if kind not in _KINDS or not issubclass(_KINDS[kind], cls):
            raise SchemaError(f"not the JSON of {cls.__name__}: kind {kind!r}")
        made = _KINDS[kind].make(given["argument"])
        made._restore(given, values.from_json)  # noqa: SLF001 (a subclass's)
        return cast("Self", made)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Aggregator):
            return NotImplemented
        return bool(self.to_json() == other.to_json())

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.to_json(short=True)})"


def is_aggregator_document(x: object) -> bool:
    """Whether a part of a document is an aggregator's, and not a user's dict."""
    return isinstance(x, dict) and _KIND in x


class ValueAggregator(Aggregator):
    """The last observation: any value.

    Attributes:
        value: It; None before the first.
        count: How many observations there were.
    """

    kind = "value"

    def __init__(self) -> None:
        self.value: Any = None
        self.count = 0

    @classmethod
    def lazy(cls) -> AggregatorSpec:
        """Name one without making it."""
        return AggregatorSpec(cls.kind)

    @classmethod
    def make(cls, argument: int) -> Self:  # noqa: ARG003 (it has none)
        """Make one."""
        return cls()

    @property
    def argument(self) -> int:
        """0."""
        return 0

    @property
    def last(self) -> Any:
        """The value."""
        return self.value

    def extend(self, xs: Sequence[Any], step: float | str | None = None) -> None:  # noqa: ARG002 (keeps no step)
        """Keep the last."""
        if xs:
            self.value = xs[-1]
            self.count += len(xs)

    def merge(self, later: Self) -> None:
        """Keep the later one's, if it has one."""
        if later.count:
            self.value = later.value
            self.count += later.count

    def summary(self) -> Any:
        """The value."""
        return self.value

    def _state(self) -> dict[str, Any]:
        return {"value": self.value, "last": self.value, "count": self.count}

    def _restore(self, state: Mapping[str, Any], plain: Callable[[Any], Any]) -> None:
        self.value, self.count = plain(state["value"]), plain(state["count"])


class RingAggregator(Aggregator):
    """The last n observations, oldest first: any values.

    Attributes:
        size: n.
        values: What it holds.
    """

    kind = "ring"

    def __init__(self, size: int) -> None:
        self.size = _kept(size, "Ring: size", 1)
        self.values: list[Any] = []

    @classmethod
    def lazy(cls, size: int) -> AggregatorSpec:
        """Name one without making it.

        Raises:
            InvalidValue: not between 1 and 4,096.
        """
        return AggregatorSpec(cls.kind, _kept(size, "Ring: size", 1))

    @classmethod
    def make(cls, argument: int) -> Self:
        """Make one of that size."""
        return cls(argument)

    @property
    def argument(self) -> int:
        """The size."""
        return self.size

    @property
    def last(self) -> Any:
        """The latest, or None."""
        return self.values[-1] if self.values else None

    def extend(self, xs: Sequence[Any], step: float | str | None = None) -> None:  # noqa: ARG002 (keeps no step)
        """Keep the last n."""
        self.values = [*self.values, *xs[-self.size :]][-self.size :]

    def merge(self, later: Self) -> None:
        """Keep the last n of both."""
        self.extend(later.values)

    def summary(self) -> Any:
        """The values."""
        return list(self.values)

    def _state(self) -> dict[str, Any]:
        return {"values": self.values, "last": self.last}

    def _restore(self, state: Mapping[str, Any], plain: Callable[[Any], Any]) -> None:
        self.values = [plain(each) for each in state["values"]]


class StatAggregator(Aggregator):
    """Statistics of numbers, after the first `skip_obs`, which count in none of them.

    NaN and ±inf are counted apart (`nan`, `inf`, `neginf`) and enter no statistic. The mean and the sum of squared
    deviations of a run of observations are computed in two passes and combined pairwise (Chan, Golub and LeVeque,
    "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979).

    Attributes:
        skip_obs: How many observations to skip.
        count: How many finite ones count.
        avg: Their mean; None while there are none, like `min` and `max`.
        sum: Their sum; ±inf when it is beyond a double.
        nan: How many were NaN, after the skipped ones.
        inf: How many were +inf.
        neginf: How many were -inf.
    """

    kind = "stat"
    numeric = True

    def __init__(self, skip_obs: int = 0) -> None:
        self.skip_obs = _kept(skip_obs, "Stat: skip_obs", 0)
        # Kept, so that a merge can count those that the whole would not have skipped.
        self._skipped: list[float] = []
        self.count = 0
        self.avg: float | None = None
        self.min: float | None = None
        self.max: float | None = None
        self.sum = 0.0
        self.nan = self.inf = self.neginf = 0
        self._m2 = 0.0

    @classmethod
    def lazy(cls, skip_obs: int = 0) -> AggregatorSpec:
        """Name one without making it.

        Raises:
            InvalidValue: not between 0 and 4,096.
        """
        return AggregatorSpec(cls.kind, _kept(skip_obs, "Stat: skip_obs", 0))

    @classmethod
    def make(cls, argument: int) -> Self:
        """Make one that skips so many."""
        return cls(argument)

    @property
    def argument(self) -> int:
        """What it skips."""
        return self.skip_obs

    @property
    def skipped(self) -> int:
        """How many observations it has skipped so far."""
        return len(self._skipped)

    @property
    def sd(self) -> float | None:
        """Population standard deviation (divided by the count, not by the count less one)."""
        return math.sqrt(self._m2 / self.count) if self.count else None

    def extend(self, xs: Sequence[float], step: float | str | None = None) -> None:  # noqa: ARG002 (keeps no step)
        """Take observations."""
        missing = self.skip_obs - len(self._skipped)
        if missing > 0:
            self._skipped.extend(map(float, xs[:missing]))
            xs = xs[missing:]
        n = len(xs)
        if n == 1:
            self._add((float(xs[0]),))
            return
        xs = list(xs)  # of an array each pass would make its floats anew
        total = _sum(xs)
        if not math.isfinite(total):
            self.nan += sum(1 for x in xs if math.isnan(x))
            self.inf += sum(1 for x in xs if x == math.inf)
            self.neginf += sum(1 for x in xs if x == -math.inf)
            xs = [x for x in xs if math.isfinite(x)]
            total = _sum(xs)
            n = len(xs)
        if n < 2:
            self._add(map(float, xs))
            return
        if math.isfinite(total):
            mean = total / n
        else:  # halved, and halved again, since fsum rounds its parts up
            mean = math.fsum(x / n / 2 for x in xs) * 2
            mean = min(max(mean, min(xs)), max(xs))
            total = mean * n
        deviation = math.dist(xs, (mean,) * n)
        self._combine(n, mean, deviation * deviation, float(min(xs)), float(max(xs)), total)

    def _add(self, xs: Iterable[float]) -> None:
        """Take observations one by one: each is what `_combine` does with a run of one, at a fraction of its cost."""
        left = iter(xs)
        while True:
            count, m2, total = self.count, self._m2, self.sum
            average = math.nan if self.avg is None else self.avg
            low, high = self.min, self.max
            odd = None
            for x in left:
                delta = x - average
                if delta - delta != 0.0:  # the first, NaN, infinite, or further away than a double reaches
                    odd = x
                    break
                before = count
                count += 1
                average += delta * (1 / count)
                m2 += delta * delta * (before / count)
                if not low < x:  # type: ignore[operator]  # then there is one before, and so the rest
                    low = x
                if not high > x:  # type: ignore[operator]
                    high = x
                total += x
                if total != total:  # noqa: PLR0124 (only NaN differs from itself)
                    total = average * count
            if count > self.count:
                self.count, self.avg, self._m2, self.min, self.max, self.sum = count, average, m2, low, high, total
            if odd is None:
                return
            if math.isfinite(odd):
                self._combine(1, odd, 0.0, odd, odd, odd)
            else:
                self.nan += math.isnan(odd)
                self.inf += odd == math.inf
                self.neginf += odd == -math.inf

    def merge(self, later: Self) -> None:
        """Take another's observations, those that it skipped first."""
        self.extend(later._skipped)
        self.nan += later.nan
        self.inf += later.inf
        self.neginf += later.neginf
        if later.count:
            assert later.avg is not None
            assert later.min is not None
            assert later.max is not None
            self._combine(later.count, later.avg, later._m2, later.min, later.max, later.sum)

    def _combine(self, n: int, mean: float, m2: float, low: float, high: float, total: float) -> None:
        if not self.count:
            self.count, self.avg, self._m2, self.min, self.max, self.sum = n, mean, m2, low, high, total
            return
        assert self.avg is not None
        assert self.min is not None
        assert self.max is not None
        count = self.count + n
        delta = mean - self.avg
        if math.isfinite(delta):
            self.avg += delta * (n / count)
        else:  # the two lie further apart than a double reaches
            self.avg = self.avg * (self.count / count) + mean * (n / count)
        self._m2 += m2 + delta * delta * (self.count / count) * n
        self.min = min(low, self.min)
        self.max = max(high, self.max)
        total += self.sum
        # Two sums that overflowed in opposite directions: the mean still knows.
        self.sum = self.avg * count if math.isnan(total) else total
        self.count = count

    def summary(self) -> dict[str, Any]:
        """The statistics by name."""
        found = {key: getattr(self, key) for key in ("count", "avg", "sd", "min", "max", "sum")}
        return found | {key: n for key in ("nan", "inf", "neginf") if (n := getattr(self, key))}

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
            "skipped": self._skipped,
        }

    def _restore(self, state: Mapping[str, Any], plain: Callable[[Any], Any]) -> None:
        self.count, self.nan = plain(state["count"]), plain(state["nan"])
        self.inf, self.neginf = plain(state["inf"]), plain(state["neginf"])
        self.avg, self.min, self.max = plain(state["avg"]), plain(state["min"]), plain(state["max"])
        self.sum, self._m2 = plain(state["sum"]), plain(state["m2"])
        self._skipped = [plain(each) for each in state["skipped"]]


class TimeSeriesAggregator(StatAggregator):
    """The summary of `Stat`, skipping nothing, and the last observation; the history lies in the series.

    Attributes:
        last: Latest observation in the order of the log, NaN and ±inf too.
        last_step: Its step.
    """

    kind = "timeseries"

    def __init__(self) -> None:
        super().__init__(0)
        self.last: float | None = None
        self.last_step: float | str | None = None

    @classmethod
    def lazy(cls) -> AggregatorSpec:  # type: ignore[override]  # it skips nothing
        """Name one without making it."""
        return AggregatorSpec(cls.kind)

    @classmethod
    def make(cls, argument: int) -> Self:  # noqa: ARG003 (it has none)
        """Make one."""
        return cls()

    def extend(self, xs: Sequence[float], step: float | str | None = None) -> None:
        """Take observations; `step` is the last one's."""
        if len(xs) == 1:
            self.extend_each((float(xs[0]),), step)
            return
        super().extend(xs)
        if xs:
            self.last, self.last_step = float(xs[-1]), step

    def extend_each(self, xs: Sequence[float], step: float | str | None) -> None:
        """Take observations, at least one, as if each came by itself: the same to the bit; `step` is the last one's."""
        self._add(xs)  # it skips nothing
        self.last, self.last_step = xs[-1], step

    def merge(self, later: Self) -> None:
        """Take another's observations."""
        super().merge(later)
        if later.last is not None:
            self.last, self.last_step = later.last, later.last_step

    def summary(self) -> dict[str, Any]:
        """The statistics by name, the last one and its step."""
        return super().summary() | {"last": self.last, "last_step": self.last_step}

    def _state(self) -> dict[str, Any]:
        return super()._state() | {"last": self.last, "last_step": self.last_step}

    def _restore(self, state: Mapping[str, Any], plain: Callable[[Any], Any]) -> None:
        super()._restore(state, plain)
        self.last, self.last_step = plain(state["last"]), plain(state["last_step"])


def _sum(xs: Sequence[float]) -> float:
    """The exact sum, so the same bits in each version of the interpreter, unlike sum(); not finite if there is none."""
    try:
        return math.fsum(xs)
    except (OverflowError, ValueError):  # beyond a double, or infinities of both signs
        return math.inf


def _kept(n: object, path: str, least: int) -> int:
    if type(n) is not int:
        raise InvalidType(f"{path}: an int is needed, not {type(n).__name__}")
    if not least <= n <= MAX_KEPT:
        raise InvalidValue(f"{path}: between {least} and {MAX_KEPT}, not {n}")
    return n


def _readable(x: Any) -> Any:
    """Plain values in strict JSON for reading: what JSON has no form for becomes text."""
    match x:
        case float() if not math.isfinite(x):
            return str(x)
        case bytes():
            return values.to_json(x)
        case list():
            return [_readable(each) for each in x]
        case dict():
            return {key: _readable(each) for key, each in x.items()}
    return x


_KINDS: dict[str, type[Aggregator]] = {
    each.kind: each for each in (ValueAggregator, StatAggregator, RingAggregator, TimeSeriesAggregator)
}


value_aggregator = ValueAggregator.lazy()
timeseries_aggregator = TimeSeriesAggregator.lazy()
