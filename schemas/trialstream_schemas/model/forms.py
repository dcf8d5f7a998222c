"""The forms in which a value is stored: in Avro, in MongoDB and in JSON.

- Avro: a recursive record, since Avro unions have no name and so cannot refer to themselves.
- MongoDB: keys are escaped, so that dots and dollars in them are not mistaken for paths and operators.
- Strict JSON: keys are escaped too, and NaN, ±inf and bytes are tagged.

Every form restores the value exactly: types, bits of floats, and order of keys.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

from trialstream_schemas.model.keys import escape_key, unescape_key
from trialstream_schemas.model.values import Value

__all__ = [
    "PLAIN_TYPES",
    "from_avro",
    "from_document",
    "from_json",
    "is_json_tag",
    "to_avro",
    "to_document",
    "to_json",
    "values_from_document",
]


# --- Avro


def to_avro(x: Value) -> dict[str, Any]:
    """Convert a value to the Avro record `trialstream.Value`."""
    match x:
        case list():
            return {"value": [to_avro(each) for each in x]}
        case dict():
            return {"value": {key: to_avro(each) for key, each in x.items()}}
    return {"value": x}


def from_avro(record: Mapping[str, Any]) -> Value:
    """Convert an Avro record `trialstream.Value` to the value."""
    x = record["value"]
    match x:
        case list():
            return [from_avro(each) for each in x]
        case dict():
            return {key: from_avro(each) for key, each in x.items()}
    return x  # type: ignore[no-any-return]


# --- MongoDB


PLAIN_TYPES = frozenset({type(None), bool, int, float, str, bytes})
"""Types of values that the driver returns as they were stored; it returns a large integer as a `bson.Int64`."""


def to_document(x: Value) -> Any:
    """Convert a value to its form in MongoDB: keys of dicts are escaped."""
    if type(x) in PLAIN_TYPES:  # the fast path: nearly all of the state of an aggregator
        return x
    match x:
        case list():
            return [to_document(each) for each in x]
        case dict():
            return {escape_key(key): to_document(each) for key, each in x.items()}
    return x


def from_document(x: Any) -> Value:
    """Convert the form in MongoDB to the value."""
    if type(x) in PLAIN_TYPES:  # the fast path: a fetch of 50 trials calls this 2,000 times
        return x  # type: ignore[no-any-return]
    match x:
        case list():
            return [from_document(each) for each in x]
        case dict():
            return values_from_document(x)
        case int():
            return int(x)
    return x  # type: ignore[no-any-return]


def values_from_document(x: Mapping[str, Any]) -> dict[str, Value]:
    """Convert the form in MongoDB of a dict to the dict."""
    return {unescape_key(key): each if type(each) in PLAIN_TYPES else from_document(each) for key, each in x.items()}


# --- JSON

# Keys of users are escaped, so none of them is a tag.
_FLOAT_TAG, _BYTES_TAG = "%float", "%bytes"


def is_json_tag(x: object) -> bool:
    """Whether a JSON value is a tagged scalar of `to_json`."""
    return isinstance(x, dict) and len(x) == 1 and next(iter(x)) in (_FLOAT_TAG, _BYTES_TAG)


def to_json(x: Value) -> Any:
    """Convert a value to its form in strict JSON: keys of dicts are escaped.

    NaN and ±inf, which RFC 8259 does not have, become `{"%float": "nan"}`, and bytes become `{"%bytes": "<base64>"}`.
    """
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
    """Convert the form in strict JSON to the value."""
    match x:
        case list():
            return [from_json(each) for each in x]
        case dict() if is_json_tag(x):
            [(tag, text)] = x.items()
            return float(text) if tag == _FLOAT_TAG else base64.b64decode(text)
        case dict():
            return {unescape_key(key): from_json(each) for key, each in x.items()}
    return x  # type: ignore[no-any-return]
