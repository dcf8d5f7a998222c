"""The worst events of 1 MiB: each is decoded or refused within a bound of memory and of interpreter steps."""

from __future__ import annotations

import functools
import gc
import json
import struct
import tracemalloc

import pytest
from tracing import each_instruction
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.wire import codec
from trialstream_schemas.wire import events as e
from trialstream_schemas.wire.codec import SchemaStore, encode
from trialstream_schemas.wire.limits import MAX_RECORD_BYTES, MAX_VALUES
from trialstream_schemas.wire.schemas import FINGERPRINTS, SCHEMAS
from trialstream_schemas.wire.varint import long_bytes

ONE = b"\2" + struct.pack("<d", 0.5)
# Maximum memory of an event beside its bytes, bytes: see `SchemaStore`.
MAX_BYTES = 64 * 1024 * 1024
# Interpreter steps for each byte of an event and each value of its budget.
STEPS = 60

SUBJECT = {"trial": "t", "writer": "w", "seq": 3, "time": 1}
ENVELOPE = b"\x02t\x02w" + long_bytes(3) + long_bytes(1) + b"\0\0"
ROOM = MAX_RECORD_BYTES - 1000


def own(event, body):
    """Return an event of this version with these fields after the envelope."""
    return b"\xc3\x01" + FINGERPRINTS[event] + ENVELOPE + body


def values(body):
    """Return tags with one value."""
    return own(e.TagsAdded, b"\x02\x02k" + body + b"\0")


