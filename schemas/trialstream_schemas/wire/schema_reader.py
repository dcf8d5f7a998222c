"""Reads schemas that anybody may have written, at a bounded cost.

A schema is data from outside, and what fastavro makes of it can be far larger than its text: records nested two by two
and 60 deep are 2**60 values, a decimal of 5,000,000 digits takes minutes, and a record without fields that take bytes
is made again for each byte of an array. So a schema is read in steps, each linear in the size of the text:

1. the text has `MAX_SCHEMA_BYTES` at most, and its types are nested `_MAX_DEPTH` levels at most;
2. of each type only what decoding needs is kept: docs, defaults, aliases, logical types and anything else are dropped,
   before fastavro sees the schema. (Its canonical form, and so its fingerprint, lacks them too.)
3. a datum of any of its types has at most `MAX_SCHEMA_VALUES` values before the next byte that it reads, and the items
   of each array take a byte at least. `reader.py` counts the rest while it steps over an event.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from fastavro.schema import fingerprint as fastavro_fingerprint
from fastavro.schema import parse_schema, to_parsing_canonical_form

from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.limits import MAX_RECORD_BYTES

__all__ = ["MAX_SCHEMA_BYTES", "MAX_SCHEMA_VALUES", "Expansions", "ReadSchema", "fingerprint", "read_schema"]

MAX_SCHEMA_BYTES = 64 * 1024
"""Maximum size of the JSON of a schema, bytes; the largest of this version has 4,000."""

MAX_SCHEMA_VALUES = 1000
"""Maximum number of values of a datum before the next byte that it reads; this version's events have up to 20."""

# Levels of types within types; this version's schemas have up to 6.
_MAX_DEPTH = 32
# Maximum length of what an error quotes, characters: fastavro quotes whole schemas.
_QUOTED_CHARACTERS = 200


class ReadSchema(NamedTuple):
    """A schema that was read.

    Attributes:
        key: The fingerprint.
        name: Full name of a named type, or the kind of another type.
        canonical: The canonical form: equal for schemas that decode the same bytes to the same values.
        parsed: The schema as fastavro parsed it, with nothing but what decoding needs.
    """

    key: bytes
    name: str
    canonical: str
    parsed: Any


def fingerprint(schema: Any) -> bytes:
    """The eight bytes that name a schema on the wire: CRC-64-AVRO of its canonical form, little-endian."""
    return _crc(to_parsing_canonical_form(schema))


def _crc(canonical: str) -> bytes:
    # fastavro writes the digits in the order of the bytes, least significant first.
    return bytes.fromhex(fastavro_fingerprint(canonical, "CRC-64-AVRO"))


def read_schema(text: bytes) -> ReadSchema:
    """Read a schema.

    Args:
        text: JSON of the schema.

    Raises:
        SchemaError: The text is not an Avro schema, or too large, or nested too deep, or one of its types expands to
            too many values, contains itself, or is an array of items that take no bytes.
    """
    _check_size(len(text))
    try:
        given = json.loads(text)
        _check_size(len(json.dumps(given)))  # files hold this form of it
        parsed: Any = parse_schema(_plain(given, _MAX_DEPTH))
        Expansions(parsed)
        canonical = to_parsing_canonical_form(parsed)
        named = parsed if isinstance(parsed, dict) else {}
        return ReadSchema(_crc(canonical), str(named.get("name") or named.get("type") or parsed), canonical, parsed)
    except Exception as error:
        got = str(error) or repr(error)
        raise SchemaError(f"expected an Avro schema that can be read: {got[:_QUOTED_CHARACTERS]}") from error


def _check_size(size: int) -> None:
    if size > MAX_SCHEMA_BYTES:
        raise SchemaError(f"expected at most {MAX_SCHEMA_BYTES} bytes of JSON, got {size}")


