"""The codec of events: Avro single-object encoding.

An encoded event is `C3 01`, the eight bytes of the schema's CRC-64-AVRO fingerprint (little-endian), and the Avro body
(https://avro.apache.org/docs/1.12.0/specification/#single-object-encoding). A writer publishes its schemas to the
schemas topic first, so a reader needs nothing but the log.

An event is decoded with the schema it was written with, and then upcast to this version: fields that this version does
not have are dropped, fields that the writer did not have take their defaults, and a result that does not fit this
version's schema is an error. (Avro's own resolution would turn bytes in a union into text: it takes the first branch
that fits, https://avro.apache.org/docs/1.12.0/specification/#schema-resolution.)
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, Self, TypeAlias

import fastavro
from fastavro.schema import parse_schema
from fastavro.validation import validate

from trialstream_schemas.errors import SchemaError, UnknownSchema
from trialstream_schemas.model import forms
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.times import to_micros
from trialstream_schemas.model.values import Value
from trialstream_schemas.wire.batches import decode_frames
from trialstream_schemas.wire.checker import Checker, checker
from trialstream_schemas.wire.events import EVENTS, PARTS, Error, Event, MetricsLogged, StatusRecord, TrialUpdated
from trialstream_schemas.wire.frames import FRAME_FIELDS, decode_frame, encode_frame
from trialstream_schemas.wire.limits import MAX_RECORD_BYTES
from trialstream_schemas.wire.rows import RowRun, decode_rows
from trialstream_schemas.wire.schemas import (
    EVENTS_BY_NAME,
    FINGERPRINTS,
    PARSED,
    check_items_take_bytes,
    fingerprint,
)

__all__ = ["HEADER_BYTES", "SchemaStore", "encode", "record_of"]

MAGIC = b"\xc3\x01"
HEADER_BYTES = 10
"""Number of bytes before the body: the two of `MAGIC` and the eight of the fingerprint."""

# Called with the bytes of a record and the offset of the body; returns the event, and the offset after the body.
_Reader: TypeAlias = Callable[[bytes, int], tuple[Event, int]]

_PREFIXES: dict[type[Event], bytes] = {event: MAGIC + key for event, key in FINGERPRINTS.items()}
_FRAME_PREFIX = _PREFIXES[MetricsLogged]


def _plain(event: type[Event]) -> Any:
    """The schema of an event without logical types: fastavro then reads and writes times as integers."""
    schema = copy.deepcopy(PARSED[event])
    for each in schema["fields"]:
        if isinstance(each["type"], dict):
            each["type"].pop("logicalType", None)
    return schema


_PLAIN: dict[type[Event], Any] = {event: _plain(event) for event in EVENTS}
assert tuple(each["name"] for each in PARSED[MetricsLogged]["fields"]) == FRAME_FIELDS


def _values_to_avro(given: dict[str, Value]) -> dict[str, Any]:
    return {key: forms.to_avro(each) for key, each in given.items()}


def _values_from_avro(record: dict[str, Any]) -> dict[str, Value]:
    return {key: forms.from_avro(each) for key, each in record.items()}


def _aggregator_to_avro(spec: AggregatorSpec) -> dict[str, Any]:
    return {"kind": spec.kind, "argument": spec.argument}


# Field name → conversion of a field to Avro's form and back, where the two differ.
_TO_AVRO: dict[str, Any] = {
    **dict.fromkeys(("parameters", "metadata", "tags", "values"), _values_to_avro),
    "aggregator": _aggregator_to_avro,
    "aggregators": lambda each: [_aggregator_to_avro(spec) for spec in each],
    "status": lambda status: status and {"name": status.name, "code": status.code},
    "error": lambda e: e and {"type": e.type, "message": e.message, "traceback": e.traceback},
    "updates": lambda updates: [encode(each) for each in updates],  # decoded by `SchemaStore`, which has their schemas
}
_FROM_AVRO: dict[str, Any] = {
    **dict.fromkeys(("parameters", "metadata", "tags", "values"), _values_from_avro),
    "aggregator": lambda record: AggregatorSpec(record["kind"], record["argument"]),
    "aggregators": lambda records: [AggregatorSpec(record["kind"], record["argument"]) for record in records],
    "status": lambda record: record and StatusRecord(record["name"], record["code"]),
    "error": lambda record: record and Error(record["type"], record["message"], record["traceback"]),
    # fastavro makes a datetime for the schemas of other versions, which keep their logical types.
    "time": lambda time: time if type(time) is int else to_micros(time),
}


def _plan(event: type[Event], converters: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(each.name, converters.get(each.name)) for each in fields(event)]


_ENCODING = {event: _plan(event, _TO_AVRO) for event in EVENTS}
_DECODING = {event: _plan(event, _FROM_AVRO) for event in EVENTS}


def record_of(event: Event) -> dict[str, Any]:
    """The Avro record of an event: field name → field in Avro's form."""
    record = {}
    for name, convert in _ENCODING[type(event)]:
        field = getattr(event, name)
        record[name] = convert(field) if convert else field
    return record


