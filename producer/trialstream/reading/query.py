r"""Queries: a pure translation of the queries that users write to MongoDB's form, with all checks.

A query is a dict of paths and conditions, in MongoDB's form, over the fields of the documents (`TRIAL_FIELDS` …). The
supported operators and fields are listed here and all others are refused, so no query can run code on the server or
read internal fields.

- Paths are dotted: `paths.py` describes them.
- Values are those that can be logged (`model.values.value`); a `datetime` becomes the stored microseconds. A compiled
  pattern matches text. A dict without operators means equality with that dict, its keys in that order.
- `status` takes a `Status`, a `CustomStatus`, a name, None (no status set), or a list of these; `uid` is the id of the
  document.
- None matches null and missing fields. Fields such as `started` always exist, and are null at first: query
  `{"started": {"$ne": None}}`, since `{"started": {"$exists": True}}` matches every trial.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from reprlib import repr as shown
from typing import Any, NamedTuple

from trialstream_schemas.errors import InvalidType, InvalidValue, QueryError
from trialstream_schemas.model.forms import to_document
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.times import to_micros
from trialstream_schemas.model.values import INT64_MAX, check_text, value

from trialstream.protocol import Sort
from trialstream.reading.paths import Fields, resolve

__all__ = [
    "Find",
    "check_limit",
    "find",
    "sort_keys",
    "translate",
]

_LOGICAL = ("$and", "$or", "$nor")
_LISTS = ("$in", "$nin", "$all")
_COMPARISONS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")
_CONDITIONS = (*_COMPARISONS, *_LISTS, "$not", "$exists", "$regex", "$elemMatch", "$size")
_STATUS_OPERATORS = ("$eq", "$ne", "$in", "$nin")
# MongoDB refuses match expressions deeper than 100 and BSON deeper than 200; values may add 64 (values.MAX_DEPTH).
_MAX_DEPTH = 32
_MAX_SORT = 32  # MongoDB sorts by 32 keys at most
_MAX_SIZE = 2**31 - 1  # MongoDB reads the operand of $size as an int32


class Find(NamedTuple):
    """A checked query with its order and its limit, in MongoDB's form.

    Attributes:
        filter: The filter.
        sort: Keys and directions.
        limit: Maximum number of documents; 0 for all.
    """

    filter: dict[str, Any]
    sort: list[tuple[str, int]]
    limit: int


def find(query: Mapping[str, Any] | None, fields: Fields, sort: Sort = None, limit: int | None = None) -> Find:
    """Check and translate a query with its order and its limit.

    Args:
        query: As for `translate`; None matches all documents.
        fields: As for `translate`.
        sort: As for `sort_keys`.
        limit: As for `check_limit`.

    Returns:
        The parts in MongoDB's form.

    Raises:
        QueryError: An argument is not supported; the message names it.
    """
    return Find(translate({} if query is None else query, fields), sort_keys(sort, fields), check_limit(limit))


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
    with _query_errors():
        return _query(query, fields, 0)


def sort_keys(sort: Sort, fields: Fields) -> list[tuple[str, int]]:
    """Translate sort keys to MongoDB's form. The uid is always the last key, so that the order is total.

    Args:
        sort: A path, `-path` for descending, or a list of these or of `(path, 1 | -1)`; None sorts by creation.
        fields: As for `translate`.

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
            case (str(name), int(direction)) if direction in (1, -1) and not isinstance(direction, bool):
                pass
            case _:
                raise QueryError(f"sort: expected 'path', '-path' or (path, 1 or -1), got {shown(each)}")
        with _query_errors():
            found.setdefault(resolve(name, fields), direction)  # a repeated path does not change the order
    found.setdefault("_id", 1)
    if len(found) > _MAX_SORT:
        raise QueryError(f"sort: expected at most {_MAX_SORT} keys including the uid, got {len(found)}")
    return list(found.items())


