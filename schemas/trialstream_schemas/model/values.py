"""What users may log as a value: checked once at the call, the same everywhere after it.

A value is None, a bool, an integer of 64 bits, a float (NaN and ±inf too), text, bytes, or a list or a dict of values.
Tuples become lists, and scalars with an `item()` (numpy, torch) become what `item()` returns. All else is refused at
the call that brought it, with the path of the key.

The same value has four forms: the Python one; the Avro one (a recursive record, since Avro unions have no name); the
MongoDB one, whose keys are escaped so that dots and dollars in them cannot be mistaken for paths and operators; and a
strict JSON one, in which NaN, ±inf and bytes are tagged.
"""

from __future__ import annotations

import base64
import math
import re
import reprlib
from collections.abc import Mapping
from typing import Any, TypeAlias

from trialstream_schemas.errors import InvalidType, InvalidValue

__all__ = [
    "MAX_NAME_BYTES",
    "MAX_VALUE_BYTES",
    "Value",
    "check_name",
    "check_text",
    "escape_key",
    "from_avro",
    "from_document",
    "from_json",
    "is_json_tag",
    "key_size",
    "number",
    "size",
    "to_avro",
    "to_document",
    "to_json",
    "unescape_key",
    "value",
    "values",
]

Value: TypeAlias = "bool | int | float | str | bytes | list[Value] | dict[str, Value] | None"

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
# One event holds at most MAX_EVENT_BYTES (see events.py); a value and its envelope always fit into it.
MAX_VALUE_BYTES = 512 * 1024
# Names are repeated in every frame and in every document key.
MAX_NAME_BYTES = 1024
# MongoDB nests documents to 100 levels at most; ours begin a few levels down.
MAX_DEPTH = 64


