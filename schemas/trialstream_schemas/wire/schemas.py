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

from fastavro.schema import load_schema

from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.events import EVENTS, Event
from trialstream_schemas.wire.limits import MAX_SCHEMAS_BYTES
from trialstream_schemas.wire.schema_reader import fingerprint, read_schema

__all__ = [
    "EVENTS_BY_NAME",
    "FINGERPRINTS",
    "PARSED",
    "SCHEMAS",
    "check_fingerprint",
    "fingerprint",
    "schemas_from_json",
    "schemas_to_json",
]

_NAMESPACE = "trialstream"
# Bytes of a fingerprint: no more of a wrong key is quoted.
_KEY_BYTES = 8


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

    The fingerprint of each schema is computed and compared with its key.

    Raises:
        SchemaError: The text is too large, or not a JSON object of schemas by fingerprint, a schema cannot be read, or
            a key is not the fingerprint of its schema.
    """
    if len(text) > 2 * MAX_SCHEMAS_BYTES:  # with those of this version
        raise SchemaError(f"schemas: expected at most {2 * MAX_SCHEMAS_BYTES} bytes of JSON, got {len(text)}")
    try:
        found = {bytes.fromhex(key): _sorted_json(schema) for key, schema in json.loads(text).items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise SchemaError(f"schemas: expected a JSON object of schemas by fingerprint, got {text[:64]!r}") from error
    for key, schema in found.items():
        check_fingerprint(key, schema)
    return found


def check_fingerprint(key: bytes | None, text: bytes) -> None:
    """Check that a schema stands under its own fingerprint, since events are decoded by what stands under a key.

    Args:
        key: The key.
        text: JSON of the schema.

    Raises:
        SchemaError: The schema cannot be read, or the key is not its fingerprint.
    """
    if key is not None and SCHEMAS.get(key) == text:  # of this version, as nearly all are
        return
    found = read_schema(text)
    if found.key != key:
        got = "none" if key is None else key[:_KEY_BYTES].hex()
        raise SchemaError(f"the schema {found.name[:200]} has the fingerprint {found.key.hex()}, and its key is {got}")
