r"""From what users ask to what MongoDB is asked: a pure translation, checked at the call.

A query is a dict of paths and conditions, as MongoDB takes it, over the fields of the documents (`TRIAL_FIELDS` …).
What is allowed is listed here and all else is refused, so no query can run code on the server or name what is internal.

- Paths are dotted: `parameters.lr`, `metrics.loss.last`, `errors.0.type`. A dot that belongs to a key is written `\.`,
  a backslash `\\`; `path("parameters", "a.b")` does it. Keys are escaped as they are stored (`keys.escape_key`).
- Values are what can be logged (`values.value`); a `datetime` becomes the microseconds that are stored. A compiled
  pattern matches text. A dict without operators is equality with that dict, its keys in that order.
- `status` takes a `Status`, a `CustomStatus`, a name, None (none set), or a list of these; `uid` is the document's id.
- None matches null and missing. Fields such as `started` are always there, null until they are known: ask
  `{"started": {"$ne": None}}`, since `{"started": {"$exists": True}}` holds for every trial.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from difflib import get_close_matches
from reprlib import repr as shown
from typing import Any, TypeAlias

from trialstream_schemas.errors import InvalidType, InvalidValue, QueryError
from trialstream_schemas.model.forms import to_document
from trialstream_schemas.model.keys import escape_key
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.times import to_micros
from trialstream_schemas.model.values import INT64_MAX, check_text, value

__all__ = ["GROUP_FIELDS", "PROJECT_FIELDS", "TRIAL_FIELDS", "check_limit", "path", "sort_keys", "translate"]

Fields: TypeAlias = Mapping[str, str]

# Name of each field for users → its name in the document; beside uid they are the same.
_SHARED = ("name", "description", "metadata", "tags", "created")
_FOLDED = ("project_id", "state_version", "writers", "lost_events")
PROJECT_FIELDS: Fields = {"uid": "_id"} | {name: name for name in _SHARED}
GROUP_FIELDS: Fields = {"uid": "_id"} | {name: name for name in (*_SHARED, *_FOLDED)}
TRIAL_FIELDS: Fields = {"uid": "_id"} | {
    name: name
    for name in (
        *_SHARED,
        *_FOLDED,
        *("hash", "revision", "version", "group_id", "parameters", "metrics", "chronos", "open_chronos"),
        *("failed_chronos", "status", "errors", "errors_dropped", "starts", "started", "finished", "last_seen"),
        *("rows", "size"),
    )
}

_LOGICAL = ("$and", "$or", "$nor")
_LISTS = ("$in", "$nin", "$all")
_COMPARISONS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")
_CONDITIONS = (*_COMPARISONS, *_LISTS, "$not", "$exists", "$regex", "$elemMatch", "$size")
_STATUS_OPERATORS = ("$eq", "$ne", "$in", "$nin")
# MongoDB refuses match expressions deeper than 100 and BSON deeper than 200; values may add 64 (values.MAX_DEPTH).
_MAX_DEPTH = 32
_MAX_KEYS = 100  # of a path: MongoDB refuses 200, and no value is nested deeper than this
_MAX_SORT = 32  # MongoDB sorts by so many keys at most
_MAX_SIZE = 2**31 - 1  # MongoDB reads the operand of $size as an int32
_KEY = re.compile(r"(?:[^\\.]|\\[\\.$])*", re.DOTALL)


def translate(query: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """The query for MongoDB.

    Args:
        query: What the user asks; see the module.
        fields: `TRIAL_FIELDS`, `GROUP_FIELDS` or `PROJECT_FIELDS`.

    Raises:
        QueryError: an operator, a field, a path or an operand that is not supported; the message names it.
    """
    with _query_errors():
        return _query(query, fields, 0)


def sort_keys(sort: str | Sequence[str | tuple[str, int]] | None, fields: Fields) -> list[tuple[str, int]]:
    """The keys to sort by, for MongoDB; the uid comes last, so that the order is total.

    Args:
        sort: A path, `-path` for descending, or a list of these or of `(path, 1 | -1)`; by creation if not given.
        fields: As for `translate`.

    Raises:
        QueryError: it is none of these, or a field is unknown.
    """
    if isinstance(sort, str):
        sort = [sort]
    elif sort is not None and not isinstance(sort, (list, tuple)):
        raise QueryError(f"sort: a path or a list of paths is needed, not {type(sort).__name__}")
    found: dict[str, int] = {}
    for each in sort or ["created"]:
        match each:
            case str():
                name, direction = (each[1:], -1) if each.startswith("-") else (each, 1)
            case (str(name), int(direction)) if direction in (1, -1) and not isinstance(direction, bool):
                pass
            case _:
                raise QueryError(f"sort: 'path', '-path' or (path, 1 or -1) is needed, not {shown(each)}")
        with _query_errors():
            found.setdefault(_resolve(name, fields), direction)  # a path that comes again changes no order
    found.setdefault("_id", 1)
    if len(found) > _MAX_SORT:
        raise QueryError(f"sort: {len(found)} keys with the uid, and {_MAX_SORT} is the most")
    return list(found.items())


def check_limit(limit: int | None) -> int:
    """How many at most, for MongoDB: 0 is all.

    Raises:
        QueryError: it is no positive 64-bit int.
    """
    if limit is None:
        return 0
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 < limit <= INT64_MAX:
        raise QueryError(f"limit: a positive int is needed, not {shown(limit)}")
    return int(limit)


def path(*keys: str) -> str:
    r"""The path to a key, for queries and sorting: `path("parameters", "a.b")` is `parameters.a\.b`.

    Raises:
        QueryError: a key is no str.
    """
    for key in keys:
        if not isinstance(key, str):
            raise QueryError(f"path: keys must be str, not {type(key).__name__}")
    joined = ".".join(key.replace("\\", "\\\\").replace(".", "\\.") for key in keys)
    return "\\" + joined if joined.startswith("$") else joined  # inside $elemMatch it would look like an operator


def _query(query: object, fields: Fields | None, depth: int) -> dict[str, Any]:
    """A whole query; without fields its paths are relative to the element of a list."""
    if not isinstance(query, Mapping):
        raise QueryError(f"query: a dict is needed, not {type(query).__name__}")
    _check_depth(depth)
    clauses: list[dict[str, Any]] = []
    for key, given in query.items():
        if not isinstance(key, str):
            raise QueryError(f"query: keys must be paths or operators, not {key!r}")
        if key.startswith("$"):
            clauses.append({key: _queries(key, given, fields, depth)})
        elif key == "status" and fields and key in fields:
            clauses.append({_resolve(key, fields): _status(given)})
        else:
            clauses.append({_resolve(key, fields): _condition(given, key, depth)})
    merged = {key: given for clause in clauses for key, given in clause.items()}
    # `status` and `status.name` are one path in the document.
    return merged if len(merged) == len(clauses) else {"$and": clauses}


def _queries(operator: str, given: object, fields: Fields | None, depth: int) -> list[dict[str, Any]]:
    if operator in _CONDITIONS:
        hint = "; {'$nor': [query]} negates a query" if operator == "$not" else ""
        raise QueryError(f"{operator} belongs to a path: {{path: {{{operator!r}: ...}}}}{hint}")
    if operator not in _LOGICAL:
        raise _unsupported(operator)
    if not isinstance(given, (list, tuple)) or not given:
        raise QueryError(f"{operator}: a list of at least one query is needed, not {shown(given)}")
    return [_query(each, fields, depth + 1) for each in given]


def _condition(given: object, label: str, depth: int) -> Any:
    """What a path is to meet: a pattern, operators, or equality."""
    if isinstance(given, re.Pattern):
        return _pattern(given, label)
    if operators := _operators(given):
        assert isinstance(given, Mapping)
        if len(operators) < len(given):
            plain = next(key for key in given if key not in operators)
            raise QueryError(
                f"{label}: {operators[0]} and the key {plain!r} cannot stand in one dict; "
                "write {'$eq': {...}} for equality with a dict whose keys begin with $"
            )
        _check_depth(depth)
        return {operator: _operand(operator, x, label, depth) for operator, x in given.items()}
    return _value(given, label)


def _operand(operator: str, given: Any, label: str, depth: int) -> Any:
    where = f"{label} {operator}"
    match operator:
        case "$eq" | "$ne":  # the only ones that take a dict as it is, whatever its keys
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
                raise QueryError(f"{where}: a dict of operators or a pattern is needed, not {shown(given)}")
            return _condition(given, where, depth + 1)
        case "$exists":
            if not isinstance(given, bool):
                raise QueryError(f"{where}: True or False is needed, not {shown(given)}")
            return given
        case "$size":
            n = _value(given, where)
            if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= _MAX_SIZE:
                raise QueryError(f"{where}: a length is needed, an int from 0 to {_MAX_SIZE}, not {shown(given)}")
            return n
        case "$regex":
            return _pattern(given, where)
        case "$elemMatch":
            if not isinstance(given, Mapping):
                raise QueryError(f"{where}: a dict of operators or a query is needed, not {shown(given)}")
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
    raise QueryError(f"{where}: a Status, its name or None is needed, not {shown(given)}; codes are in 'status.code'")


def _operators(given: object) -> list[str]:
    if not isinstance(given, Mapping):
        return []
    return [key for key in given if isinstance(key, str) and key.startswith("$")]


def _list(given: object, where: str) -> Sequence[Any]:
    if not isinstance(given, (list, tuple, set, frozenset)):
        raise QueryError(f"{where}: a list, a tuple or a set is needed, not {shown(given)}")
    return list(given)


def _literal(given: object, where: str) -> Any:
    if operators := _operators(given):
        raise QueryError(f"{where}: {operators[0]} cannot stand here; a dict with such a key is matched by $eq")
    return _value(given, where)


def _value(given: object, where: str) -> Any:
    """A value as it is stored."""
    if type(given).__name__ == "datetime64":  # its item() can be an int of any unit
        raise QueryError(f"{where}: a datetime is needed, not a numpy.datetime64")
    if not isinstance(given, datetime):
        return to_document(value(given, where))
    try:
        return to_micros(given)
    except (OverflowError, ValueError) as error:  # a local time at the edge of what datetime holds
        raise QueryError(f"{where}: {given} cannot be turned into UTC: {error}") from error


def _pattern(given: object, where: str) -> Any:
    text = given.pattern if isinstance(given, re.Pattern) else given
    if not isinstance(text, str):
        raise QueryError(f"{where}: a str or a compiled pattern of str is needed, not {shown(given)}")
    if "\0" in check_text(text, where):
        raise QueryError(f"{where}: a pattern cannot hold NUL: {text!r}")
    if isinstance(given, str):
        try:
            re.compile(given)
        except (re.error, OverflowError, RecursionError) as error:
            raise QueryError(f"{where}: {given!r} is no regular expression: {error}") from error
    return given


def _resolve(given: str, fields: Fields | None) -> str:
    """The path in the document; without fields it is relative to the element of a list."""
    keys = _split(given)
    if fields is None:
        return ".".join(map(escape_key, keys))
    first, *rest = keys
    if first not in fields:
        close = get_close_matches(first, fields, n=1)
        hint = f", did you mean {close[0]!r}?" if close else "."
        raise QueryError(f"{given!r}: there is no field {first!r}{hint} The fields are {', '.join(sorted(fields))}")
    if first == "status" and not rest:
        rest = ["name"]
    return ".".join([fields[first], *map(escape_key, rest)])


def _split(given: str) -> list[str]:
    if "\0" in check_text(given, "path"):
        raise QueryError(f"path: {given!r} holds NUL, and no key does")
    keys, at = [], 0
    while True:
        found = _KEY.match(given, at)
        assert found is not None  # it matches the empty text
        keys.append(re.sub(r"\\(.)", r"\1", found[0]))
        at = found.end()
        if at == len(given):
            break
        if given[at] != ".":
            raise QueryError(f"path: {given!r} has a lone backslash at {at}; trialstream.path() escapes keys")
        at += 1
    if len(keys) > _MAX_KEYS:
        raise QueryError(f"path: {shown(given)} has {len(keys)} keys, and {_MAX_KEYS} is the most")
    return keys


@contextmanager
def _query_errors() -> Iterator[None]:
    """What values.py says of a value is a QueryError here."""
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
    literal = "" if label == "query" else "; $eq takes dicts with keys like it"
    return QueryError(f"{label}: {operator} is not supported{hint}; a query can use {allowed}{literal}")
