"""Targets of the wire format: events, frames, tables of rows, batches and schemas."""

from __future__ import annotations

import json
from array import array
from itertools import count

from trialstream_schemas.errors import SchemaError
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.wire import events as e
from trialstream_schemas.wire.codec import HEADER_BYTES, SchemaStore, encode
from trialstream_schemas.wire.frames import decode_frame
from trialstream_schemas.wire.schemas import SCHEMAS, schemas_from_json, schemas_to_json

__all__ = ["TARGETS"]

_SUBJECT = {"trial": "0" * 32 + "_0", "writer": "w" * 16, "time": 1_700_000_000_000_000}
_STORE = SchemaStore()
_VALUES = {"a": 1, "b": ["text", 0.5, None, {"c": True, "d": b"bytes"}], "e": {}}
_SERIES = AggregatorSpec("timeseries")


def _older() -> tuple[SchemaStore, bytes]:
    """A store with a schema of `TagsAdded` of another version, and its fingerprint."""
    [schema] = [found for text in SCHEMAS.values() if (found := json.loads(text))["name"] == "trialstream.TagsAdded"]
    symbols = {"type": "enum", "name": "Color", "symbols": ["red", "green"]}
    fixed = {"type": "fixed", "name": "Digest", "size": 4}
    part = {"type": "record", "name": "Part", "fields": [{"name": "a", "type": "null"}, {"name": "b", "type": symbols}]}
    schema["fields"] += [
        {"name": "more", "type": ["null", {"type": "array", "items": part}], "default": None},
        {"name": "digest", "type": {"type": "map", "values": fixed}, "default": {}},
    ]
    store = SchemaStore()
    return store, store.add(json.dumps(schema).encode())


_OTHER, _OTHER_KEY = _older()


def _frame(seq: int, rows: int) -> e.MetricsLogged:
    columns = [array("d", range(rows)), array("d", [0.5] * rows)]
    return e.MetricsLogged(
        **_SUBJECT, seq=seq, aggregator=_SERIES, names=("loss", "lr"), steps=range(rows), times=range(rows),
        columns=columns,
    )  # fmt: skip


def _events() -> list[bytes]:
    part = {"trial": _SUBJECT["trial"], "writer": _SUBJECT["writer"], "time": 1}
    tags = e.TagsAdded(**_SUBJECT, seq=1, values=_VALUES)
    frames = [_frame(1, 1), _frame(2, 100)]
    found: list[e.Event] = [
        e.Heartbeat(**_SUBJECT, seq=3),
        tags,
        e.TrialCreated(**_SUBJECT, request="r", name="t", parameters=_VALUES, auto_increment=True, tags=_VALUES),
        e.TrialFinished(**_SUBJECT, seq=4, interrupted=False, error=e.Error("E", "message", "traceback")),
        e.ChronosFinished(
            **_SUBJECT, seq=5, names=["c"], aggregators=[_SERIES], announced=[0], failed=[0], chronos=[0, 0],
            times=[1, 2], elapsed=[0.5, 0.25],
        ),
        e.TrialUpdated(**_SUBJECT, request="u", updates=[e.TagsAdded(**part, values=_VALUES), e.TrialStarted(**part)]),
        e.LogCreated(time=1, log="0" * 16, partitions=4),
        *frames,
    ]  # fmt: skip
    return [encode(each) for each in found]


def _others() -> list[bytes]:
    """Bodies of the other version's schema: the events of this one, with the two fields that it has more."""
    ours = encode(e.TagsAdded(**_SUBJECT, seq=1, values=_VALUES))[HEADER_BYTES:]
    return [ours + b"\x00\x00", ours + b"\x02\x04\x00\x02\x00\x02\x02k0123\x00"]


def _decode_other(data: bytes) -> None:
    _OTHER.decode(b"\xc3\x01" + _OTHER_KEY + data)


def _batch(records: list[bytes]) -> bytes:
    return b"".join(len(each).to_bytes(3, "big") + each for each in records)


def _records(data: bytes) -> list[bytes]:
    """Cut bytes into records: each begins with its size in three bytes."""
    found, at = [], 0
    while at < len(data) and len(found) < 4096:
        size = int.from_bytes(data[at : at + 3], "big")
        found.append(data[at + 3 : at + 3 + size])
        at += 3 + size
    return found


def _rows() -> list[bytes]:
    return [_batch([encode(_frame(seq, 1)) for seq in range(300, 330)])]


def _mixed() -> list[bytes]:
    seqs = count(1)
    return [_batch([*(encode(_frame(next(seqs), rows)) for rows in (30, 60, 1, 90)), *_events()])]


def _schemas() -> list[bytes]:
    return [*SCHEMAS.values(), schemas_to_json(dict(list(SCHEMAS.items())[:2])).encode()]


def _read_schema(data: bytes) -> None:
    try:
        SchemaStore().add(data)
    except SchemaError:
        schemas_from_json(data)


# The name of each target, its function, its seeds, and the errors that it may raise.
TARGETS = [
    ("codec", _STORE.decode, _events, (SchemaError,)),
    ("codec_other_version", _decode_other, _others, (SchemaError,)),
    (
        "frames",
        lambda data: decode_frame(data, 0),
        lambda: [encode(_frame(1, rows))[HEADER_BYTES:] for rows in (0, 1, 100)],
        (SchemaError, IndexError, UnicodeError),
    ),
    ("rows", lambda data: _STORE.decode_all(_records(data)), _rows, ()),
    ("batches", lambda data: _STORE.decode_all(_records(data)), _mixed, ()),
    ("schema_reader", _read_schema, _schemas, (SchemaError,)),
]
