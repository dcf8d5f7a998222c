"""The Avro schemas of the events: those of this version, their fingerprints, and their form as JSON.

A schema is named by the CRC-64-AVRO fingerprint of its canonical form
(https://avro.apache.org/docs/1.12.0/specification/#schema-fingerprints), which leaves out docs, defaults and logical
types. The schemas topic, the spool and an archive all keep schemas as JSON with sorted keys, so that equal schemas are
equal texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from fastavro.schema import fingerprint as fastavro_fingerprint
from fastavro.schema import load_schema, to_parsing_canonical_form

from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.events import EVENTS, Event

__all__ = [
    "EVENTS_BY_NAME",
    "FINGERPRINTS",
    "PARSED",
    "SCHEMAS",
    "check_items_take_bytes",
    "fingerprint",
    "schemas_from_json",
    "schemas_to_json",
]

_NAMESPACE = "trialstream"


def fingerprint(schema: Any) -> bytes:
    """The eight bytes that name a schema on the wire: CRC-64-AVRO of its canonical form, little-endian."""
    # fastavro writes the digits in the order of the bytes, least significant first.
    return bytes.fromhex(fastavro_fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def _load(name: str) -> Any:
    # load_schema finds the named types of a schema in the files beside it.
    return load_schema(str(files("trialstream_schemas").joinpath("avro", f"{_NAMESPACE}.{name}.avsc")))


def _text(schema: Any) -> bytes:
    """JSON of a schema, without the entries that fastavro added while parsing."""
    return _sorted_json({key: each for key, each in schema.items() if not key.startswith("__")})


def _sorted_json(schema: Any) -> bytes:
    return json.dumps(schema, sort_keys=True).encode()


EVENTS_BY_NAME: dict[str, type[Event]] = {f"{_NAMESPACE}.{event.__name__}": event for event in EVENTS}
"""The events of this version by the full name of their schema."""

PARSED: dict[type[Event], Any] = {event: _load(event.__name__) for event in EVENTS}
"""Event → its schema of this version, as fastavro parsed it."""

FINGERPRINTS: dict[type[Event], bytes] = {event: fingerprint(schema) for event, schema in PARSED.items()}
"""Event → the fingerprint of its schema of this version."""

SCHEMAS: dict[bytes, bytes] = {FINGERPRINTS[event]: _text(schema) for event, schema in PARSED.items()}
"""The schemas that this version writes: fingerprint → JSON, in the form that is published to the schemas topic."""


def schemas_to_json(texts: Mapping[bytes, bytes]) -> str:
    """Join schemas in one JSON object, for the metadata of a file: fingerprint in hexadecimal digits → schema.

    Args:
        texts: Fingerprint → JSON of the schema, such as `SCHEMAS`.
    """
    return json.dumps({key.hex(): json.loads(text) for key, text in texts.items()})


def schemas_from_json(text: str | bytes) -> dict[bytes, bytes]:
    """Split a JSON object that `schemas_to_json` made into its schemas: fingerprint → JSON of the schema.

    Raises:
        SchemaError: The text is not a JSON object of schemas by fingerprint.
    """
    try:
        return {bytes.fromhex(key): _sorted_json(schema) for key, schema in json.loads(text).items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise SchemaError(f"schemas: expected a JSON object of schemas by fingerprint, got {text[:64]!r}") from error


def check_items_take_bytes(schema: Any) -> None:
    """Check that the items of each array take at least a byte each: otherwise five bytes could claim millions of items.

    Args:
        schema: A schema as `fastavro.parse_schema` returns it.

    Raises:
        SchemaError: The schema has an array of items that take no bytes.
    """
    _check_arrays(schema, {})


def _check_arrays(schema: Any, named: dict[str, bool]) -> bool:
    """Check the arrays in a schema; return whether a datum of the schema takes no bytes.

    Args:
        schema: The schema, or a part of it.
        named: Name of a type → whether a datum of the type takes no bytes; gets the types that the schema defines.
    """
    if isinstance(schema, str):
        return named.get(schema, schema == "null")
    if isinstance(schema, list):
        for each in schema:
            _check_arrays(each, named)
        return False
    match schema["type"]:
        case "array":
            if _check_arrays(schema["items"], named):
                raise SchemaError("the schema has an array of items that take no bytes")
            return False
        case "map":
            _check_arrays(schema["values"], named)
            return False
        case "record" | "error":
            named[schema["name"]] = False  # a record can contain itself only in a union, an array or a map
            # `all` of a list, since `all` of a generator would leave out the fields after the first False.
            named[schema["name"]] = all([_check_arrays(field["type"], named) for field in schema["fields"]])
            return named[schema["name"]]
        case "fixed":
            named[schema["name"]] = schema["size"] == 0
            return named[schema["name"]]
        case "enum":
            return False
        case kind:
            return _check_arrays(kind, named)
