r"""Queries: a pure translation of the queries that users write to MongoDB's form, with all checks.

A query is a dict of paths and conditions, in MongoDB's form, over the fields of the documents (`TRIAL_FIELDS` …). The
supported operators and fields are listed here and all others are refused, so no query can run code on the server or
read internal fields. MongoDB cannot end a query within one document, so the number of conditions and of patterns is
bounded (`MAX_CONDITIONS`, `MAX_PATTERNS`).

- Paths are dotted: `paths.py` describes them.
- Values are those that can be logged (`model.values.value`); a `datetime` becomes the stored microseconds. A compiled
  pattern matches text. A dict without operators means equality with that dict, its keys in that order.
- A field that holds a time takes a `datetime`, a `date`, ISO 8601 text or None, and no other type.
- `status` takes a `Status`, a `CustomStatus`, a name, None (the same as `CreatedGroup`), or a list of these; built-in
  names are accepted in any case. `CreatedGroup` also matches documents of earlier versions, which have null. `uid` is
  the id of the document.
- None matches null and missing fields. Fields such as `started` always exist, and are null at first: query
  `{"started": {"$ne": None}}`, since `{"started": {"$exists": True}}` matches every trial.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from trialstream_schemas.errors import QueryError
from trialstream_schemas.messages import shown
from trialstream_schemas.model.values import INT64_MAX

from trialstream.protocol import Sort
from trialstream.reading.checks import whole_number
from trialstream.reading.operands import (
    list_operand,
    literal_operand,
    operators_of,
    pattern_operand,
    query_errors,
    status_operand,
    time_operand,
    value_operand,
)
from trialstream.reading.paths import Fields, is_time, resolve
from trialstream.reading.sorting import Order, order

__all__ = [
    "MAX_CONDITIONS",
    "MAX_PATTERNS",
    "Find",
    "check_limit",
    "check_offset",
    "find",
    "translate",
]

_LOGICAL = ("$and", "$or", "$nor")
_LISTS = ("$in", "$nin", "$all")
_COMPARISONS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")
_CONDITIONS = (*_COMPARISONS, *_LISTS, "$not", "$exists", "$regex", "$elemMatch", "$size")
# MongoDB refuses match expressions deeper than 100 and BSON deeper than 200; values may add 64 (values.MAX_DEPTH).
_MAX_DEPTH = 32
_MAX_SIZE = 2**31 - 1  # MongoDB reads the operand of $size as an int32
MAX_CONDITIONS = 1000
"""Maximum number of conditions in a query: of paths, operators, and elements of `$all`."""
MAX_PATTERNS = 16
"""Maximum number of patterns in a query: each takes up to 50 ms for one text, at which PCRE ends it (measured)."""


class _Size:
    """Counts what a query has."""

    def __init__(self) -> None:
        self._conditions = 0
        self._patterns = 0

    def add(self, conditions: int, where: str) -> None:
        """Count conditions; raise `QueryError` if the query has too many."""
        self._conditions += conditions
        if self._conditions > MAX_CONDITIONS:
            raise QueryError(
                f"query: expected at most {MAX_CONDITIONS} conditions, got more at {where}: use $in for many values "
                "of one path, or several queries"
            )

    def add_pattern(self, where: str) -> None:
        """Count a pattern; raise `QueryError` if the query has too many."""
        self._patterns += 1
        if self._patterns > MAX_PATTERNS:
            raise QueryError(
                f"query: expected at most {MAX_PATTERNS} patterns, got more at {where}: join them by | into one"
            )


class Find(NamedTuple):
    """A checked query with its order and its limit, in MongoDB's form.

    Attributes:
        filter: The filter.
        order: The order of the documents.
        limit: Maximum number of documents; 0 for all.
        offset: Number of documents before them.
    """

    filter: dict[str, Any]
    order: Order
    limit: int
    offset: int = 0

    def stages(self, projection: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the stages of an aggregation, for an order with computed keys.

        Args:
            projection: The fields of the documents; None for all.

        Returns:
            The stages.
        """
        computed = self.order.computed
        return [
            {"$match": self.filter},
            {"$addFields": computed},
            {"$sort": dict(self.order.keys)},
            *([{"$skip": self.offset}] if self.offset else []),
            *([{"$limit": self.limit}] if self.limit else []),
            {"$project": projection} if projection else {"$unset": list(computed)},
        ]


