"""Checks of an event's body before it is decoded: indices, sizes and numbers of items."""

from __future__ import annotations

import io
import json
import struct
import time
from array import array

import fastavro
import pytest
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.wire import events as e
from trialstream_schemas.wire.checker import checker
from trialstream_schemas.wire.codec import SchemaStore, encode
from trialstream_schemas.wire.limits import MAX_RECORD_BYTES, MAX_VALUES
from trialstream_schemas.wire.schemas import SCHEMAS, fingerprint

TRIAL = {"trial": "0" * 32 + "_0", "writer": "w", "seq": 3, "time": 1}
STORE = SchemaStore()


def varint(n):
    """Return a zigzag varint."""
    n = (n << 1) ^ (n >> 63)
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


def with_value(body):
    """Return an event that has one value with this body."""
    data = encode(e.TagsAdded(**TRIAL, values={"k": None}))
    return data[: data.rindex(b"\x02k\x00") + 2] + body + b"\0"


def test_fastavro_accepts_a_negative_index():
    """Fastavro alone reads a negative index as one that counts from the end, without an error."""
    out = io.BytesIO(varint(-1) + varint(7))

    assert fastavro.schemaless_reader(out, fastavro.parse_schema(["null", "long"]), None) == 7


@pytest.mark.parametrize("index", [-1, -6, -8, -(2**63), 8, 2**62])
def test_an_index_of_no_branch_is_a_schema_error(index):
    """A negative or too large index of the union of values is an error."""
    with pytest.raises(SchemaError, match="has no index"):
        STORE.decode(with_value(varint(index) + varint(7)))


@pytest.mark.parametrize("index", [-1, -2, 2])
def test_an_index_of_no_branch_in_the_envelope_is_a_schema_error(index):
    """The unions of the envelope, which every event has, are checked too."""
    data = encode(e.Heartbeat(**TRIAL))

    with pytest.raises(SchemaError, match="has no index"):
        STORE.decode(data[:-2] + varint(index) + b"\0\0")


def test_an_index_of_no_symbol_is_a_schema_error():
    """Enums, which another version's schema may have, are checked too."""
    enum = {"type": "enum", "name": "E", "symbols": ["x", "y"]}
    check = checker(fastavro.parse_schema({"type": "record", "name": "R", "fields": [{"name": "a", "type": enum}]}))
    check(varint(1), 0, [2])

    for index in (-1, 2):
        with pytest.raises(SchemaError, match="has no index"):
            check(varint(index), 0, [2])


@pytest.mark.parametrize("size", [-1, 2**40, 2**62])
def test_a_text_of_absurd_size_is_a_schema_error(size):
    """A size beyond the end of the bytes is an error, and no memory is allocated for it."""
    with pytest.raises(SchemaError):
        STORE.decode(with_value(varint(4) + varint(size) + b"x"))


@pytest.mark.parametrize("negative", [False, True], ids=["a count", "a count and a size"])
@pytest.mark.parametrize("branch", [6, 7], ids=["array", "map"])
def test_more_items_than_any_event_are_a_schema_error(branch, negative):
    """A megabyte of nulls would become 230 MB of Python objects; the error comes within milliseconds."""
    count = 900_000
    start = varint(-count) + varint(count) if negative else varint(count)
    item = b"\0" if branch == 6 else b"\0\0"
    began = time.process_time()

    with pytest.raises(SchemaError, match=f"more than {MAX_VALUES} values"):
        STORE.decode(with_value(varint(branch) + start + (item * count)[:900_000] + b"\0"))
    assert time.process_time() - began < 0.5


def test_many_small_arrays_are_counted_together():
    """The bound is on the items of the event, not of a single array in it."""
    inner = varint(6) + varint(1000) + b"\0" * 1000 + b"\0"

    with pytest.raises(SchemaError, match=f"more than {MAX_VALUES} values"):
        STORE.decode(with_value(varint(6) + varint(200) + inner * 200 + b"\0"))


def test_blocks_are_read_as_the_specification_allows():
    """An array may have several blocks, with and without sizes."""
    blocks = varint(1) + varint(2) + varint(7) + varint(-2) + varint(2) + b"\0" + b"\0"

    assert STORE.decode(with_value(varint(6) + blocks + b"\0")).values == {"k": [7, None, None]}


def test_an_integer_of_more_than_64_bits_is_a_schema_error():
    """An integer of more than 64 bits is an error, wherever it is; it would be cut to another number."""
    for branch in (b"", varint(2), varint(4), varint(6)):  # as an index, a value, a size and a count
        with pytest.raises(SchemaError, match="more than 64 bits"):
            STORE.decode(with_value(branch + b"\xff" * 12))


