"""Sorting of documents in memory, in the order of MongoDB's answers.

An ascending key has the values that are missing, null, empty lists or NaN last (`trialstream.reading.sorting`). Of a
list, the smallest element counts in an ascending sort, and the largest one in a descending sort.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trialstream_consumer.memory.bson_order import LARGEST, MISSING, NULL, UNDEFINED, order_key
from trialstream_consumer.memory.matching import INDEX

__all__ = ["sort_documents"]


def sort_documents(documents: list[dict[str, Any]], keys: Sequence[tuple[str, int]]) -> None:
    """Sort documents in place.

    Args:
        documents: The documents.
        keys: Paths with 1 or -1, as `trialstream.reading.sorting.sort_keys` returns them.
    """
    for path, direction in reversed(keys):  # a sort keeps the order of equal documents
        names = path.split(".")
        if direction == 1:
            documents.sort(key=lambda document: _ascending(document, names))
        else:
            documents.sort(key=lambda document: max(_descending(document, names)), reverse=True)


def _ascending(document: Mapping[str, Any], names: Sequence[str]) -> tuple[Any, ...]:
    """Return the key of an ascending sort."""
    x: Any = document.get(names[0], MISSING)
    plain: list[str] = []
    for name in names[1:]:
        if INDEX.fullmatch(name) is None:
            plain.append(name)
            continue
        x, plain = _field(x, plain), []
        if not isinstance(x, list):
            x = _field(x, [name])
        elif (index := int(name)) < len(x):
            x = x[index]
        else:
            x = MISSING
    x = _field(x, plain)
    if x is MISSING or x is None or x == [] or x != x:  # noqa: PLR0124 (NaN)
        return LARGEST
    return min(map(order_key, x)) if isinstance(x, list) else order_key(x)


def _field(x: Any, names: Sequence[str]) -> Any:
    """Return the value at some names; that of a list is the list of the values of its dicts."""
    if not names:
        return x
    if isinstance(x, Mapping):
        return _field(x.get(names[0], MISSING), names[1:])
    if isinstance(x, list):
        found = [_field(each, names) for each in x if isinstance(each, Mapping)]
        return [each for each in found if each is not MISSING]
    return MISSING


def _descending(x: Any, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the keys of the values at some names, of which the largest one counts."""
    if not names:
        if isinstance(x, list):
            return [order_key(each) for each in x] or [UNDEFINED]
        return [order_key(x)]
    if isinstance(x, Mapping):
        return _descending(x.get(names[0], MISSING), names[1:])
    if not isinstance(x, list):
        return [NULL]
    if INDEX.fullmatch(names[0]) and int(names[0]) < len(x):
        return _descending(x[int(names[0])], names[1:])
    return [key for each in x for key in (_descending(each, names) if isinstance(each, Mapping) else [NULL])] or [NULL]
