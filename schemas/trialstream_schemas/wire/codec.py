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

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, Self

import fastavro

from trialstream_schemas.errors import SchemaError, UnknownSchema
from trialstream_schemas.model import forms
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.values import Value
from trialstream_schemas.wire.batches import decode_frames
from trialstream_schemas.wire.events import EVENTS, PARTS, Error, Event, MetricsLogged, StatusRecord, TrialUpdated
from trialstream_schemas.wire.fit import fit_of
from trialstream_schemas.wire.frames import FRAME_FIELDS, decode_frame, encode_frame
from trialstream_schemas.wire.limits import MAX_RECORD_BYTES, MAX_SCHEMAS_BYTES, MAX_VALUES
from trialstream_schemas.wire.reader import Maker, Reader, reader
from trialstream_schemas.wire.rows import RowRun, apart, decode_rows
from trialstream_schemas.wire.schema_reader import read_schema
from trialstream_schemas.wire.schemas import EVENTS_BY_NAME, FINGERPRINTS, PARSED, SCHEMAS

__all__ = ["HEADER_BYTES", "MAGIC", "SchemaStore", "encode", "record_of"]

MAGIC = b"\xc3\x01"
"""The first bytes of an encoded event."""
HEADER_BYTES = 10
"""Number of bytes before the body: the two of `MAGIC` and the eight of the fingerprint."""

# Memory of a schema beside its JSON, in bytes of JSON of a schema that takes as much.
_SCHEMA_BYTES = 256
# Records that are decoded at once, bytes: the integers of their frames are unpacked together.
_TOGETHER_BYTES = 32 * 1024 * 1024
# Values after which a part of the records ends: more than 4,000 creations with 30 parameters have.
_PART_VALUES = 500_000
# Bytes of a record that are decoded in the time of a value of an event.
_VALUE_BYTES = 16
# Maximum length of what the error of an event quotes, characters.
_QUOTED_CHARACTERS = 500

_PREFIXES: dict[type[Event], bytes] = {event: MAGIC + key for event, key in FINGERPRINTS.items()}
_FRAME_PREFIX = _PREFIXES[MetricsLogged]


# The schemas as they are read, without logical types: fastavro then reads and writes times as integers.
_PLAIN: dict[type[Event], Any] = {event: read_schema(SCHEMAS[key]).parsed for event, key in FINGERPRINTS.items()}
_OWN_KEYS = {text: key for key, text in SCHEMAS.items()}
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
}
# Records within the events of this version → what they become, without such a conversion.
_MAKERS: dict[str, Maker | None] = {
    "trialstream.Value": None,
    "trialstream.Aggregator": AggregatorSpec,
    "trialstream.Status": StatusRecord,
    "trialstream.Error": Error,
}

