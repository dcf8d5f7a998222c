"""The order of values in MongoDB, on the plain values of documents.

Values of different types are ordered by their types: null, numbers, text, dicts, lists, bytes, bools. Numbers are
compared by their value, whatever their type, and NaN is the smallest one. True is no number.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["LARGEST", "MISSING", "UNDEFINED", "order_key", "type_rank"]

MISSING: Final = object()
"""Stands for the value of a field that a document lacks."""

# The keys of values that no document has.
UNDEFINED: Final = (0,)
LARGEST: Final = (127,)

_RANKS = {type(None): 5, int: 10, float: 10, str: 15, dict: 20, list: 25, bytes: 30, bool: 40}
_NULL = (_RANKS[type(None)],)


def type_rank(x: Any) -> int:
    """Return the rank of a value's type; values are compared only if it is the same."""
    return _NULL[0] if x is MISSING else _RANKS[type(x)]


def order_key(x: Any) -> tuple[Any, ...]:
    """Return the sort key of a value; equal values have equal keys, and a missing value has that of null.

    Args:
        x: A plain value of a document.
    """
    rank = type_rank(x)
    match x:
        case bool() | str():
            return rank, x
        case int() | float():
            return (rank, 1, x) if x == x else (rank, 0)  # noqa: PLR0124 (NaN differs from itself)
        case bytes():
            return rank, len(x), x
        case list():
            return rank, [order_key(each) for each in x]
        case dict():  # the order of the keys counts, and the type of a value before its key
            return rank, [(type_rank(each), key, order_key(each)) for key, each in x.items()]
    return _NULL
