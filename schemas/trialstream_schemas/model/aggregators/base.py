"""The base class of aggregators, and the specification from which an aggregator is made.

Invariant of every aggregator: to extend it by xs and then by ys, or to extend it by xs and then merge an aggregator of
ys, gives the same state as to extend it by xs + ys. Sums and moments are the same up to rounding, and the same to the
bit if the observations are cut at the same places.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

from trialstream_schemas.errors import InvalidType, InvalidValue, SchemaError
from trialstream_schemas.model import forms

__all__ = ["MAX_KEPT", "Aggregator", "AggregatorSpec", "check_kept", "is_aggregator_document"]

# Key of the kind in a document. Keys of users are escaped (`escape_key`), and no escaped key is equal to this one.
_KIND = "%kind"
# The values of a ring and the observations that a StatAggregator skipped are stored in the trial's document, where
# 4,096 doubles take about 60 KB.
MAX_KEPT = 4096
"""Maximum number of observations that an aggregator may keep or skip."""
# Size of a number inside a BSON array, bytes: type byte, decimal index, double.
_KEPT_BYTES = 15
# Kind → class. Each class that defines a `kind` adds itself when it is defined.
_KINDS: dict[str, type[Aggregator]] = {}


@dataclass(frozen=True)
class AggregatorSpec:
    """Specification of an aggregator, which log calls take and events carry: its kind and its argument.

    Attributes:
        kind: `value`, `stat`, `ring`, `timeseries` or `best`.
        argument: `skip_obs` of `stat` or the size of `ring`, numbers of observations; of `best`, 1 for the largest and
            2 for the smallest observation; 0 otherwise.
    """

    kind: str
    argument: int = 0

    def __call__(self) -> Aggregator:
        """Make the aggregator.

        Returns:
            A new aggregator without observations.

        Raises:
            SchemaError: This version has no aggregator of the kind.
            InvalidValue: The argument is out of range.
        """
        if self.kind not in _KINDS:
            raise SchemaError(f"aggregator: expected one of {', '.join(_KINDS)}, got {self.kind!r}")
        return _KINDS[self.kind].make(self.argument)

    @property
    def numeric(self) -> bool:
        """Whether the aggregator takes numbers only; False for a kind that this version does not have."""
        kind = _KINDS.get(self.kind)
        return kind is not None and kind.numeric

    @staticmethod
    def check(given: object, path: str) -> AggregatorSpec:
        """Check that an argument of a log call is a specification.

        Args:
            given: The argument.
            path: Name of the parameter, for the message.

        Returns:
            The argument.

        Raises:
            InvalidType: The argument is not an `AggregatorSpec`.
        """
        if not isinstance(given, AggregatorSpec):
            raise InvalidType(
                f"{path}: expected a specification such as StatAggregator.lazy(1), got {type(given).__name__}"
            )
        return given


class Aggregator(ABC):
    """Accumulates a stream of observations in bounded memory.

    Two aggregators are equal if their kinds, arguments and states are equal, where NaN equals NaN.

    Attributes:
        kind: Name of the kind, as in `AggregatorSpec`.
        numeric: Whether observations must be numbers.
    """

    kind: ClassVar[str]
    numeric: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "kind" in vars(cls):
            _KINDS[cls.kind] = cls

    @classmethod
    @abstractmethod
    def make(cls, argument: int) -> Self:
        """Make an aggregator.

        Args:
            argument: Argument of the aggregator, as in `AggregatorSpec`.
        """

    @property
    @abstractmethod
    def argument(self) -> int:
        """Argument of the aggregator, as in `AggregatorSpec`."""

    @property
    def reserved(self) -> int:
        """Upper bound of the aggregator's size in a document if the observations are numbers, bytes."""
        return 400 + _KEPT_BYTES * self.argument

    @abstractmethod
    def extend(self, xs: Sequence[Any], step: float | str | None = None) -> None:
        """Add observations.

        Args:
            xs: The observations, in their order.
            step: Step of the last observation.
        """

    @abstractmethod
    def merge(self, later: Self) -> None:
        """Add the observations of another aggregator.

        Args:
            later: An aggregator of the same kind and argument, whose observations come after those of this aggregator.
        """

    @abstractmethod
    def summary(self) -> Any:
        """Summarise the observations for people to read.

        Returns:
            Plain values: the value itself, a list, or a dict of statistics.
        """

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """The state as plain values: those from which `_restore` restores the aggregator, and others for queries."""

    @abstractmethod
    def _restore(self, argument: int, state: Mapping[str, Any], plain: Callable[[Any], Any]) -> None:
        """Set all attributes of a new object, without `__init__`, as `make` and then `_state` have defined them.

        Args:
            argument: Argument of the aggregator, checked when the aggregator was made.
            state: The state that `_state` returned. Its floats are floats; an int may be a `bson.Int64`.
            plain: Converts the stored form of any other value to the value.
        """

    def to_document(self) -> dict[str, Any]:
        """Convert the aggregator to its form in MongoDB.

        Returns:
            A document, from which `from_document` restores the aggregator.
        """
        return {_KIND: self.kind, "argument": self.argument, **forms.to_document(self._state())}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """The aggregator of a document that `to_document` made.

        Args:
            document: The document.

        Raises:
            SchemaError: The document stores no aggregator, or an aggregator of another class.
        """
        kind = document.get(_KIND)
        if kind not in _KINDS or not issubclass(_KINDS[kind], cls):
            raise SchemaError(f"aggregator: expected the document of {cls.__name__}, got kind {kind!r}")
        made: Self = object.__new__(_KINDS[kind])  # type: ignore[assignment]
        made._restore(document["argument"], document, forms.from_document)
        return made

    def to_json(self, short: bool = False) -> Any:
        """Convert the aggregator to strict JSON.

        Args:
            short: Whether to return the `summary` only, with NaN and ±inf as text, instead of the full state.

        Returns:
            The full state, from which `from_json` restores the aggregator, or the summary.
        """
        if short:
            return _readable(self.summary())
        return {
            "kind": self.kind,
            "argument": self.argument,
            **{key: forms.to_json(each) for key, each in self._state().items()},
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """The aggregator of a JSON object that `to_json` made.

        Args:
            given: The JSON object, with the full state (`short` was False).

        Raises:
            SchemaError: The object holds no aggregator, or an aggregator of another class.
        """
        kind = given.get("kind")
        if kind not in _KINDS or not issubclass(_KINDS[kind], cls):
            raise SchemaError(f"aggregator: expected the JSON of {cls.__name__}, got kind {kind!r}")
        made = _KINDS[kind].make(given["argument"])
        state = {key: forms.from_json(each) for key, each in given.items()}
        made._restore(given["argument"], state, lambda value: value)  # noqa: SLF001 (a subclass's)
        return cast("Self", made)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Aggregator):
            return NotImplemented
        return bool(self.to_json() == other.to_json())

    __hash__ = None  # type: ignore[assignment]  # the state changes

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.to_json(short=True)})"


def is_aggregator_document(x: object) -> bool:
    """Whether a part of a document stores an aggregator, and not a value such as a dict."""
    return isinstance(x, dict) and _KIND in x


def check_kept(n: object, path: str, least: int) -> int:
    """Check a number of observations to keep or skip.

    Args:
        n: The number.
        path: Class and parameter, for the message.
        least: The smallest number that is allowed; the largest is `MAX_KEPT`.

    Returns:
        The number.

    Raises:
        InvalidType: The number is not an int.
        InvalidValue: The number is out of range.
    """
    if type(n) is not int:
        raise InvalidType(f"{path}: expected an int, got {type(n).__name__}")
    if not least <= n <= MAX_KEPT:
        raise InvalidValue(f"{path}: expected {least} to {MAX_KEPT}, got {n}")
    return n


def _readable(x: Any) -> Any:
    """Plain values in strict JSON for reading: NaN and ±inf as text, bytes tagged."""
    match x:
        case float() if not math.isfinite(x):
            return str(x)
        case bytes():
            return forms.to_json(x)
        case list():
            return [_readable(each) for each in x]
        case dict():
            return {key: _readable(each) for key, each in x.items()}
    return x