def blocks(item, count, start=b""):
    """Return as many items in an array or a map as there is room for."""
    count = min(count, ROOM // len(item))
    return start + long_bytes(count) + item * count + b"\0"


LIST, MAP = long_bytes(6), long_bytes(7)
EMPTY_LIST, EMPTY_MAP = LIST + b"\0", MAP + b"\0"


def chain(levels, kind=LIST, key=b""):
    """Return values nested that deep, with one item in each."""
    return (kind + b"\2" + key) * levels + b"\0" + b"\0" * levels


@functools.cache
def others():
    """A store with hostile schemas, as large as they are accepted, and the fingerprint of each by name."""
    null = {"type": "record", "name": "Nulls", "fields": [{"name": f"f{i}", "type": "null"} for i in range(200)]}
    item = {"type": "record", "name": "I", "fields": [{"name": "n", "type": null}, {"name": "b", "type": "boolean"}]}
    many = {"type": "record", "name": "M", "fields": [{"name": f"f{i}", "type": "null"} for i in range(980)]}
    leaf = {"type": "record", "name": "Leaf", "fields": [{"name": "value", "type": "null"}]}
    leaves = {"type": "record", "name": "L", "fields": [{"name": "l0", "type": leaf}] + [
        {"name": f"l{i}", "type": "Leaf"} for i in range(1, 300)
    ]}  # fmt: skip
    value = {"type": "record", "name": "V", "fields": [{"name": "value", "type": ["null", leaves]}]}
    more = {
        "nulls in arrays": {"type": "array", "items": item},
        "nulls in maps": {"type": "map", "values": item},
        "nulls in unions": {"type": "array", "items": ["null", many]},
        "a record of nulls": many,
        "empty arrays": {"type": "array", "items": {"type": "array", "items": "long"}},
        "records": {
            "type": "array",
            "items": {"type": "record", "name": "B", "fields": [{"name": "b", "type": "boolean"}]},
        },
        "texts": {"type": "array", "items": "string"},
    }
    store, keys = SchemaStore(), {}
    [tags] = [each for text in SCHEMAS.values() if (each := json.loads(text))["name"] == "trialstream.TagsAdded"]
    for name, kind in more.items():
        schema = {**tags, "fields": [*tags["fields"], {"name": "more", "type": kind}]}
        keys[name] = store.add(json.dumps(schema).encode())
    schema = {**tags, "fields": [*tags["fields"][:-1], {"name": "values", "type": {"type": "map", "values": value}}]}
    keys["values of nulls"] = store.add(json.dumps(schema).encode())
    return store, keys


def other(name, body, tags=b"\0"):
    """Return an event of a hostile schema."""
    _, keys = others()
    return b"\xc3\x01" + keys[name] + ENVELOPE + tags + body


def updated(part):
    """Return an event with as many of these updates as there is room for."""
    return own(e.TrialUpdated, blocks(long_bytes(len(part)) + part, ROOM))


def part(event, body):
    """Return an update."""
    return b"\xc3\x01" + FINGERPRINTS[event] + b"\x02t\x02w\0\x02\0\0" + body


def frame(body):
    """Return a frame with these fields after its shape of two names."""
    return own(e.MetricsLogged, b"\2s\0\4\2a\2b\0" + body)


KEYS = b"".join(b"\4" + bytes([33 + i // 90, 33 + i % 90]) + EMPTY_MAP for i in range(8000))
DICTS = blocks(chain(60, MAP, b"\4ab"), MAX_VALUES // 2 // 61 - 2, LIST)
WORST = {
    "nulls": lambda: values(blocks(b"\0", ROOM, LIST)),
    "nulls up to the budget": lambda: values(blocks(b"\0", MAX_VALUES // 2 - 20, LIST)),
    "empty lists up to the budget": lambda: values(blocks(EMPTY_LIST, MAX_VALUES // 2 - 20, LIST)),
    "empty dicts up to the budget": lambda: values(blocks(EMPTY_MAP, MAX_VALUES // 2 - 20, LIST)),
    "lists in lists up to the budget": lambda: values(blocks(chain(60), MAX_VALUES // 2 // 61 - 2, LIST)),
    "dicts in dicts up to the budget": lambda: values(DICTS),
    "keys": lambda: values(MAP + long_bytes(8000) + KEYS + b"\0"),
    "one key many times": lambda: values(blocks(b"\0\0", ROOM, MAP)),
    "short texts": lambda: values(blocks(b"\x08\4ab", MAX_VALUES // 2 - 20, LIST)),
    "one wide text": lambda: values(b"\x08" + long_bytes(ROOM) + b"x" * (ROOM - 4) + "\U0001f600".encode()),
    "integers": lambda: values(blocks(b"\4\x80\x10", MAX_VALUES // 2 - 20, LIST)),
    "aggregators": lambda: own(e.ChronosFinished, b"\0" + blocks(b"\0\0", ROOM) + b"\0" * 5),
    "chronos": lambda: own(
        e.ChronosFinished, blocks(b"\4ab", 10**5) + b"\0" + blocks(b"\x80\x10", ROOM // 8) * 2 + b"\0" * 3
    ),
    "updates": lambda: updated(part(e.TagsAdded, b"\0")),
    "updates of nulls": lambda: updated(part(e.TagsAdded, b"\x02\x02k" + blocks(b"\0", 1000, LIST) + b"\0")),
    "updates that are frames": lambda: updated(part(e.MetricsLogged, b"\2s\0\0\0\0\0\0\0")),
    "updates of unknown schemas": lambda: updated(b"\xc3\x01" + b"\7" * 8),
    "a frame of names": lambda: own(e.MetricsLogged, b"\2s\0" + blocks(b"\4ab", ROOM) + b"\0" * 5),
    "a frame of empty columns": lambda: frame(b"\0\0\0\2\0\0" + blocks(b"\0", ROOM)),
    "a frame of columns of one value": lambda: frame(b"\0\0\0\2\0\0" + blocks(ONE + b"\0", ROOM)),
    "a frame of columns of two blocks": lambda: frame(b"\0\0\0\2\0\0" + blocks(ONE + ONE + b"\0", ROOM)),
    "a frame of a column of many blocks": lambda: frame(b"\0\0\0\2\0\0\2" + ONE * (ROOM // 9) + b"\0\0"),
    "a frame of steps": lambda: frame(blocks(b"\2", ROOM) + b"\0\0\2\0\0\0"),
    "a frame of long steps": lambda: frame(blocks(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\1", ROOM) + b"\0\0\2\0\0\0"),
    "a frame of steps of many blocks": lambda: frame(b"\2\2" * (ROOM // 2) + b"\0\0\0\2\0\0\0"),
    "a frame of text steps": lambda: frame(b"\0\0" + blocks(b"\4ab", ROOM) + b"\2\0\0\0"),
    "nulls in arrays": lambda: other("nulls in arrays", blocks(b"\0", ROOM)),
    "nulls in arrays up to the budget": lambda: other("nulls in arrays", blocks(b"\0", MAX_VALUES // 203 - 1)),
    "nulls in maps": lambda: other("nulls in maps", blocks(b"\0\0", ROOM)),
    "nulls in unions": lambda: other("nulls in unions", blocks(b"\2", ROOM)),
    "nulls in unions up to the budget": lambda: other("nulls in unions", blocks(b"\2", MAX_VALUES // 981 - 1)),
    "a record of nulls": lambda: other("a record of nulls", b""),
    "empty arrays": lambda: other("empty arrays", blocks(b"\0", ROOM)),
    "empty arrays up to the budget": lambda: other("empty arrays", blocks(b"\0", MAX_VALUES - 20)),
    "records up to the budget": lambda: other("records", blocks(b"\0", MAX_VALUES // 2 - 20)),
    "texts and nested dicts": lambda: other(
        "texts", blocks(b"\4ab", 150_000), b"\x02\x02k" + DICTS + b"\0"
    ),
    "values of nulls": lambda: b"\xc3\x01" + others()[1]["values of nulls"] + ENVELOPE + b"".join(
        [long_bytes(320), *(b"\4" + bytes([97 + i // 26, 97 + i % 26]) + b"\2" for i in range(320)), b"\0"]
    ),
}  # fmt: skip


@functools.cache
def worst(name):
    """Return the event of that name; it has at most the size of a record."""
    found = WORST[name]()
    assert len(found) <= MAX_RECORD_BYTES
    return found


def decode(data):
    """Decode an event; return it, or the error."""
    store, _ = others()
    try:
        return store.decode(data)
    except SchemaError as error:
        return error


# An event that "texts and nested dicts" has as a part: its memory takes five seconds to trace.
PART = "dicts in dicts up to the budget"


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=pytest.mark.slow) if each == PART else each for each in WORST]
)
def test_memory_of_an_event(name):
    """Decoding an event, or refusing it, takes 64 MiB at most beside its bytes; an error does not quote the event."""
    data = worst(name)
    others()
    tracemalloc.start()
    gc.disable()  # as it nearly is in a consumer
    try:
        found = decode(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        gc.enable()
        tracemalloc.stop()

    assert peak <= MAX_BYTES
    if isinstance(found, SchemaError):
        assert len(str(found)) < 700
    # The bounds are those of events that are read: these are as large as events can be.
    assert isinstance(found, e.Event) or "budget" not in name


@pytest.mark.parametrize("name", WORST)
def test_steps_of_an_event(name, monkeypatch):
    """The interpreter takes a bounded number of steps for each byte and each value of the budget.

    Counted with a smaller budget and the first bytes of the event: the bound is the same for each byte.
    """
    budget = 2000
    monkeypatch.setattr(codec, "MAX_VALUES", budget)
    data = worst(name)[:20_000]
    decode(data)
    count = 0

    def look(_):
        nonlocal count
        count += 1

    each_instruction(lambda: decode(data), look)

    assert count <= STEPS * (len(data) + budget)


def test_the_updates_of_an_event_share_its_budget():
    """Each update alone is within the budget, and all of them are not."""
    one = part(e.TagsAdded, b"\x02\x02k" + blocks(b"\0", 20_000, LIST) + b"\0")

    assert "more than" not in str(decode(own(e.TrialUpdated, b"\2" + long_bytes(len(one)) + one + b"\0")))
    assert f"more than {MAX_VALUES} values" in str(decode(updated(one)))


# --- Batches


def test_a_batch_of_the_worst_events_is_decoded_in_parts():
    """Each part ends a little above a bound of values, and together the parts are what `decode_all` returns."""
    store, _ = others()
    small = other("a record of nulls", b"")
    tags = encode(e.TagsAdded(**SUBJECT, values={"a": 1}))
    rows = [
        encode(e.MetricsLogged(
            trial="t", writer="w", seq=i, time=1, aggregator=AggregatorSpec("timeseries"), names=("a",), times=(0,),
            columns=[(0.5,)],
        ))
        for i in range(300, 340)
    ]  # fmt: skip
    records = [*rows, *[small] * 1200, tags, *rows, b"garbage"]
    parts = list(store.decode_parts(records))
    whole = store.decode_all(records)

    assert [len(each) * 1000 // codec._PART_VALUES for each in parts] == [1, 1, 0]
    assert [str(each) for part in parts for each in part] == [str(each) for each in whole]
    assert [type(each) for each in whole[:40]] == [e.MetricsLogged] * 40


def test_a_usual_batch_is_one_part():
    """Thousands of creations with many parameters are decoded, and so folded and written, together."""
    created = e.TrialCreated(
        **{**SUBJECT, "seq": 0}, request="r", name="n", auto_increment=True, parameters={f"p{i}": i for i in range(30)}
    )
    data = encode(created)

    assert [len(part) for part in SchemaStore().decode_parts([data] * 4000)] == [4000]


def test_records_of_many_bytes_are_not_unpacked_together(monkeypatch):
    """The integers of frames are unpacked together for a bounded number of bytes."""
    monkeypatch.setattr(codec, "_TOGETHER_BYTES", 1000)
    data = encode(e.Heartbeat(**SUBJECT))
    store = SchemaStore()

    assert [len(part) for part in store.decode_parts([data] * 100)] == [1000 // len(data)] * (
        100 // (1000 // len(data))
    ) + ([100 % (1000 // len(data))] if 100 % (1000 // len(data)) else [])
    assert [len(part) for part in store.decode_parts([bytes(2000)] * 3)] == [1, 1, 1]
    assert list(store.decode_parts([])) == [[]]
