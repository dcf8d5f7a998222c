"""Values that users may log, and their checks, which are made once, at the log call.

A value is None, a bool, an integer of 64 bits, a float (NaN and ±inf too), text, bytes, or a list or a dict of values.
Tuples become lists, and scalars of numpy, torch and the like become Python scalars (`scalars.py`). Any other object is
an error, whose message has the path of the key. The stored forms of a value are in `forms.py`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, TypeAlias

from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.model.keys import escape_key
from trialstream_schemas.model.scalars import NUMBER, VALUE, scalar, wrong_type

__all__ = [
    "INT64_MAX",
    "INT64_MIN",
    "MAX_DEPTH",
    "MAX_NAME_BYTES",
    "MAX_VALUE_BYTES",
    "Value",
    "check_name",
    "check_optional_name",
    "check_text",
    "key_size",
    "number",
    "size",
    "value",
    "values",
]

# Types of values whose size does not depend on the value.
_FIXED = frozenset({type(None), bool, int, float})

Value: TypeAlias = "bool | int | float | str | bytes | list[Value] | dict[str, Value] | None"

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

MAX_VALUE_BYTES = 512 * 1024
"""Maximum size of a value, bytes, as `size` counts them: an event (`wire/limits.py`) has room for it and all else."""

MAX_NAME_BYTES = 1024
"""Maximum length of a name in UTF-8, bytes: names are repeated in every frame and in every document key."""

MAX_DEPTH = 64
"""Maximum nesting of lists and dicts in a value: MongoDB allows 100 levels, and a value begins a few levels down."""


def check_text(text: str, path: str) -> str:
    """Check a text.

    Args:
        text: The text.
        path: Name of the field, for the message.

    Returns:
        The text as a plain `str`.

    Raises:
        InvalidValue: The text has a lone surrogate, which neither Avro nor MongoDB can hold.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(f"{path}: expected Unicode text, got a lone surrogate at position {error.start}") from None
    return str.__str__(text)  # str() of a member of a string enum would be its name


def check_name(name: object, path: str) -> str:
    """Check a name, such as that of a trial or a metric, or a key.

    Args:
        name: The name.
        path: Name of the field, for the message.

    Returns:
        The name as a plain `str`.

    Raises:
        InvalidType: The name is not a string.
        InvalidValue: The name contains NUL or a lone surrogate, or is longer than `MAX_NAME_BYTES` in UTF-8.
    """
    if type(name) is str and len(name) <= MAX_NAME_BYTES and name.isascii() and "\0" not in name:
        return name  # most names
    if not isinstance(name, str):
        raise InvalidType(f"{path}: expected a str, got {type(name).__name__}")
    path = f"{path} {reprlib.repr(name)}"
    text = check_text(name, path)
    if "\0" in text:
        raise InvalidValue(f"{path}: expected a name without NUL")
    if len(text.encode()) > MAX_NAME_BYTES:
        raise InvalidValue(f"{path}: expected at most {MAX_NAME_BYTES} bytes in UTF-8, got {len(text.encode())}")
    return text


def check_optional_name(name: object, path: str) -> str | None:
    """Return a name as a plain `str`, or None for None; otherwise as `check_name`."""
    return None if name is None else check_name(name, path)


def number(x: Any, path: str) -> float:
    """Check a number.

    Args:
        x: An int, float or bool, or an object whose `item()` returns one.
        path: Name of the metric, for the message.

    Returns:
        The number as a float.

    Raises:
        InvalidType: The object is not a number.
        InvalidValue: The integer is too large for a double.
    """
    kind = type(x)
    if kind is float:
        return x  # type: ignore[no-any-return]
    if kind is not int and kind is not bool and not isinstance(x, (int, float)):
        x = scalar(x, path, NUMBER)
        if not isinstance(x, (int, float)):
            raise wrong_type(x, path, NUMBER)
    try:
        return float(x)
    except OverflowError:
        raise InvalidValue(f"{path}: expected a number that fits a double, got {_shorten(x)}") from None


def value(x: Any, path: str) -> Value:
    """Check a value.

    Args:
        x: The value.
        path: Name of the field, for the message.

    Returns:
        A copy of the value, of plain Python types.

    Raises:
        InvalidType: The value is or contains an object that cannot be logged.
        InvalidValue: The value contains NUL in a key, an integer beyond 64 bits or a lone surrogate, is nested deeper
            than `MAX_DEPTH`, or takes more than `MAX_VALUE_BYTES`.
    """
    plain = _value(x, path, 0)
    if isinstance(plain, (str, bytes, list, dict)) and (total := size(plain)) > MAX_VALUE_BYTES:
        raise InvalidValue(f"{path}: expected at most {MAX_VALUE_BYTES} bytes, got {total}")
    return plain


def values(given: Mapping[str, Any], path: str) -> dict[str, Value]:
    """Check names and values.

    Args:
        given: Values by name.
        path: Name of the field that holds them, for the message.

    Returns:
        A copy, of plain Python types.

    Raises:
        InvalidType: The argument is not a mapping, a name is not a string, or a value cannot be logged.
        InvalidValue: A name or a value cannot be stored (see `check_name` and `value`).
    """
    if not isinstance(given, Mapping):
        raise InvalidType(f"{path}: expected a dict, got {type(given).__name__}")
    return {check_name(key, f"{path}: key"): value(x, f"{path}.{key}") for key, x in given.items()}


def _value(x: Any, path: str, depth: int) -> Value:
    if x is None or x is True or x is False:
        return x
    if depth > MAX_DEPTH:
        raise InvalidValue(f"{path}: expected at most {MAX_DEPTH} levels of lists and dicts, got more")
    kind = type(x)
    if kind is float or (kind is int and INT64_MIN <= x <= INT64_MAX):
        return x  # type: ignore[no-any-return]
    match x:
        case int():
            if not INT64_MIN <= x <= INT64_MAX:
                raise InvalidValue(f"{path}: expected an integer of 64 bits, got {_shorten(x)}")
            return int(x)
        case float():
            return float(x)
        case str():
            return check_text(x, path)
        case bytes() | bytearray() | memoryview():
            return bytes(x)
        case list() | tuple():
            return [_value(each, f"{path}.{i}", depth + 1) for i, each in enumerate(x)]
        case Mapping():
            return {
                check_name(key, f"{path}: key"): _value(each, f"{path}.{key}", depth + 1) for key, each in x.items()
            }
    return _value(scalar(x, path, VALUE), path, depth + 1)


def _shorten(x: int) -> str:
    return str(x) if x.bit_length() < 256 else f"an integer of {x.bit_length()} bits"


def size(x: Value) -> int:
    """Upper bound of the bytes that a plain value takes in a document, by the rules of BSON (bsonspec.org)."""
    if type(x) in _FIXED:
        return 8
    match x:
        case dict():
            total = 5
            for key, each in x.items():
                total += 2 + key_size(key) + (8 if type(each) in _FIXED else size(each))
            return total
        case str():
            return 5 + (len(x) if x.isascii() else len(x.encode()))
        case list():
            return 5 + sum([8 + (8 if type(each) in _FIXED else size(each)) for each in x])
        case bytes():
            return 5 + len(x)
    return 8


def key_size(key: str) -> int:
    """Number of bytes that a user's key takes in a document, escapes included."""
    if key.isidentifier() and key.isascii():  # most keys, which have no escapes
        return len(key)
    return len(escape_key(key).encode())
