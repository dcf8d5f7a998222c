"""Sort keys of reads, in MongoDB's form: values that are missing or NaN come last in either direction.

MongoDB orders null, missing values and empty lists before NaN, and NaN before all other numbers. A descending sort
therefore has them last as it is. An ascending sort uses a computed key for each path whose value can be missing, null
or NaN. Sorts by fields that always have a value, such as `created`, need no computed key, and can use an index.
"""

from __future__ import annotations

import itertools
import math
import re
from typing import Any, NamedTuple

from bson.max_key import MaxKey
from trialstream_schemas.errors import QueryError
from trialstream_schemas.messages import shown

from trialstream.protocol import Sort
from trialstream.reading.checks import whole_number
from trialstream.reading.operands import query_errors
from trialstream.reading.paths import Fields, resolve

__all__ = ["OLDEST_FIRST", "Order", "order", "sort_keys"]

OLDEST_FIRST = [("created", 1), ("_id", 1)]
"""Sort keys of reads for which the caller gives none."""

_MAX_KEYS = 32  # MongoDB sorts by 32 keys at most
# Paths in a document that are neither missing nor null nor NaN.
_ALWAYS_SET = frozenset(
    {
        *("_id", "hash", "revision", "name", "description", "created", "errors_dropped", "starts", "lost_events"),
        *("state_version", "rows", "size"),
    }
)
# A key that may be the index of a list.
_INDEX = re.compile(r"0|[1-9]\d{0,8}")
# Each index and the keys after it nest the expression six levels deeper, and MongoDB refuses more than 200.
_MAX_INDEXES = 16


class Order(NamedTuple):
    """Sort keys in MongoDB's form.

    Attributes:
        keys: Paths and directions.
        computed: Expressions of the keys that are computed before the sort, by their names in `keys`.
    """

    keys: list[tuple[str, int]]
    computed: dict[str, Any]


def order(sort: Sort, fields: Fields) -> Order:
    """Translate sort keys to MongoDB's form, such that missing values and NaN come last.

    Args:
        sort: As for `sort_keys`.
        fields: As for `sort_keys`.

    Returns:
        The order.

    Raises:
        QueryError: As for `sort_keys`; or a path has more than 16 keys that may be indexes of lists.
    """
    keys: list[tuple[str, int]] = []
    computed: dict[str, Any] = {}
    for path, direction in sort_keys(sort, fields):
        key = path
        if direction == 1 and path not in _ALWAYS_SET:
            key = f"%{len(computed)}"  # no field of a document has such a name
            computed[key] = _last_if_missing(_value(path))
        keys.append((key, direction))
    return Order(keys, computed)


def sort_keys(sort: Sort, fields: Fields) -> list[tuple[str, int]]:
    """Check sort keys and translate their paths. The uid is always the last key, so that the order is total.

    Args:
        sort: A path, `-path` for descending, or a list of these or of `(path, 1 | -1)`; None sorts by creation.
        fields: `TRIAL_FIELDS`, `GROUP_FIELDS` or `PROJECT_FIELDS`.

    Returns:
        Paths in the document, each with 1 or -1.

    Raises:
        QueryError: The sort keys have an unsupported form, are too many, or name an unknown field.
    """
    if isinstance(sort, str):
        sort = [sort]
    elif sort is not None and not isinstance(sort, (list, tuple)):
        raise QueryError(f"sort: expected a path or a list of paths, got {type(sort).__name__}")
    found: dict[str, int] = {}
    for each in sort or ["created"]:
        match each:
            case str():
                name, direction = (each[1:], -1) if each.startswith("-") else (each, 1)
            case (str(name), given) if (direction := whole_number(given) or 0) in (1, -1):
                pass
            case _:
                raise QueryError(f"sort: expected 'path', '-path' or (path, 1 or -1), got {shown(each)}")
        with query_errors():
            found.setdefault(resolve(name, fields), direction)  # a repeated path does not change the order
    found.setdefault("_id", 1)
    if len(found) > _MAX_KEYS:
        raise QueryError(f"sort: expected at most {_MAX_KEYS} keys including the uid, got {len(found)}")
    return list(found.items())


def _value(path: str) -> Any:
    """Return the expression of the value at a path, where a number is the index of a list or the key of a dict."""
    first, *rest = path.split(".")
    if sum(_INDEX.fullmatch(key) is not None for key in rest) > _MAX_INDEXES:
        raise QueryError(f"sort: expected at most {_MAX_INDEXES} numbers in a path, got {shown(path)}")
    value: Any = f"${first}"
    for is_index, keys in itertools.groupby(rest, key=lambda key: _INDEX.fullmatch(key) is not None):
        if is_index:
            for key in keys:
                element = {"$arrayElemAt": ["$$x", int(key)]}
                value = _let(value, {"$cond": [{"$isArray": ["$$x"]}, element, f"$$x.{key}"]})
        else:
            below = ".".join(keys)
            value = f"{value}.{below}" if isinstance(value, str) else _let(value, f"$$x.{below}")
    return value


def _let(value: Any, within: Any) -> Any:
    return {"$let": {"vars": {"x": value}, "in": within}}


def _last_if_missing(value: Any) -> Any:
    """Return the expression of an ascending sort key: a value as it is; missing, null, empty or NaN, the largest."""
    nothing = {"$in": [{"$ifNull": [value, math.nan]}, [math.nan, []]]}
    return {"$cond": [nothing, MaxKey(), value]}
