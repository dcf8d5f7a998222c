"""Sorting of documents in memory, in the order of MongoDB's answers.

An ascending key has the values that are missing, null, empty lists or NaN last (`trialstream.reading.sorting`). A list
counts by its smallest element in an ascending sort, and by its largest one in a descending sort. If several paths of a
descending sort run through one list, its elements are compared by all of these paths.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import total_ordering
from typing import Any, Final, NamedTuple

from trialstream_schemas.errors import QueryError

from trialstream_consumer.memory.bson_order import LARGEST, MISSING, UNDEFINED, order_key
from trialstream_consumer.memory.expressions import field_value
from trialstream_consumer.memory.matching import INDEX

__all__ = ["sort_documents"]

_LAST: Final = object()
_EMPTY: Final = object()
_KEYS: Final = {id(_LAST): LARGEST, id(_EMPTY): UNDEFINED}


class _Part(NamedTuple):
    """A value on the way to that of one sort key.

    Attributes:
        x: The value.
        names: The names that lead from there to the value of the key.
        is_element: Whether the value is an element of a list, which is compared as it is.
    """

    x: Any
    names: Sequence[str]
    is_element: bool = False


@total_ordering
class _Descending:
    """A key in descending order."""

    __slots__ = ("_key",)

    def __init__(self, key: tuple[Any, ...]) -> None:
        self._key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and self._key == other._key

    def __lt__(self, other: _Descending) -> bool:
        return other._key < self._key

    __hash__ = None  # type: ignore[assignment]


def sort_documents(documents: list[dict[str, Any]], keys: Sequence[tuple[str, int]]) -> None:
    """Sort documents in place.

    Args:
        documents: The documents.
        keys: Paths with 1 or -1, as `trialstream.reading.sorting.sort_keys` returns them.

    Raises:
        QueryError: Several paths lead to lists in one document, which MongoDB refuses.
    """
    paths = [(path.split("."), direction) for path, direction in keys]

    def key(document: dict[str, Any]) -> list[Any]:
        parts = [
            _Part(_ascending(document, names), ()) if direction == 1 else _Part(document, names)
            for names, direction in paths
        ]
        return min(
            [each if direction == 1 else _Descending(each) for each, (_, direction) in zip(found, paths, strict=True)]
            for found in _keys(parts)
        )

    documents.sort(key=key)


def _ascending(document: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return the value of an ascending sort; `_LAST` if it comes last."""
    x: Any = document.get(names[0], MISSING)
    plain: list[str] = []
    for name in names[1:]:
        if INDEX.fullmatch(name) is None:
            plain.append(name)
            continue
        x, plain = field_value(x, plain), []
        if not isinstance(x, list):
            x = field_value(x, [name])
        elif (index := int(name)) < len(x):
            x = x[index]
        else:
            x = MISSING
    x = field_value(x, plain)
    return _LAST if x is MISSING or x is None or x == [] or x != x else x  # noqa: PLR0124 (NaN)


def _keys(parts: Sequence[_Part]) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the keys of a document: one for each element of the list that a path leads to or through."""
    reached = [_reached(each) for each in parts]
    lists = [each.x for each in reached if isinstance(each.x, list) and not each.is_element]
    if not lists:
        yield [_KEYS.get(id(each.x)) or order_key(each.x) for each in reached]
        return
    if any(each is not lists[0] for each in lists):
        raise QueryError("sort: expected one path at most that leads to a list in a document, got several")
    for element in lists[0] or [_EMPTY]:
        yield from _keys([_Part(*_below(each, element)) if each.x is lists[0] else each for each in reached])


def _reached(part: _Part) -> _Part:
    """Follow the names up to the value, or up to a list that stands for its elements."""
    x, names, is_element = part
    while names:
        if isinstance(x, Mapping):
            x = x.get(names[0], MISSING)
        elif not isinstance(x, list):
            return _Part(MISSING, ())
        elif INDEX.fullmatch(names[0]) and int(names[0]) < len(x):
            x = x[int(names[0])]
        else:
            break
        names = names[1:]
    return _Part(x, names, is_element)


def _below(part: _Part, element: Any) -> tuple[Any, Sequence[str], bool]:
    """Return what an element contributes: itself at the end of a path, otherwise what is below it, if it is a dict."""
    if not part.names:
        return element, (), True
    return (element, part.names, False) if isinstance(element, Mapping) else (MISSING, (), True)