def _plain(schema: Any, levels: int) -> Any:
    """Copy of a schema with nothing but what decoding needs, and so without anything that fastavro may expand."""
    if not levels:
        raise SchemaError(f"its types are nested more than {_MAX_DEPTH} levels deep")
    match schema:
        case str():
            return schema
        case list():
            if any([isinstance(each, list) for each in schema]):
                raise SchemaError("a union contains a union")
            return [_plain(each, levels - 1) for each in schema]
        case {"type": "array", "items": items}:
            return {"type": "array", "items": _plain(items, levels - 1)}
        case {"type": "map", "values": values}:
            return {"type": "map", "values": _plain(values, levels - 1)}
        case {"type": "record" | "error" as kind, "name": str(), "fields": list(fields)}:
            plain = [{"name": str(each["name"]), "type": _plain(each["type"], levels - 1)} for each in fields]
            return {"type": kind, **_names(schema), "fields": plain}
        case {"type": "enum", "name": str(), "symbols": list(symbols)}:
            return {"type": "enum", **_names(schema), "symbols": symbols}
        case {"type": "fixed", "name": str(), "size": int(size)}:
            if not 0 <= size <= MAX_RECORD_BYTES:
                raise SchemaError(f"fixed: expected a size of 0 to {MAX_RECORD_BYTES} bytes, got {size}")
            return {"type": "fixed", **_names(schema), "size": size}
        case {"type": str(kind)}:
            return {"type": kind}
    raise SchemaError(f"expected a type, got {type(schema).__name__}")


def _names(schema: dict[str, Any]) -> dict[str, str]:
    found = {key: schema[key] for key in ("name", "namespace") if schema.get(key) is not None}
    if not all([isinstance(each, str) for each in found.values()]):
        raise SchemaError("name and namespace: expected text")
    return found


class _Expansion(NamedTuple):
    """Minimum cost of a datum of a type.

    Attributes:
        values: Number of its values, the records among them, that depend on no byte: up to each index of a union, and
            to each count of an array or a map.
        takes_bytes: Whether it takes bytes at all.
    """

    values: int
    takes_bytes: bool


_ONE = _Expansion(1, takes_bytes=True)


class Expansions:
    """The number of values to which each type of a schema expands.

    Args:
        schema: A schema as `fastavro.parse_schema` returns it.

    Raises:
        SchemaError: A type expands to more than `MAX_SCHEMA_VALUES` values, contains itself, or is an array of items
            that take no bytes.
    """

    def __init__(self, schema: Any) -> None:
        # The named types by name, and what each expands to; None while that is being counted.
        self._defined: dict[str, Any] = {}
        self._counted: dict[str, _Expansion | None] = {}
        arrays: list[Any] = []
        self._collect(schema, arrays)
        for name in self._defined:
            self._of(name)
        if not all([self._of(items).takes_bytes for items in arrays]):
            raise SchemaError("the schema has an array of items that take no bytes")

    def values(self, schema: Any) -> int:
        """Number of the values of a datum up to its next index or count.

        Args:
            schema: The schema, or a part of it.
        """
        return self._of(schema).values

    def _collect(self, schema: Any, arrays: list[Any]) -> None:
        """Collect the named types, and the types of the items of arrays."""
        if isinstance(schema, str):
            return
        if isinstance(schema, list):
            parts = schema
        else:
            if "name" in schema:
                self._defined[schema["name"]] = schema
            if "items" in schema:
                arrays.append(schema["items"])
            parts = [schema[key] for key in ("items", "values") if key in schema]
            parts += [each["type"] for each in schema.get("fields", ())]
        for each in parts:
            self._collect(each, arrays)

    def _of(self, schema: Any) -> _Expansion:
        if isinstance(schema, dict) and "name" in schema:
            schema = schema["name"]
        if isinstance(schema, str):
            if schema not in self._defined:
                return _Expansion(1, takes_bytes=schema != "null")
            if schema in self._counted:
                known = self._counted[schema]
                if known is None:
                    raise SchemaError(f"{schema} contains itself, and not in a union, an array or a map")
                return known
            self._counted[schema] = None
            self._counted[schema] = made = self._of_definition(self._defined[schema])
            return made
        if isinstance(schema, dict) and schema["type"] not in ("array", "map"):
            return self._of(schema["type"])
        return _ONE

    def _of_definition(self, schema: Any) -> _Expansion:
        match schema["type"]:
            case "record" | "error":
                parts = [self._of(each["type"]) for each in schema["fields"]]
                total = 1 + sum([each.values for each in parts])
                if total > MAX_SCHEMA_VALUES:
                    raise SchemaError(
                        f"{schema['name']} expands to {total} values, and an event can have {MAX_SCHEMA_VALUES} of "
                        "one record"
                    )
                return _Expansion(total, any([each.takes_bytes for each in parts]))
            case "fixed":
                return _Expansion(1, schema["size"] > 0)
        return _ONE
