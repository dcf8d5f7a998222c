"""Readers of events' bodies: what they check, indices, sizes and numbers of items, and how they count values."""

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
from trialstream_schemas.wire.codec import SchemaStore, encode
from trialstream_schemas.wire.limits import MAX_RECORD_BYTES, MAX_VALUES
from trialstream_schemas.wire.reader import reader
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


def schema_with(kind):
    """Return the schema of a record with a field `a` of a type."""
    return fastavro.parse_schema({"type": "record", "name": "R", "fields": [{"name": "a", "type": kind}]})


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
    read = reader(schema_with(enum), dict, {})

    assert read(varint(1), 0, [2]) == ({"a": "y"}, 1)
    for index in (-1, 2):
        with pytest.raises(SchemaError, match="has no index"):
            read(varint(index), 0, [2])


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


def test_a_length_that_is_not_written_as_usual_is_read():
    """The specification allows more bytes for an integer than it needs, also in the head of a short event."""
    data = encode(e.Heartbeat(trial="", writer="w", seq=3, time=1))
    longer = data[:10] + b"\x80\0" + data[11:]

    assert STORE.decode(longer) == STORE.decode(data)


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


def array_of(items):
    """Return the type of an array."""
    return {"type": "array", "items": items}


def fixed(size):
    """Return a type of a fixed number of bytes."""
    return {"type": "fixed", "name": "F", "size": size}


PLAIN = {
    "null": ("null", b"", None),
    "boolean": ("boolean", b"\2", True),
    "float": ("float", struct.pack("<f", 0.5), 0.5),
    "double": ("double", struct.pack("<d", 0.1), 0.1),
    "int": ("int", varint(-70), -70),
    "long": ({"type": "long"}, varint(-(2**63)), -(2**63)),
    "bytes": ("bytes", varint(2) + b"\xff\0", b"\xff\0"),
    "text": ("string", varint(2) + "é".encode(), "é"),
    "long text": ("string", varint(100) + b"x" * 100, "x" * 100),
    "fixed": (fixed(3), b"abc", b"abc"),
    "longs": (array_of("long"), varint(3) + varint(1) + varint(-9) + varint(2**40) + b"\0", [1, -9, 2**40]),
    "no longs": (array_of("long"), b"\0", []),
    "longs of two blocks": (array_of("long"), varint(1) + varint(-7) + varint(-2) + b"\4" + b"\2\4\0", [-7, 1, 2]),
    "many longs": (array_of("int"), varint(64) + varint(7) * 64 + b"\0", [7] * 64),
    "doubles": (array_of("double"), varint(1) + struct.pack("<d", 0.5) + b"\0", [0.5]),
    "floats": (array_of("float"), varint(1) + struct.pack("<f", 0.5) + b"\0", [0.5]),
    "texts": (array_of("string"), varint(2) + b"\2a\2b" + b"\0", ["a", "b"]),
    "fixeds": (array_of(fixed(1)), varint(2) + b"ab\0", [b"a", b"b"]),
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_plain_types(name):
    """Each is read as fastavro reads it, and is one value; the items of an array of them are not counted."""
    kind, body, expected = PLAIN[name]
    schema, left = schema_with(kind), [2]

    assert reader(schema, dict, {})(b"x" + body, 1, left) == ({"a": expected}, 1 + len(body))
    assert fastavro.schemaless_reader(io.BytesIO(body), schema, None) == {"a": expected}
    assert left == [0]


@pytest.mark.parametrize("name", [each for each in PLAIN if each != "null"])
def test_plain_types_that_are_cut_off(name):
    """Bytes that end too soon are an error at each byte."""
    kind, body, _ = PLAIN[name]
    read = reader(schema_with(kind), dict, {})

    for size in range(len(body)):
        with pytest.raises((SchemaError, IndexError, struct.error)):
            read(body[:size], 0, [2])


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
    read = reader(schema_with(kind), dict, {})
    left = [values]
    record, end = read(body, 0, left)

    assert (left, end) == ([0], len(body))
    assert record == fastavro.schemaless_reader(io.BytesIO(body), schema_with(kind), None)
    with pytest.raises(SchemaError, match="more than"):
        read(body, 0, [values - 1])


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