def check_text(text: str, path: str) -> str:
    """Return the text as a plain `str`.

    Raises:
        InvalidValue: it has a lone surrogate, which neither Avro nor MongoDB can hold.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(f"{path}: the text has a lone surrogate at position {error.start}") from None
    return str.__str__(text)  # str() of a member of an enum of texts would be its name


def check_name(name: object, path: str) -> str:
    """Return a name (of a trial, a metric, a key) as a plain `str`.

    Raises:
        InvalidType: it is not a string.
        InvalidValue: it holds NUL or a lone surrogate, or is longer than `MAX_NAME_BYTES` in UTF-8.
    """
    if not isinstance(name, str):
        raise InvalidType(f"{path}: a name must be a str, not {type(name).__name__}")
    path = f"{path} {reprlib.repr(name)}"
    text = check_text(name, path)
    if "\0" in text:
        raise InvalidValue(f"{path}: a name cannot hold NUL")
    if len(text.encode()) > MAX_NAME_BYTES:
        raise InvalidValue(f"{path}: a name can have {MAX_NAME_BYTES} bytes at most, this one has {len(text.encode())}")
    return text


def number(x: Any, path: str) -> float:
    """Return a number as a float: int, float, bool, or anything whose `item()` is one of these.

    Raises:
        InvalidType: it is not a number; the message names it.
        InvalidValue: an integer too large for a double.
    """
    kind = type(x)
    if kind is float:
        return x  # type: ignore[no-any-return]
    if kind is not int and kind is not bool and not isinstance(x, (int, float)):
        x = _item(x, path, "a number")
        if not isinstance(x, (int, float)):
            raise InvalidType(f"{path}: a number is needed, not {type(x).__name__}")
    try:
        return float(x)
    except OverflowError:
        raise InvalidValue(f"{path}: the integer is too large for a double") from None


def value(x: Any, path: str) -> Value:
    """Return the value in its plain Python form.

    Raises:
        InvalidType: an object of a type that cannot be logged.
        InvalidValue: NUL in a key, an integer beyond 64 bits, a lone surrogate, nesting deeper than `MAX_DEPTH`,
            or more than `MAX_VALUE_BYTES` in all.
    """
    plain = _value(x, path, 0)
    total = size(plain)
    if total > MAX_VALUE_BYTES:
        raise InvalidValue(f"{path}: {total} bytes, and a value can have {MAX_VALUE_BYTES} at most")
    return plain


def values(given: Mapping[str, Any], path: str) -> dict[str, Value]:
    """Return a dict of names and values, each checked; `path` says whose they are.

    Raises:
        InvalidType: it is not a mapping, or see `value`.
        InvalidValue: see `value`.
    """
    if not isinstance(given, Mapping):
        raise InvalidType(f"{path}: a dict is needed, not {type(given).__name__}")
    return {check_name(key, f"{path}: key"): value(x, f"{path}.{key}") for key, x in given.items()}


def _item(x: Any, path: str, wanted: str) -> Any:
    item = getattr(x, "item", None)
    if item is None or not callable(item):
        raise InvalidType(f"{path}: {wanted} is needed, and a {type(x).__module__}.{type(x).__qualname__} is none")
    try:
        return item()
    except Exception as error:
        raise InvalidType(f"{path}: {wanted} is needed; item() of {type(x).__qualname__} failed: {error}") from error


def _value(x: Any, path: str, depth: int) -> Value:
    if x is None or x is True or x is False:
        return x
    if depth > MAX_DEPTH:
        raise InvalidValue(f"{path}: nested deeper than {MAX_DEPTH} levels")
    match x:
        case int():
            if not INT64_MIN <= x <= INT64_MAX:
                raise InvalidValue(f"{path}: the integer {_shorten(x)} does not fit 64 bits")
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
    item = _item(x, path, "a JSON-like value, bytes or a scalar")
    if type(item) is type(x):  # an item() that returns itself would never end
        raise InvalidType(f"{path}: objects of type {type(x).__module__}.{type(x).__qualname__} cannot be logged")
    return _value(item, path, depth + 1)


def _shorten(x: int) -> str:
    return str(x) if x.bit_length() < 256 else f"of {x.bit_length()} bits"


def size(x: Value) -> int:
    """Bytes that a plain value takes in a document, near enough to bound documents by (BSON's rules, bsonspec.org)."""
    match x:
        case str():
            return 5 + len(x.encode())
        case bytes():
            return 5 + len(x)
        case list():
            return 5 + sum(8 + size(each) for each in x)
        case dict():
            return 5 + sum(2 + key_size(key) + size(each) for key, each in x.items())
    return 8


def key_size(key: str) -> int:
    """Bytes that a user's key takes in a document: escapes are three times as long as what they stand for."""
    return len(escape_key(key).encode())


# --- Avro


def to_avro(x: Value) -> dict[str, Any]:
    """The record `trialstream.Value` that holds the value."""
    match x:
        case list():
            return {"value": [to_avro(each) for each in x]}
        case dict():
            return {"value": {key: to_avro(each) for key, each in x.items()}}
    return {"value": x}


def from_avro(record: Mapping[str, Any]) -> Value:
    """The value that a record `trialstream.Value` holds."""
    x = record["value"]
    match x:
        case list():
            return [from_avro(each) for each in x]
        case dict():
            return {key: from_avro(each) for key, each in x.items()}
    return x  # type: ignore[no-any-return]


# --- MongoDB

_UNESCAPES = {"%25": "%", "%2E": ".", "%24": "$"}
_ESCAPED = re.compile("|".join(_UNESCAPES))
# No escaped key is a lone '%': it stands for the empty key, which no dotted path could name.
_EMPTY = "%"


def escape_key(key: str) -> str:
    """The document key for a user's key: `%`, `.` and `$` are percent-encoded, the empty key becomes `%`."""
    return key.replace("%", "%25").replace(".", "%2E").replace("$", "%24") if key else _EMPTY


def unescape_key(key: str) -> str:
    """The user's key for a document key."""
    if "%" not in key:
        return key
    return "" if key == _EMPTY else _ESCAPED.sub(lambda found: _UNESCAPES[found[0]], key)


def to_document(x: Value) -> Any:
    """The value as MongoDB stores it: keys of dicts escaped."""
    match x:
        case list():
            return [to_document(each) for each in x]
        case dict():
            return {escape_key(key): to_document(each) for key, each in x.items()}
    return x


# What the driver reads as it is to be; of the rest, 64-bit integers are a class of its own.
_PLAIN = frozenset({type(None), bool, int, float, str, bytes})


def from_document(x: Any) -> Value:
    """The value that MongoDB stores."""
    if type(x) in _PLAIN:  # a fetch of 50 trials asks this 2,000 times
        return x  # type: ignore[no-any-return]
    match x:
        case list():
            return [from_document(each) for each in x]
        case dict():
            return {unescape_key(key): from_document(each) for key, each in x.items()}
        case int():
            return int(x)
    return x  # type: ignore[no-any-return]


# --- JSON

# Keys are escaped as for MongoDB, so no user's key looks like a tag.
_FLOAT_TAG, _BYTES_TAG = "%float", "%bytes"


def is_json_tag(x: object) -> bool:
    """Whether a JSON value is one of the tagged scalars that `to_json` makes."""
    return isinstance(x, dict) and len(x) == 1 and next(iter(x)) in (_FLOAT_TAG, _BYTES_TAG)


def to_json(x: Value) -> Any:
    """The value in strict JSON (RFC 8259 knows no NaN): `{"%float": "nan"}`, `{"%bytes": "<base64>"}`, keys escaped."""
    match x:
        case float() if not math.isfinite(x):
            return {_FLOAT_TAG: str(x)}
        case bytes():
            return {_BYTES_TAG: base64.b64encode(x).decode()}
        case list():
            return [to_json(each) for each in x]
        case dict():
            return {escape_key(key): to_json(each) for key, each in x.items()}
    return x


def from_json(x: Any) -> Value:
    """The value that `to_json` made the JSON of."""
    match x:
        case list():
            return [from_json(each) for each in x]
        case dict() if is_json_tag(x):
            [(tag, text)] = x.items()
            return float(text) if tag == _FLOAT_TAG else base64.b64decode(text)
        case dict():
            return {unescape_key(key): from_json(each) for key, each in x.items()}
    return x  # type: ignore[no-any-return]
