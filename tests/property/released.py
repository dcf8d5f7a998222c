"""Writers and readers of earlier releases, by the released schemas."""

from __future__ import annotations

import dataclasses
import io
import json
from importlib.resources import files
from pathlib import Path

import avro.io
import avro.schema
import fastavro
from trialstream_schemas.wire.codec import HEADER_BYTES, SchemaStore, record_of
from trialstream_schemas.wire.schemas import SCHEMAS

_FOLDER = Path(str(files("trialstream_schemas").joinpath("avro", "released")))
_NAMES = {json.loads(text)["name"].rpartition(".")[2]: key for key, text in SCHEMAS.items()}
# Name of an event → the schemas that releases wrote it with, by fingerprint; the present one is the last.
RELEASED: dict[str, dict[bytes, dict]] = {
    kind: dict(
        sorted(
            ((bytes.fromhex(path.stem), json.loads(path.read_text())) for path in (_FOLDER / kind).glob("*.avsc")),
            key=lambda version: version[0] == current,
        )
    )
    for kind, current in _NAMES.items()
}
STORE = SchemaStore.of({key: json.dumps(schema).encode() for each in RELEASED.values() for key, schema in each.items()})
_PARSED = {key: fastavro.parse_schema(schema) for each in RELEASED.values() for key, schema in each.items()}
# Without the logical type, which would make datetimes of times.
PLAIN = {
    key: fastavro.parse_schema(json.loads(json.dumps(schema).replace('"logicalType": "timestamp-micros", ', "")))
    for each in RELEASED.values()
    for key, schema in each.items()
}
_APACHE = {key: avro.schema.parse(json.dumps(schema)) for each in RELEASED.values() for key, schema in each.items()}


def versions(event):
    """Return the fingerprints of the schemas that releases wrote an event with; the present one is the last."""
    return list(RELEASED[type(event).__name__])


def fields_of(event, version):
    """Return the names of the fields that an event has in a version."""
    return [each["name"] for each in RELEASED[type(event).__name__][version]["fields"]]


def written(event, version):
    """Return the bytes of an event as the release with that schema wrote it."""
    record = record_of(event)
    record |= {name: list(x) for name, x in record.items() if name in ("names", "times", "steps", "float_steps")}
    if "columns" in record:
        record["columns"] = [list(each) for each in record["columns"]]
    out = io.BytesIO()
    fastavro.schemaless_writer(
        out, _PARSED[version], {name: record[name] for name in fields_of(event, version)}, strict=True
    )
    return b"\xc3\x01" + version + out.getvalue()


def known(event, version):
    """Return an event without the fields that a version lacks."""
    added = {each.name for each in dataclasses.fields(event)} - set(fields_of(event, version))
    defaults = {
        each.name: each.default if each.default_factory is dataclasses.MISSING else each.default_factory()
        for each in dataclasses.fields(event)
        if each.name in added
    }
    return dataclasses.replace(event, **defaults)


def read(data, version):
    """Return the record that a reader of another release, with Apache's implementation of Avro, reads from an event."""
    decoder = avro.io.BinaryDecoder(io.BytesIO(data[HEADER_BYTES:]))
    return avro.io.DatumReader(_APACHE[data[2:HEADER_BYTES]], _APACHE[version]).read(decoder)