def encode(event: Event) -> bytes:
    """Encode an event in single-object encoding.

    Raises:
        SchemaError: A field does not fit the schema. Callers check values before they make events.
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
    """Decodes events by the fingerprint of their schema.

    A store has the schemas of this version, and those that were added, such as the schemas of the schemas topic.
    """

    def __init__(self) -> None:
        # Fingerprint → the class of the event and its reader, or the name of an event that this version does not have.
        self._known: dict[bytes, tuple[type[Event], _Reader] | str] = {
            _PREFIXES[event][2:]: (event, _reader_of(event, schema, self._update)) for event, schema in PARSED.items()
        }

    @classmethod
    def of(cls, texts: Mapping[bytes, bytes]) -> Self:
        """Make a store of the schemas of this version and of others.

        Args:
            texts: Fingerprint → JSON of the schema, such as `schemas_from_json` returns.

        Raises:
            SchemaError: `add` does not accept one of the schemas.
        """
        store = cls()
        for text in texts.values():
            store.add(text)
        return store

    def __contains__(self, key: bytes) -> bool:
        return key in self._known

    def add(self, text: bytes) -> bytes:
        """Add a schema.

        Args:
            text: JSON of the schema, as in the schemas topic.

        Returns:
            The fingerprint of the schema.

        Raises:
            SchemaError: The text is not an Avro schema, or the schema has an array of items that take no bytes.
        """
        try:
            raw = json.loads(text)
            parsed = parse_schema(raw)
            key = fingerprint(raw)
            check_items_take_bytes(parsed)
            name = str(parsed.get("name") if isinstance(parsed, dict) else parsed)
            event = EVENTS_BY_NAME.get(name)
            known = name if event is None else (event, _reader_of(event, parsed, self._update))
        except Exception as error:
            raise SchemaError(f"expected an Avro schema that can be read: {error}") from error
        self._known.setdefault(key, known)
        return key

    def decode(self, data: bytes) -> Event:
        """Decode an event.

        Args:
            data: The event in single-object encoding.

        Raises:
            UnknownSchema: The store has no schema with the fingerprint of the event, or of one of its updates.
            SchemaError: The record is larger than `MAX_RECORD_BYTES` or not in single-object encoding, this version has
                no such event, the body does not fit the schema or has more items than an event can have, or bytes are
                left over after the body.
        """
        if len(data) > MAX_RECORD_BYTES:
            raise SchemaError(f"{len(data)} bytes, and an event can have {MAX_RECORD_BYTES} at most")
        made: Event
        # The fast path, for almost all records.
        event, read = (MetricsLogged, decode_frame) if data.startswith(_FRAME_PREFIX) else self._reader(data)
        try:
            made, end = read(data, HEADER_BYTES)
        except UnknownSchema:
            raise
        except Exception as error:
            raise SchemaError(f"{event.__name__}: the body does not fit its schema: {error!r}") from error
        if end != len(data):
            raise SchemaError(f"{event.__name__}: {len(data) - end} bytes are left over after the body")
        return made

    def decode_all(self, records: Sequence[bytes]) -> list[Event | RowRun | SchemaError]:
        """Decode many events, frames of metrics faster than one by one.

        Args:
            records: The events in single-object encoding.

        Returns:
            For each record the event, or the run that its event belongs to, or an error of the type and text that
            `decode` raises: an `UnknownSchema` or another `SchemaError`.
        """
        runs = decode_rows(records, _FRAME_PREFIX)
        rest = [record if run is None else b"" for record, run in zip(records, runs, strict=True)]
        frames = decode_frames(rest, _FRAME_PREFIX)
        found: list[Event | RowRun | SchemaError] = []
        for record, run, frame in zip(records, runs, frames, strict=True):
            try:
                found.append(run or frame or self.decode(record))
            except SchemaError as error:
                # The traceback of the raised error refers to this list: a cycle that would keep the batch in memory.
                found.append(type(error)(*error.args))
        return found

    def _reader(self, data: bytes) -> tuple[type[Event], _Reader]:
        """The class of the event that the header's fingerprint names, and its reader."""
        if len(data) < HEADER_BYTES or data[:2] != MAGIC:
            raise SchemaError("not in Avro single-object encoding: it does not begin with C3 01 and a fingerprint")
        key = data[2:HEADER_BYTES]
        known = self._known.get(key)
        if known is None:
            raise UnknownSchema(f"no schema with fingerprint {key.hex()} is known; read the schemas topic to its end")
        if isinstance(known, str):
            raise SchemaError(f"{known}: this version has no such event; a newer version may have it")
        return known

    def _update(self, number: int, data: bytes) -> Event:
        """Decode an update of `TrialUpdated`."""
        event, _ = self._reader(data)
        if event not in PARTS:  # before it is decoded, since the updates of an update could be nested without end
            expected = ", ".join(each.__name__ for each in PARTS)
            raise SchemaError(f"updates[{number}]: expected one of {expected}, got {event.__name__}")
        return self.decode(data)


def _reader_of(event: type[Event], schema: Any, update: Callable[[int, bytes], Event]) -> _Reader:
    """Make the reader of bodies that were written with a schema; `update` decodes the updates of `TrialUpdated`."""
    is_ours = schema is PARSED[event]
    check = _own_checkers()[event] if is_ours else checker(schema)
    plain = _PLAIN[event] if is_ours else schema

    def read(data: bytes, at: int) -> tuple[Event, int]:
        check(data, at)
        body = io.BytesIO(data)
        body.seek(at)
        record: Any = fastavro.schemaless_reader(body, plain, None)
        if event is TrialUpdated:
            record["updates"] = [update(number, each) for number, each in enumerate(record["updates"])]
        made = _event(event, record)
        if not is_ours:
            validate(record_of(made), PARSED[event], strict=True)
        return made, body.tell()

    return read


@cache  # they take two milliseconds, and each file of a spool is read with a store of its own
def _own_checkers() -> dict[type[Event], Checker]:
    return {event: checker(schema) for event, schema in PARSED.items()}


def _event(event: type[Event], record: dict[str, Any]) -> Event:
    given = {}
    for name, convert in _DECODING[event]:
        if name in record:
            given[name] = convert(record[name]) if convert else record[name]
    return event(**given)