def find(
    query: Mapping[str, Any] | None, fields: Fields, sort: Sort = None, limit: int | None = None, offset: int = 0
) -> Find:
    """Check and translate a query with its order and its limit.

    Args:
        query: As for `translate`; None matches all documents.
        fields: As for `translate`.
        sort: As for `sorting.sort_keys`.
        limit: As for `check_limit`.
        offset: As for `check_offset`.

    Returns:
        The parts in MongoDB's form.

    Raises:
        QueryError: An argument is not supported; the message names it.
    """
    filter_ = translate({} if query is None else query, fields)
    return Find(filter_, order(sort, fields), check_limit(limit), check_offset(offset))


def translate(query: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """Translate a query to MongoDB's form.

    Args:
        query: The user's query; see the module's docstring.
        fields: `TRIAL_FIELDS`, `GROUP_FIELDS` or `PROJECT_FIELDS`.

    Returns:
        The filter for MongoDB.

    Raises:
        QueryError: An operator, a field, a path or an operand is not supported; the message names it.
    """
    with query_errors():
        return _query(query, fields, "", 0, _Size())


def check_limit(limit: int | None) -> int:
    """Translate a limit to MongoDB's form.

    Args:
        limit: A positive integer of 64 bits, of any type; None for no limit.

    Returns:
        The limit; 0 for none.

    Raises:
        QueryError: The limit is neither a positive int of 64 bits nor None.
    """
    if limit is None:
        return 0
    number = whole_number(limit)
    if number is None or not 0 < number <= INT64_MAX:
        raise QueryError(f"limit: expected a positive int, got {shown(limit)}")
    return number


def check_offset(offset: int) -> int:
    """Check a number of documents to leave out.

    Args:
        offset: 0 or a positive integer of 64 bits, of any type.

    Returns:
        The number as an int.

    Raises:
        QueryError: It is no such number.
    """
    number = whole_number(offset)
    if number is None or not 0 <= number <= INT64_MAX:
        raise QueryError(f"offset: expected 0 or a positive int, got {shown(offset)}")
    return number


def _query(query: object, fields: Fields | None, inside: str, depth: int, count: _Size) -> dict[str, Any]:
    """Translate a whole query; if `fields` is None, its paths are relative to an element of the list at `inside`."""
    if not isinstance(query, Mapping):
        raise QueryError(f"query: expected a dict, got {type(query).__name__}")
    _check_depth(depth)
    clauses: list[dict[str, Any]] = []
    for key, given in query.items():
        if not isinstance(key, str):
            raise QueryError(f"query: expected paths or operators as keys, got {key!r}")
        count.add(1, shown(key))
        if key.startswith("$"):
            clauses.append({key: _queries(key, given, fields, inside, depth, count)})
        elif key == "status" and fields and key in fields:
            clauses.append({resolve(key, fields): status_operand(given)})
        else:
            stored = resolve(key, fields)
            clauses.append({stored: _condition(given, key, inside + stored, depth, count)})
    merged = {key: given for clause in clauses for key, given in clause.items()}
    # `status` and `status.name` are the same path in the document, and a dict holds it once only.
    return merged if len(merged) == len(clauses) else {"$and": clauses}


def _queries(
    operator: str, given: object, fields: Fields | None, inside: str, depth: int, count: _Size
) -> list[dict[str, Any]]:
    if operator in _CONDITIONS:
        hint = "; {'$nor': [query]} negates a query" if operator == "$not" else ""
        raise QueryError(f"{operator} belongs to a path: {{path: {{{operator!r}: ...}}}}{hint}")
    if operator not in _LOGICAL:
        raise _unsupported(operator)
    if not isinstance(given, (list, tuple)) or not given:
        raise QueryError(f"{operator}: expected a list of at least one query, got {shown(given)}")
    return [_query(each, fields, inside, depth + 1, count) for each in given]


def _condition(given: object, label: str, stored: str, depth: int, count: _Size) -> Any:
    """Translate the condition of a path, which is `stored` in the document: a pattern, operators, or equality."""
    if isinstance(given, re.Pattern):
        return _pattern(given, label, stored, count)
    if operators := operators_of(given):
        assert isinstance(given, Mapping)
        if len(operators) < len(given):
            plain = next(key for key in given if key not in operators)
            raise QueryError(
                f"{label}: {operators[0]} and the key {plain!r} are not allowed in one dict; "
                "use {'$eq': {...}} to match a dict whose keys begin with $"
            )
        _check_depth(depth)
        count.add(len(given), label)
        return {operator: _operand(operator, x, label, stored, depth, count) for operator, x in given.items()}
    return _value(given, label, stored)


def _operand(operator: str, given: Any, label: str, stored: str, depth: int, count: _Size) -> Any:
    where = f"{label} {operator}"
    match operator:
        case "$eq" | "$ne":  # only these take a dict as a plain value, with any keys
            return _value(given, where, stored)
        case "$gt" | "$gte" | "$lt" | "$lte":
            return literal_operand(given, where, is_time=is_time(stored))
        case "$in" | "$nin" | "$all":
            elements = list_operand(given, where)
            if operator == "$all":
                count.add(len(elements), where)
            return [
                _pattern(each, where, stored, count)
                if isinstance(each, re.Pattern)
                else literal_operand(each, where, is_time=is_time(stored))
                for each in elements
            ]
        case "$not":
            if not isinstance(given, re.Pattern) and not operators_of(given):
                raise QueryError(f"{where}: expected a dict of operators or a pattern, got {shown(given)}")
            return _condition(given, where, stored, depth + 1, count)
        case "$exists":
            if not isinstance(given, bool):
                raise QueryError(f"{where}: expected True or False, got {shown(given)}")
            return given
        case "$size":
            n = value_operand(given, where)
            if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= _MAX_SIZE:
                raise QueryError(f"{where}: expected a length from 0 to {_MAX_SIZE}, got {shown(given)}")
            return n
        case "$regex":
            return _pattern(given, where, stored, count)
        case "$elemMatch":
            if not isinstance(given, Mapping):
                raise QueryError(f"{where}: expected a dict of operators or a query, got {shown(given)}")
            if any(key in _CONDITIONS for key in given):
                return _condition(given, where, stored, depth + 1, count)
            return _query(given, None, f"{stored}.", depth + 1, count)
    if operator in _LOGICAL:
        raise QueryError(f"{where}: {operator} takes whole queries: {{{operator!r}: [{{{label!r}: ...}}, ...]}}")
    raise _unsupported(operator, label)


def _value(given: object, where: str, stored: str) -> Any:
    return time_operand(given, where) if is_time(stored) else value_operand(given, where)


def _pattern(given: object, where: str, stored: str, count: _Size) -> Any:
    count.add_pattern(where)
    if is_time(stored):
        raise QueryError(
            f"{where}: a time does not match a pattern; compare it with a datetime, a date or ISO 8601 text"
        )
    return pattern_operand(given, where)


def _check_depth(depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise QueryError(f"query: nested deeper than {_MAX_DEPTH} levels")


def _unsupported(operator: str, label: str = "query") -> QueryError:
    hint = "; write re.compile(text, flags), or (?i) in the pattern" if operator == "$options" else ""
    allowed = " ".join((*_CONDITIONS, *_LOGICAL))
    literal = "" if label == "query" else "; to match a dict with this key, use $eq"
    return QueryError(f"{label}: {operator} is not supported{hint}; a query can use {allowed}{literal}")
