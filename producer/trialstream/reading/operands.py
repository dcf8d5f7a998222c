"""Operands of queries: values, times, patterns and statuses in their stored form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from typing import Any

from trialstream_schemas.errors import InvalidType, InvalidValue, QueryError
from trialstream_schemas.messages import shown
from trialstream_schemas.model.forms import to_document
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.times import to_micros
from trialstream_schemas.model.values import check_text, value

__all__ = [
    "MAX_PATTERN",
    "list_operand",
    "literal_operand",
    "operators_of",
    "pattern_operand",
    "query_errors",
    "status_operand",
    "time_operand",
    "value_operand",
]

MAX_PATTERN = 4096
"""Maximum length of a pattern, characters."""
_STATUS_OPERATORS = ("$eq", "$ne", "$in", "$nin")
_STATUS_LISTS = ("$in", "$nin")
# The names under which documents have the status of a new trial: earlier versions stored null.
_CREATED = (Status.CreatedGroup.name, None)
# Name of each built-in status by its name in lower case.
_BUILT_IN = {name.lower(): name for name in Status.__members__}

# An escape, or a set of characters with its POSIX classes; `re` warns even of a set that has no end.
_ESCAPE_OR_SET = re.compile(r"\\.|\[\^?\]?(?:\[:\^?[a-z]+:\]|\\.|[^\]\\])*\]?", re.DOTALL)
_POSIX_CLASS = re.compile(r"\[:\^?[a-z]+:\]")
# Inside a set: an escape, or characters of which Python's `re` warns that a later version may read them differently.
_ESCAPE_OR_FUTURE = re.compile(r"\\.|\[|([-&~|])\1", re.DOTALL)


@contextmanager
def query_errors() -> Iterator[None]:
    """Raise the errors of value checks as `QueryError`."""
    try:
        yield
    except (InvalidType, InvalidValue) as error:
        raise QueryError(str(error)) from error


def operators_of(given: object) -> list[str]:
    """Return the keys of a condition that are operators; empty if the condition is not a dict."""
    if not isinstance(given, Mapping):
        return []
    return [key for key in given if isinstance(key, str) and key.startswith("$")]


def list_operand(given: object, where: str) -> Sequence[Any]:
    """Return the elements of a list, a tuple or a set.

    Args:
        given: The operand.
        where: Path and operator, for the message.

    Returns:
        The elements.

    Raises:
        QueryError: The operand has another type.
    """
    if not isinstance(given, (list, tuple, set, frozenset)):
        raise QueryError(f"{where}: expected a list, a tuple or a set, got {shown(given)}")
    return list(given)


def literal_operand(given: object, where: str, *, is_time: bool) -> Any:
    """Return a value that is not a dict of operators in its stored form.

    Args:
        given: The operand.
        where: Path and operator, for the message.
        is_time: Whether the path is that of a time.

    Returns:
        The stored form.

    Raises:
        QueryError: The operand cannot be stored at that path.
    """
    if operators := operators_of(given):
        raise QueryError(f"{where}: {operators[0]} is not allowed here; use $eq to match a dict with such a key")
    return time_operand(given, where) if is_time else value_operand(given, where)


def value_operand(given: object, where: str) -> Any:
    """Return a value in its stored form.

    Args:
        given: A value that can be logged, or a `datetime`.
        where: Path and operator, for the message.

    Returns:
        The stored form.

    Raises:
        QueryError: The operand is a numpy.datetime64, or a time that cannot be turned into UTC.
        InvalidType: The operand has another type that cannot be stored.
        InvalidValue: The operand is a value that cannot be stored.
    """
    if type(given).__name__ == "datetime64":  # its item() may be an int in any unit
        raise QueryError(f"{where}: expected a datetime, got numpy.datetime64")
    return _micros(given, where) if isinstance(given, datetime) else to_document(value(given, where))


def time_operand(given: object, where: str) -> int | None:
    """Return a time in its stored form.

    Args:
        given: A `datetime`, local time if it has no zone; ISO 8601 text, UTC if it has no zone; a `date`, which is its
            midnight in UTC; or None.
        where: Path and operator, for the message.

    Returns:
        Microseconds since 1970 UTC, or None.

    Raises:
        QueryError: The operand has another type, or is not a time.
    """
    match given:
        case None:
            return None
        case datetime():
            return _micros(given, where)
        case date():
            return _micros(datetime.combine(given, time(), UTC), where)
        case str():
            try:
                parsed = datetime.fromisoformat(given)
            except ValueError:
                raise QueryError(
                    f"{where}: expected an ISO 8601 time such as '2026-07-01T12:00:00Z', got {shown(given)}"
                ) from None
            return _micros(parsed.replace(tzinfo=parsed.tzinfo or UTC), where)
    raise QueryError(f"{where}: expected a datetime, a date, ISO 8601 text or None, got {type(given).__name__}")


def _micros(given: datetime, where: str) -> int:
    try:
        return to_micros(given)
    except (OverflowError, ValueError) as error:  # a local time at the edge of the range of datetime
        raise QueryError(f"{where}: {given} cannot be turned into UTC: {error}") from error


def pattern_operand(given: object, where: str) -> Any:
    """Check a regular expression.

    Args:
        given: Text, or a compiled pattern of text.
        where: Path and operator, for the message.

    Returns:
        The same object.

    Raises:
        QueryError: The operand is not a regular expression of text.
        InvalidValue: The text has a lone surrogate.
    """
    text = given.pattern if isinstance(given, re.Pattern) else given
    if not isinstance(text, str):
        raise QueryError(f"{where}: expected a str or a compiled pattern of str, got {shown(given)}")
    if len(text) > MAX_PATTERN:
        raise QueryError(f"{where}: expected a pattern of at most {MAX_PATTERN} characters, got {len(text)}")
    if "\0" in check_text(text, where):
        raise QueryError(f"{where}: a pattern cannot hold NUL: {shown(text)}")
    if isinstance(given, str):
        try:
            re.compile(_ESCAPE_OR_SET.sub(_unambiguous, given))
        except (re.error, OverflowError, RecursionError) as error:
            raise QueryError(f"{where}: {shown(given)} is not a regular expression: {error}") from error
    return given


def _unambiguous(found: re.Match[str]) -> str:
    """Rewrite a set of characters such that `re` accepts what PCRE accepts, without a `FutureWarning`."""
    if found[0].startswith("\\"):
        return found[0]
    plain = _POSIX_CLASS.sub(r"\\0", found[0][1:])
    return "[" + _ESCAPE_OR_FUTURE.sub(
        lambda part: part[0] if part[0].startswith("\\") else "".join(f"\\{each}" for each in part[0]), plain
    )


def status_operand(given: object) -> Any:
    """Translate the condition of a status to one of its name.

    Args:
        given: A `Status`, a `CustomStatus`, a name, None for `CreatedGroup`, a list of these, or a dict of operators.

    Returns:
        The condition of `status.name`.

    Raises:
        QueryError: The condition is not supported.
        InvalidValue: A name has a lone surrogate.
    """
    if isinstance(given, (list, tuple, set, frozenset)):
        return {"$in": _names_of(given, "status")}
    if not isinstance(given, Mapping):
        names = _names_of([given], "status")
        return {"$in": names} if len(names) > 1 else names[0]
    for operator in given or ["{}"]:
        if operator not in _STATUS_OPERATORS:
            allowed = ", ".join(_STATUS_OPERATORS)
            raise QueryError(
                f"status: {shown(operator)} is not supported, only {allowed}; query 'status.name' for others"
            )
    found: dict[str, list[str | None]] = {}
    for operator, x in given.items():
        where = f"status {operator}"
        names = _names_of(list_operand(x, where) if operator in _STATUS_LISTS else [x], where)
        if operator in ("$ne", "$nin"):
            found.setdefault("$nin", []).extend(names)
        else:  # `$eq` and `$in` together match a status that meets both
            found["$in"] = [name for name in found.get("$in", names) if name in names]
    return found


def _names_of(statuses: Iterable[object], where: str) -> list[str | None]:
    """Return all names under which documents have these statuses."""
    names: list[str | None] = []
    for each in statuses:
        name = _status_name(each, where)
        names.extend(_CREATED if name == Status.CreatedGroup.name else [name])
    return names


def _status_name(given: object, where: str) -> str:
    match given:
        case None:
            return Status.CreatedGroup.name
        case Status() | CustomStatus():
            return given.name
        case str():
            name = check_text(given, where)
            return _BUILT_IN.get(name.lower(), name)
    raise QueryError(f"{where}: expected a Status, its name or None, got {shown(given)}; codes are in 'status.code'")
