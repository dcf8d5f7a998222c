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
        is_final: Whether the value is compared as it is, even if it is a list.
        is_nested: Whether the way went, by indexes, from a list into a list: a list at its end is compared as a whole.
    """

    x: Any
    names: Sequence[str] = ()
    is_final: bool = False
    is_nested: bool = False


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
        QueryError: MongoDB refuses the sort: several paths lead to lists in one document, or a name is the index of a
            list and a key of a dict in that list.
    """
    paths = [(path.split("."), direction) for path, direction in keys]

    def key(document: dict[str, Any]) -> list[Any]:
        parts = [
            _Part(_ascending(document, names)) if direction == 1 else _Part(document, names)
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
    if x is MISSING or x is None or x == [] or x != x:  # noqa: PLR0124 (NaN)
        return _LAST
    return list(x) if isinstance(x, list) else x  # not the list of the document, through which other paths may lead


def _keys(parts: Sequence[_Part]) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the keys of a document: one for each element of the list that a path leads to or through."""
    reached = [_reached(each) for each in parts]
    lists = [each.x for each in reached if isinstance(each.x, list) and not each.is_final]
    if not lists:
        yield [_KEYS.get(id(each.x)) or order_key(each.x) for each in reached]
        return
    elements = lists[0]
    if any(each is not elements for each in lists):
        raise QueryError("sort: expected one path at most that leads to a list in a document, got several")
    spread = [_at_index(each) if each.x is elements else each for each in reached]
    if not any(each.x is elements for each in spread):
        yield from _keys(spread)
        return
    for element in elements or [_EMPTY]:
        yield from _keys([_below(each, element) if each.x is elements else each for each in spread])


def _reached(part: _Part) -> _Part:
    """Follow the names up to the value, or up to a list."""
    x, names = part.x, part.names
    while names and not isinstance(x, list):
        x = x.get(names[0], MISSING) if isinstance(x, Mapping) else MISSING
        names = names[1:]
    return part._replace(x=x, names=names)


def _at_index(part: _Part) -> _Part:
    """Follow the index of a list, if the next name is one.

    Raises:
        QueryError: A dict in the list has the index as a key: MongoDB refuses the sort.
    """
    x, names = part.x, part.names
    if not names or INDEX.fullmatch(names[0]) is None or int(names[0]) >= len(x):
        return part
    if any(isinstance(each, Mapping) and names[0] in each for each in x):
        raise QueryError(f"sort: {names[0]!r} is an index of a list and a key of a dict in that list")
    x, names = x[int(names[0])], names[1:]
    if not isinstance(x, list):
        return _Part(x, names)
    if names:  # only an index leads on from a list in a list
        is_index = INDEX.fullmatch(names[0]) is not None and int(names[0]) < len(x)
        x, names = x[int(names[0])] if is_index else MISSING, names[1:]
    return _Part(x, names, is_nested=True)


def _below(part: _Part, element: Any) -> _Part:
    """Return what an element contributes: itself at the end of a path, otherwise what is below it, if it is a dict."""
    if not part.names:
        return _Part(part.x if part.is_nested and part.x else element, is_final=True)
    return _Part(element if isinstance(element, Mapping) else MISSING, part.names)