def test_a_record_larger_than_any_event_is_not_read():
    """A record above the limit is an error before it is read: a compressed batch can unpack to any size."""
    with pytest.raises(SchemaError, match=f"{MAX_RECORD_BYTES + 1} bytes, and an event can have"):
        STORE.decode(bytes(MAX_RECORD_BYTES + 1))


def test_the_largest_events_pass():
    """The largest events that a protocol can write are decoded."""
    tags = e.TagsAdded(**TRIAL, values={"k": [None] * 49_000})
    frame = e.MetricsLogged(
        **TRIAL,
        aggregator=AggregatorSpec("timeseries"),
        names=[str(i) for i in range(60)],
        times=range(256),
        columns=[array("d", [0.5] * 256)] * 60,
    )

    assert STORE.decode(encode(tags)).values == tags.values
    assert STORE.decode(encode(frame)).columns == frame.columns


def test_plain_fields_at_the_end_are_not_checked():
    """The checker stops at the last field that has an index or counted values: columns of numbers cost nothing."""
    plain = ["long", "string", {"type": "array", "items": "double"}, {"type": "fixed", "name": "F", "size": 3}]
    fields = [{"name": f"f{i}", "type": each} for i, each in enumerate([["null", "long"], *plain])]
    check = checker(fastavro.parse_schema({"type": "record", "name": "R", "fields": fields}))
    left = [10]

    check(varint(1) + varint(5), 0, left)  # the plain fields are missing

    assert left == [4]
    with pytest.raises(IndexError):
        check(varint(1), 0, [10])


COUNTED = {"type": "record", "name": "P", "fields": [{"name": "a", "type": "null"}, {"name": "b", "type": "long"}]}


@pytest.mark.parametrize(
    ("kind", "body", "values"),
    [
        pytest.param(["null", COUNTED], varint(1) + varint(5), 4, id="a branch of a union"),
        pytest.param(["null", COUNTED], varint(0), 2, id="the null of a union"),
        pytest.param(COUNTED, varint(5), 4, id="a record"),
        pytest.param({"type": "array", "items": COUNTED}, varint(2) + varint(5) * 2 + b"\0", 8, id="an array"),
        pytest.param({"type": "array", "items": COUNTED}, (varint(1) + varint(5)) * 3 + b"\0", 11, id="several blocks"),
        pytest.param({"type": "map", "values": COUNTED}, varint(1) + b"\2k" + varint(5) + b"\0", 5, id="a map"),
        pytest.param({"type": "map", "values": "long"}, varint(1) + b"\2k" + varint(5) + b"\0", 3, id="a map of longs"),
        pytest.param({"type": "array", "items": ["null", "long"]}, varint(2) + b"\0\0\0", 4, id="an array of unions"),
        pytest.param(
            {"type": "array", "items": {"type": "array", "items": "long"}}, varint(3) + b"\0" * 4, 5, id="arrays"
        ),
    ],
)
def test_every_value_is_counted(kind, body, values):
    """Records, their fields, nulls, and items of arrays and maps are counted; one too many is an error."""
    check = checker(
        fastavro.parse_schema(
            {"type": "record", "name": "R", "fields": [{"name": "a", "type": kind}, {"name": "e", "type": ["null"]}]}
        )
    )
    left = [values + 1]  # the field `e`
    check(body + b"\0", 0, left)

    assert left == [0]
    with pytest.raises(SchemaError, match="more than"):
        check(body + b"\0", 0, [values])


def test_a_field_of_another_version_is_checked_too():
    """Events of another version's schema are checked by that schema."""
    [text] = [each for each in SCHEMAS.values() if json.loads(each)["name"] == "trialstream.Heartbeat"]
    schema = json.loads(text)
    schema["fields"].append({"name": "more", "type": {"type": "array", "items": ["double", "null"]}, "default": []})
    store = SchemaStore()
    store.add(json.dumps(schema).encode())
    start = b"\xc3\x01" + fingerprint(schema) + encode(e.Heartbeat(**TRIAL))[10:]

    assert store.decode(start + varint(1) + varint(0) + struct.pack("<d", 1.0) + b"\0") == e.Heartbeat(**TRIAL)
    with pytest.raises(SchemaError, match="has no index -2"):
        store.decode(start + varint(1) + varint(-2) + struct.pack("<d", 1.0) + b"\0")
