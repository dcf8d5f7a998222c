"""Events to bytes and back: Avro single-object encoding.

`C3 01`, the eight bytes of the schema's CRC-64-AVRO fingerprint (little-endian), the Avro body
(https://avro.apache.org/docs/1.12.0/specification/#single-object-encoding). Whoever writes a schema publishes it to the
schemas topic first, so a reader needs nothing beside the log. Events are decoded with the schema they were written with
and upcast here: fields that this version does not know are dropped, fields that the writer did not know take their
defaults, and what then does not fit this version's schema is an error. (Avro's own resolution would turn bytes in a
union into text: https://avro.apache.org/docs/1.12.0/specification/#schema-resolution takes the first branch that fits.)
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Self, TypeAlias

import fastavro
from fastavro.schema import parse_schema
from fastavro.validation import validate

from trialstream_schemas.errors import SchemaError, UnknownSchema
from trialstream_schemas.model import values
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.times import to_micros
from trialstream_schemas.wire.checker import checker
from trialstream_schemas.wire.events import EVENTS, Error, Event, MetricsLogged, StatusRecord
from trialstream_schemas.wire.frames import FRAME_FIELDS, decode_frame, encode_frame
from trialstream_schemas.wire.limits import MAX_RECORD_BYTES
from trialstream_schemas.wire.schemas import EVENTS_BY_NAME, PARSED, check_items_take_bytes, fingerprint

__all__ = ["HEADER_BYTES", "SchemaStore", "encode", "record_of"]

MAGIC = b"\xc3\x01"
HEADER_BYTES = 10
# From the bytes of a record and where its body begins to the event and where that ends.
_Reader: TypeAlias = Callable[[bytes, int], tuple[Event, int]]


_PREFIXES: dict[type[Event], bytes] = {event: MAGIC + fingerprint(schema) for event, schema in PARSED.items()}
_FRAME_PREFIX = _PREFIXES[MetricsLogged]


def _plain(event: type[Event]) -> Any:
    """The schema with which fastavro reads and writes an event of this version: times stay integers of microseconds."""
    schema = copy.deepcopy(PARSED[event])
    for each in schema["fields"]:
        if isinstance(each["type"], dict):
            each["type"].pop("logicalType", None)
    return schema


_PLAIN: dict[type[Event], Any] = {event: _plain(event) for event in EVENTS}
assert tuple(each["name"] for each in PARSED[MetricsLogged]["fields"]) == FRAME_FIELDS


def _values_to_avro(given: dict[str, values.Value]) -> dict[str, Any]:
    return {key: values.to_avro(each) for key, each in given.items()}


def _values_from_avro(record: dict[str, Any]) -> dict[str, values.Value]:
    return {key: values.from_avro(each) for key, each in record.items()}


def _aggregator_to_avro(lazy: AggregatorSpec) -> dict[str, Any]:
    return {"kind": lazy.kind, "argument": lazy.argument}


# By field name: how a field that is not plain is turned into Avro's form, and back.
_TO_AVRO: dict[str, Any] = {
    **dict.fromkeys(("parameters", "metadata", "tags", "values"), _values_to_avro),
    "aggregator": _aggregator_to_avro,
    "aggregators": lambda each: [_aggregator_to_avro(lazy) for lazy in each],
    "status": lambda status: {"name": status.name, "code": status.code},
    "error": lambda e: e and {"type": e.type, "message": e.message, "traceback": e.traceback},
}
_FROM_AVRO: dict[str, Any] = {
    **dict.fromkeys(("parameters", "metadata", "tags", "values"), _values_from_avro),
    "aggregator": lambda record: AggregatorSpec(record["kind"], record["argument"]),
    "aggregators": lambda records: [AggregatorSpec(record["kind"], record["argument"]) for record in records],
    "status": lambda record: StatusRecord(record["name"], record["code"]),
    "error": lambda record: record and Error(record["type"], record["message"], record["traceback"]),
    "time": lambda time: time if type(time) is int else to_micros(time),  # of other versions: see `_plain`
}


def _plan(event: type[Event], converters: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(each.name, converters.get(each.name)) for each in fields(event)]


_ENCODING = {event: _plan(event, _TO_AVRO) for event in EVENTS}
_DECODING = {event: _plan(event, _FROM_AVRO) for event in EVENTS}


def record_of(event: Event) -> dict[str, Any]:
    """The plain record that Avro writes."""
    record = {}
    for name, convert in _ENCODING[type(event)]:
        field = getattr(event, name)
        record[name] = convert(field) if convert else field
    return record


def encode(event: Event) -> bytes:
    """The event in single-object encoding.

    Raises:
        SchemaError: a field that the schema does not allow; callers check values before they make events.
    """
    try:
        if type(event) is MetricsLogged:
            return _FRAME_PREFIX + encode_frame(event)
        out = io.BytesIO()
        out.write(_PREFIXES[type(event)])
        fastavro.schemaless_writer(out, _PLAIN[type(event)], record_of(event), strict=True)
        return out.getvalue()
    except (TypeError, ValueError, OverflowError, AttributeError, UnicodeError) as error:
        raise SchemaError(f"{type(event).__name__} does not fit its schema: {error}") from error


class SchemaStore:
    """The schemas that are known by fingerprint: this version's, and those read from the schemas topic."""

    def __init__(self) -> None:
        # By fingerprint: the event and what reads it, or the name of one that this version does not know.
        self._known: dict[bytes, tuple[type[Event], _Reader] | str] = {
            _PREFIXES[event][2:]: (event, _reader_of(event, schema)) for event, schema in PARSED.items()
        }

    @classmethod
    def of(cls, texts: Mapping[bytes, bytes]) -> Self:
        """A store of this version's schemas and of others.

        Args:
            texts: Fingerprint → JSON of the schema, such as `schemas_from_json` returns.

        Raises:
            SchemaError: A text is not a schema that `add` takes.
        """
        store = cls()
        for text in texts.values():
            store.add(text)
        return store

    def __contains__(self, key: bytes) -> bool:
        return key in self._known

    def add(self, text: bytes) -> bytes:
        """Take a schema as it lies in the schemas topic and return its fingerprint.

        Raises:
            SchemaError: it is not an Avro schema, or one whose data could be of any size in a few bytes.
        """
        try:
            raw = json.loads(text)
            parsed = parse_schema(raw)
            key = fingerprint(raw)
            check_items_take_bytes(parsed)
            name = str(parsed.get("name") if isinstance(parsed, dict) else parsed)
            event = EVENTS_BY_NAME.get(name)
            known = name if event is None else (event, _reader_of(event, parsed))
        except Exception as error:
            raise SchemaError(f"not a schema that can be read: {error}") from error
        self._known.setdefault(key, known)
        return key

    def decode(self, data: bytes) -> Event:
        """The event that the bytes hold.

        Raises:
            UnknownSchema: no schema of that fingerprint is known.
            SchemaError: not single-object encoding, larger than any event, a body that its schema does not fit or that
                holds more items than any event, bytes left over, or an event that this version does not know.
        """
        if len(data) > MAX_RECORD_BYTES:
            raise SchemaError(f"{len(data)} bytes, and an event can have {MAX_RECORD_BYTES} at most")
        made: Event
        # The way of almost all records needs no look at what else there is.
        event, read = (MetricsLogged, decode_frame) if data.startswith(_FRAME_PREFIX) else self._reader(data)
        try:
            made, end = read(data, HEADER_BYTES)
        except Exception as error:
            raise SchemaError(f"{event.__name__}: the body does not fit its schema: {error!r}") from error
        if end != len(data):
            raise SchemaError(f"{event.__name__}: {len(data) - end} bytes are left over after the body")
        return made

    def _reader(self, data: bytes) -> tuple[type[Event], _Reader]:
        """The event that the header names, and what reads its body."""
        if len(data) < HEADER_BYTES or data[:2] != MAGIC:
            raise SchemaError("not in Avro single-object encoding: it does not begin with C3 01 and a fingerprint")
        key = data[2:HEADER_BYTES]
        known = self._known.get(key)
        if known is None:
            raise UnknownSchema(f"no schema with fingerprint {key.hex()} is known")
        if isinstance(known, str):
            raise SchemaError(f"{known}: this version knows no such event; a newer consumer may")
        return known


def _reader_of(event: type[Event], schema: Any) -> _Reader:
    """What reads a body that was written with a schema, by fastavro; returns the event and where it ends."""
    is_ours = schema is PARSED[event]
    check = checker(schema)
    plain = _PLAIN[event] if is_ours else schema

    def read(data: bytes, at: int) -> tuple[Event, int]:
        check(data, at)
        body = io.BytesIO(data)
        body.seek(at)
        record: Any = fastavro.schemaless_reader(body, plain, None)
        made = _event(event, record)
        if not is_ours:
            validate(record_of(made), PARSED[event], strict=True)
        return made, body.tell()

    return read


def _event(event: type[Event], record: dict[str, Any]) -> Event:
    given = {}
    for name, convert in _DECODING[event]:
        if name in record:
            given[name] = convert(record[name]) if convert else record[name]
    return event(**given)