def check_limit(limit: int | None) -> int:
    """Translate a limit to MongoDB's form.

    Args:
        limit: A positive int of 64 bits; None for no limit.

    Returns:
        The limit; 0 for none.

    Raises:
        QueryError: The limit is neither a positive int of 64 bits nor None.
    """
    if limit is None:
        return 0
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 < limit <= INT64_MAX:
        raise QueryError(f"limit: expected a positive int, got {shown(limit)}")
    return int(limit)


def _query(query: object, fields: Fields | None, depth: int) -> dict[str, Any]:
    """Translate a whole query; if `fields` is None, its paths are relative to the element of a list."""
    if not isinstance(query, Mapping):
        raise QueryError(f"query: expected a dict, got {type(query).__name__}")
    _check_depth(depth)
    clauses: list[dict[str, Any]] = []
    for key, given in query.items():
        if not isinstance(key, str):
            raise QueryError(f"query: expected paths or operators as keys, got {key!r}")
        if key.startswith("$"):
            clauses.append({key: _queries(key, given, fields, depth)})
        elif key == "status" and fields and key in fields:
            clauses.append({resolve(key, fields): _status(given)})
        else:
            clauses.append({resolve(key, fields): _condition(given, key, depth)})
    merged = {key: given for clause in clauses for key, given in clause.items()}
    # `status` and `status.name` are the same path in the document, and a dict holds it once only.
    return merged if len(merged) == len(clauses) else {"$and": clauses}


def _queries(operator: str, given: object, fields: Fields | None, depth: int) -> list[dict[str, Any]]:
    if operator in _CONDITIONS:
        hint = "; {'$nor': [query]} negates a query" if operator == "$not" else ""
        raise QueryError(f"{operator} belongs to a path: {{path: {{{operator!r}: ...}}}}{hint}")
    if operator not in _LOGICAL:
        raise _unsupported(operator)
    if not isinstance(given, (list, tuple)) or not given:
        raise QueryError(f"{operator}: expected a list of at least one query, got {shown(given)}")
    return [_query(each, fields, depth + 1) for each in given]


def _condition(given: object, label: str, depth: int) -> Any:
    """Translate the condition of a path: a pattern, operators, or equality."""
    if isinstance(given, re.Pattern):
        return _pattern(given, label)
    if operators := _operators(given):
        assert isinstance(given, Mapping)
        if len(operators) < len(given):
            plain = next(key for key in given if key not in operators)
            raise QueryError(
                f"{label}: {operators[0]} and the key {plain!r} are not allowed in one dict; "
                "use {'$eq': {...}} to match a dict whose keys begin with $"
            )
        _check_depth(depth)
        return {operator: _operand(operator, x, label, depth) for operator, x in given.items()}
    return _value(given, label)


def _operand(operator: str, given: Any, label: str, depth: int) -> Any:
    where = f"{label} {operator}"
    match operator:
        case "$eq" | "$ne":  # only these take a dict as a plain value, with any keys
            return _value(given, where)
        case "$gt" | "$gte" | "$lt" | "$lte":
            return _literal(given, where)
        case "$in" | "$nin" | "$all":
            return [
                _pattern(each, where) if isinstance(each, re.Pattern) else _literal(each, where)
                for each in _list(given, where)
            ]
        case "$not":
            if not isinstance(given, re.Pattern) and not _operators(given):
                raise QueryError(f"{where}: expected a dict of operators or a pattern, got {shown(given)}")
            return _condition(given, where, depth + 1)
        case "$exists":
            if not isinstance(given, bool):
                raise QueryError(f"{where}: expected True or False, got {shown(given)}")
            return given
        case "$size":
            n = _value(given, where)
            if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= _MAX_SIZE:
                raise QueryError(f"{where}: expected a length from 0 to {_MAX_SIZE}, got {shown(given)}")
            return n
        case "$regex":
            return _pattern(given, where)
        case "$elemMatch":
            if not isinstance(given, Mapping):
                raise QueryError(f"{where}: expected a dict of operators or a query, got {shown(given)}")
            if any(key in _CONDITIONS for key in given):
                return _condition(given, where, depth + 1)
            return _query(given, None, depth + 1)
    if operator in _LOGICAL:
        raise QueryError(f"{where}: {operator} takes whole queries: {{{operator!r}: [{{{label!r}: ...}}, ...]}}")
    raise _unsupported(operator, label)


