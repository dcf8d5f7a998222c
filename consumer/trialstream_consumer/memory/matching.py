"""Matching of documents in memory, with the answers that MongoDB gives.

The filters are those that `trialstream.reading.query` makes, so operators and operands are checked. A path addresses
values as in MongoDB: a list on the way stands for the element at an index, and for all dicts in it; a list at the end
stands for itself and for its elements.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from trialstream_consumer.memory.bson_order import MISSING, order_key, type_rank
from trialstream_consumer.memory.patterns import compiled

__all__ = ["INDEX", "Matcher", "matcher"]

Matcher: TypeAlias = Callable[[Mapping[str, Any]], bool]
INDEX = re.compile(r"0|[1-9]\d{0,8}")
"""A key that may be the index of a list."""


class _Found(NamedTuple):
    """The values at a path.

    Attributes:
        values: The values; `MISSING` where a document lacks the field.
        spread: The same, with the elements of lists beside the lists.
    """

    values: Sequence[Any]
    spread: Sequence[Any]


_Test: TypeAlias = Callable[[_Found], bool]
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_ORS_EQUAL = ("$gte", "$lte")


def matcher(filter_: Mapping[str, Any]) -> Matcher:
    """Make the function that decides whether a document matches.

    Args:
        filter_: A filter in MongoDB's form, checked by `translate`.
    """
    tests = [_clause(key, given) for key, given in filter_.items()]
    return lambda document: all(test(document) for test in tests)


def _clause(key: str, given: Any) -> Matcher:
    if key == "$and":
        return _all_of(map(matcher, given))
    if key in ("$or", "$nor"):
        wanted, parts = key == "$or", [matcher(each) for each in given]
        return lambda document: any(part(document) for part in parts) is wanted
    keys, test = key.split("."), _condition(given)

    def matches(document: Mapping[str, Any]) -> bool:
        values, spread = [], []
        for value, is_spread in _places(document, keys):
            values.append(value)
            if is_spread and isinstance(value, list):
                spread += value
            spread.append(value)
        return test(_Found(values, spread))

    return matches


def _all_of(parts: Iterable[Callable[[Any], bool]]) -> Callable[[Any], bool]:
    tests = list(parts)
    return lambda x: all(test(x) for test in tests)


def _places(x: Any, keys: Sequence[str]) -> Iterator[tuple[Any, bool]]:
    """Yield the values at the keys, each with whether a list stands for its elements, too."""
    if not keys:
        yield x, True
    elif isinstance(x, Mapping):
        yield from _places(x.get(keys[0], MISSING), keys[1:])
    elif isinstance(x, list):
        index = int(keys[0]) if INDEX.fullmatch(keys[0]) else len(x)
        for i, each in enumerate(x):
            if isinstance(each, Mapping):
                yield from _places(each, keys)
            if i == index:
                if len(keys) == 1:
                    yield each, False
                elif isinstance(each, (Mapping, list)):
                    yield from _places(each, keys[1:])
    else:
        yield MISSING, True


def _condition(given: Any) -> _Test:
    """Make the test of a condition: a pattern, operators, or equality."""
    if isinstance(given, Mapping) and any(key.startswith("$") for key in given):
        return _all_of(_operator(key, x) for key, x in given.items())
    return _any_is(_is(given))


def _operator(key: str, given: Any) -> _Test:
    match key:
        case "$eq" | "$regex":
            return _any_is(_is(given) if key == "$eq" else _matches(given))
        case "$gt" | "$gte" | "$lt" | "$lte":
            return _any_is(_compares(key, given))
        case "$in":
            options = [_is(each) for each in given]
            return _any_is(lambda x: any(option(x) for option in options))
        case "$all":
            tests = [_any_is(_is(each)) for each in given]
            return lambda found: bool(tests) and all(test(found) for test in tests)
        case "$ne":
            return _not(_operator("$eq", given))
        case "$nin":
            return _not(_operator("$in", given))
        case "$not":
            return _not(_condition(given))
        case "$exists":
            return lambda found: any(x is not MISSING for x in found.values) is given
        case "$size":
            return lambda found: any(isinstance(x, list) and len(x) == given for x in found.values)
        case "$elemMatch":
            return _element(given)
    raise AssertionError(key)


def _not(test: _Test) -> _Test:
    return lambda found: not test(found)


def _any_is(test: Callable[[Any], bool]) -> _Test:
    return lambda found: any(test(x) for x in found.spread)


def _is(given: Any) -> Callable[[Any], bool]:
    """Make the test whether a value equals the given one, or matches the given pattern."""
    if isinstance(given, re.Pattern):
        return _matches(given)
    wanted = order_key(given)
    return lambda x: order_key(x) == wanted


def _matches(given: str | re.Pattern[str]) -> Callable[[Any], bool]:
    pattern = compiled(given)
    return lambda x: isinstance(x, str) and pattern.search(x) is not None


def _compares(key: str, given: Any) -> Callable[[Any], bool]:
    """Make the test of an order: only values of one type are compared, and NaN only equals itself."""
    wanted, rank, compare = order_key(given), type_rank(given), _COMPARISONS[key]

    def compares(x: Any) -> bool:
        if type_rank(x) != rank:
            return False
        if x != x or given != given:  # noqa: PLR0124 (NaN)
            return key in _ORS_EQUAL and order_key(x) == wanted
        return compare(order_key(x), wanted)

    return compares


def _element(given: Mapping[str, Any]) -> _Test:
    """Make the test whether a list has an element that meets the conditions, or matches the query."""
    if any(key.startswith("$") and key not in ("$and", "$or", "$nor") for key in given):
        test = _condition(given)
        return lambda found: any(
            test(_Found([each], [each])) for x in found.values if isinstance(x, list) for each in x
        )
    query = matcher(given)
    return lambda found: any(
        query(each) for x in found.values if isinstance(x, list) for each in map(_as_document, x) if each is not None
    )


def _as_document(x: Any) -> Mapping[str, Any] | None:
    """Return a dict as it is, and a list as the document of its indexes; None for other values."""
    if isinstance(x, list):
        return {str(i): each for i, each in enumerate(x)}
    return x if isinstance(x, Mapping) else None