_ENCODING = {event: [(each.name, _TO_AVRO.get(each.name)) for each in fields(event)] for event in EVENTS}


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

    A store has the schemas of this version, and those that were added, such as the schemas of the schemas topic. They
    and the events may be written by anybody:

    - the schemas of a store have `MAX_SCHEMAS_BYTES` in all, and each of them is bounded (`schema_reader.py`);
    - an event has `MAX_RECORD_BYTES` and `MAX_VALUES` at most, its updates included, whatever its schema is
      (`reader.py`): decoding it takes a second and 64 MiB beside its bytes at most.
    """

    def __init__(self) -> None:
        # Fingerprint → the class of the event and its reader, or the name of an event that this version does not have.
        self._known: dict[bytes, tuple[type[Event], Reader[Event]] | str] = {
            FINGERPRINTS[event]: (event, _reader_of(event, schema, self._update)) for event, schema in _PLAIN.items()
        }
        # Fingerprint → size of a schema that was added, and the sum of these sizes.
        self._sizes: dict[bytes, int] = {}
        self._bytes = 0

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
        """Add a schema. It replaces another one with the same fingerprint, unless that is one of this version.

        Args:
            text: JSON of the schema, as in the schemas topic.

        Returns:
            The fingerprint of the schema, which is computed.

        Raises:
            SchemaError: The text is not an Avro schema, the schema expands beyond a bound of `schema_reader.py`, or the
                store would have more than `MAX_SCHEMAS_BYTES`.
        """
        if (own := _OWN_KEYS.get(text)) is not None:
            return own
        key, name, _, parsed = read_schema(text)
        if key in SCHEMAS:
            return key
        size = len(text) + _SCHEMA_BYTES
        total = self._bytes + size - self._sizes.get(key, 0)
        if total > MAX_SCHEMAS_BYTES:
            raise SchemaError(
                f"schema {name[:_QUOTED_CHARACTERS]}: the log has more than {MAX_SCHEMAS_BYTES} bytes of schemas of "
                "other versions; delete those that no event needs"
            )
        event = EVENTS_BY_NAME.get(name)
        if event is not None and parsed["type"] != "record":
            raise SchemaError(f"schema {name}: expected a record, got {parsed['type']}")
        self._known[key] = name if event is None else (event, _reader_of(event, parsed, self._update))
        self._sizes[key], self._bytes = size, total
        return key

    def decode(self, data: bytes) -> Event:
        """Decode an event.

        Args:
            data: The event in single-object encoding.

        Raises:
            UnknownSchema: The store has no schema with the fingerprint of the event, or of one of its updates.
            SchemaError: The record is larger than `MAX_RECORD_BYTES` or not in single-object encoding, this version has
                no such event, the body does not fit the schema or has more than `MAX_VALUES`, or bytes are left over
                after the body.
        """
        return self._decode(data, [MAX_VALUES])

    def _decode(self, data: bytes, left: list[int]) -> Event:
        """Decode an event, and subtract the number of its values from the number in `left`."""
        if len(data) > MAX_RECORD_BYTES:
            raise SchemaError(f"{len(data)} bytes, and an event can have {MAX_RECORD_BYTES} at most")
        made: Event
        # Frames are read without a reader: the fast path, for almost all records.
        event, read = (MetricsLogged, None) if data.startswith(_FRAME_PREFIX) else self._reader(data)
        try:
            made, end = decode_frame(data, HEADER_BYTES) if read is None else read(data, HEADER_BYTES, left)
        except UnknownSchema:
            raise
        except Exception as error:
            reason = repr(error)[:_QUOTED_CHARACTERS]
            raise SchemaError(f"{event.__name__}: the body does not fit its schema: {reason}") from error
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
        parts = list(self.decode_parts(records))
        return list(parts[0]) if len(parts) == 1 else [event for part in parts for event in apart(part)]

    def decode_parts(self, records: Sequence[bytes]) -> Iterator[Sequence[Event | RowRun | SchemaError]]:
        """Decode many events as `decode_all` does, in parts.

        Decoding a part takes about two seconds and 150 MiB beside the records at most; the events of a usual batch are
        one part.

        Args:
            records: The events in single-object encoding.

        Yields:
            What consecutive records were decoded to. The positions of a run count from the first record of its part.
        """
        for together in _cut(records):
            yield from self._decode_together(together)

    def _decode_together(self, records: Sequence[bytes]) -> Iterator[Sequence[Event | RowRun | SchemaError]]:
        runs = decode_rows(records, _FRAME_PREFIX)
        rest = [record if run is None else b"" for record, run in zip(records, runs, strict=True)]
        frames = decode_frames(rest, _FRAME_PREFIX)
        found: list[Event | RowRun | SchemaError] = []
        first, values = 0, 0
        for record, run, frame in zip(records, runs, frames, strict=True):
            if (made := frame if run is None else run) is not None:
                found.append(made)
                continue
            if values >= _PART_VALUES:
                yield apart(found, first)
                first, values, found = first + len(found), 0, []
            left = [MAX_VALUES]
            try:
                found.append(self._decode(record, left))
            except SchemaError as error:
                # The traceback of the raised error refers to this list: a cycle that would keep the batch in memory.
                found.append(type(error)(*error.args))
            values += MAX_VALUES - left[0] + len(record) // _VALUE_BYTES
        yield apart(found, first) if first else found

    def _reader(self, data: bytes) -> tuple[type[Event], Reader[Event]]:
        """The class of the event that the header's fingerprint names, and its reader."""
        known = self._known.get(data[2:HEADER_BYTES])
        if type(known) is tuple and data.startswith(MAGIC):
            return known
        if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
            raise SchemaError("not in Avro single-object encoding: it does not begin with C3 01 and a fingerprint")
        if known is None:
            key = data[2:HEADER_BYTES].hex()
            raise UnknownSchema(f"no schema with fingerprint {key} is known; read the schemas topic to its end")
        raise SchemaError(f"{known[:_QUOTED_CHARACTERS]}: this version has no such event; a newer version may have it")

    def _update(self, number: int, data: bytes, left: list[int]) -> Event:
        """Decode an update of `TrialUpdated`, whose values count with those of the other updates."""
        event, _ = self._reader(data)
        if event not in PARTS:  # before it is decoded, since the updates of an update could be nested without end
            expected = ", ".join(each.__name__ for each in PARTS)
            raise SchemaError(f"updates[{number}]: expected one of {expected}, got {event.__name__}")
        return self._decode(data, left)


def _cut(records: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut records into those that are decoded at once."""
    if sum(map(len, records)) <= _TOGETHER_BYTES:
        yield records
        return
    begin, size = 0, 0
    for position, record in enumerate(records):
        size += len(record)
        if size > _TOGETHER_BYTES and position > begin:
            yield records[begin:position]
            begin, size = position, len(record)
    yield records[begin:]


def _reader_of(event: type[Event], schema: Any, update: Callable[[int, bytes, list[int]], Event]) -> Reader[Event]:
    """Make the reader of bodies that were written with a schema; `update` decodes the updates of `TrialUpdated`."""
    is_ours = schema is _PLAIN[event]
    if is_ours and event is not TrialUpdated:
        return _own_readers()[event]
    read_fields: Reader[dict[str, Any]] = reader(schema, dict, _MAKERS if is_ours else {})
    check_fit = None if is_ours else fit_of(_PLAIN[event])
    known = {each.name for each in fields(event)}

    def read(data: bytes, at: int, left: list[int]) -> tuple[Event, int]:
        record, end = read_fields(data, at, left)
        if check_fit is not None:
            for name in record.keys() - known:
                del record[name]  # before the values of other fields are copied
            check_fit(record)
            for name in record.keys() & _FROM_AVRO.keys():
                record[name] = _FROM_AVRO[name](record[name])
        if event is TrialUpdated:
            record["updates"] = [update(number, each, left) for number, each in enumerate(record["updates"])]
        return event(**record), end

    return read


@cache  # they take two milliseconds, and each file of a spool is read with a store of its own
def _own_readers() -> dict[type[Event], Reader[Event]]:
    return {event: reader(schema, event, _MAKERS) for event, schema in _PLAIN.items()}