def _status(given: object) -> Any:
    if isinstance(given, (list, tuple, set, frozenset)):
        return {"$in": [_status_name(each, "status") for each in given]}
    if not isinstance(given, Mapping):
        return _status_name(given, "status")
    for operator in given or ["{}"]:
        if operator not in _STATUS_OPERATORS:
            allowed = ", ".join(_STATUS_OPERATORS)
            raise QueryError(f"status: {operator!r} is not supported, only {allowed}; query 'status.name' for others")
    return {
        operator: [_status_name(each, f"status {operator}") for each in _list(x, f"status {operator}")]
        if operator in _LISTS
        else _status_name(x, f"status {operator}")
        for operator, x in given.items()
    }


def _status_name(given: object, where: str) -> str | None:
    match given:
        case Status() | CustomStatus():
            return given.name
        case str():
            return check_text(given, where)
        case None:
            return None
    raise QueryError(f"{where}: expected a Status, its name or None, got {shown(given)}; codes are in 'status.code'")


def _operators(given: object) -> list[str]:
    if not isinstance(given, Mapping):
        return []
    return [key for key in given if isinstance(key, str) and key.startswith("$")]


def _list(given: object, where: str) -> Sequence[Any]:
    if not isinstance(given, (list, tuple, set, frozenset)):
        raise QueryError(f"{where}: expected a list, a tuple or a set, got {shown(given)}")
    return list(given)


def _literal(given: object, where: str) -> Any:
    if operators := _operators(given):
        raise QueryError(f"{where}: {operators[0]} is not allowed here; use $eq to match a dict with such a key")
    return _value(given, where)


def _value(given: object, where: str) -> Any:
    """Return a value in its stored form."""
    if type(given).__name__ == "datetime64":  # its item() may be an int in any unit
        raise QueryError(f"{where}: expected a datetime, got numpy.datetime64")
    if not isinstance(given, datetime):
        return to_document(value(given, where))
    try:
        return to_micros(given)
    except (OverflowError, ValueError) as error:  # a local time at the edge of the range of datetime
        raise QueryError(f"{where}: {given} cannot be turned into UTC: {error}") from error


def _pattern(given: object, where: str) -> Any:
    text = given.pattern if isinstance(given, re.Pattern) else given
    if not isinstance(text, str):
        raise QueryError(f"{where}: expected a str or a compiled pattern of str, got {shown(given)}")
    if "\0" in check_text(text, where):
        raise QueryError(f"{where}: a pattern cannot hold NUL: {text!r}")
    if isinstance(given, str):
        try:
            re.compile(given)
        except (re.error, OverflowError, RecursionError) as error:
            raise QueryError(f"{where}: {given!r} is not a regular expression: {error}") from error
    return given


@contextmanager
def _query_errors() -> Iterator[None]:
    """Raise the errors of value checks as `QueryError`."""
    try:
        yield
    except (InvalidType, InvalidValue) as error:
        raise QueryError(str(error)) from error


def _check_depth(depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise QueryError(f"query: nested deeper than {_MAX_DEPTH} levels")


def _unsupported(operator: str, label: str = "query") -> QueryError:
    hint = "; write re.compile(text, flags), or (?i) in the pattern" if operator == "$options" else ""
    allowed = " ".join((*_CONDITIONS, *_LOGICAL))
    literal = "" if label == "query" else "; to match a dict with this key, use $eq"
    return QueryError(f"{label}: {operator} is not supported{hint}; a query can use {allowed}{literal}")
