"""Encoding of events to bytes and back: Avro single-object encoding."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import subprocess
import sys
from array import array
from importlib.resources import files

import fastavro
import pytest
from trialstream_schemas.errors import SchemaError, UnknownSchema
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.wire import events as e
from trialstream_schemas.wire.codec import SchemaStore, encode, record_of
from trialstream_schemas.wire.schemas import SCHEMAS, fingerprint

ENVELOPE = {"writer": "w", "seq": 3, "time": 1_700_000_000_123_456}
ASKED = {**ENVELOPE, "seq": 0, "request": "r"}
TRIAL = {"trial": "0" * 32 + "_0", **ENVELOPE}
STAT = AggregatorSpec("stat", 1)
ERROR = e.Error("ValueError", "no", "at line 1")
VALUES = {"a.b": [None, True, 2**63 - 1, -1, 0.5, -math.inf, "é", b"\0", {"": {}}]}

# One event of each type, with a value in every field, and its bytes. Events in logs must stay readable.
GOLDEN = [
    e.TrialCreated(
        trial="0" * 32 + "~r", **ASKED, name="t", parameters=VALUES, auto_increment=True, version="1", description="d",
        project_id="p", group_id="g", metadata={"m": 1}, tags={"t": 2.0}, status=e.StatusRecord("Queued", 7),
    ),
    e.TrialStarted(
        **TRIAL, if_version=7, request="r", attempt="job/2", rank=1, world_size=4, host="é", resume_step=-0.5,
        resumes="job/1",
    ),
    e.TrialFinished(**TRIAL, interrupted=True, elapsed=1.5, error=ERROR),
    e.ChronoStarted(**TRIAL, name="epoch", aggregator=STAT),
    e.ChronosFinished(
        **TRIAL, names=["a", "b"], aggregators=[STAT, AggregatorSpec("timeseries")], announced=[1, 0], failed=[0, 1],
        chronos=[0, 1, 1], times=[0, 5, -5], elapsed=[0.1, 0.2, math.inf],
    ),
    e.ArgumentsLogged(**TRIAL, values=VALUES),
    e.MetadataLogged(**TRIAL, values={"k": 1}, aggregator=AggregatorSpec("ring", 5)),
    e.MetricsLogged(
        **TRIAL, aggregator=AggregatorSpec("timeseries"), names=("x", "y"), steps=array("q", [1, 2]),
        float_steps=array("d", [0.5]), text_steps=["s"], times=array("q", [0, 9]),
        columns=[array("d", [1.0, -0.0]), array("d", [math.inf, 5e-324])],
    ),
    e.TagsAdded(**TRIAL, values={"k": "v"}),
    e.StatusSet(**TRIAL, status=e.StatusRecord("Paused", 150), error=ERROR),
    e.TrialAttached(**TRIAL, project_id="p", group_id="g"),
    e.Heartbeat(**TRIAL),
    e.TrialUpdated(
        **TRIAL, if_version=7, request="r",
        updates=[
            e.TrialStarted(**{**TRIAL, "seq": 0}),
            e.MetricsLogged(
                **{**TRIAL, "seq": 0}, aggregator=STAT, names=("x",), float_steps=array("d"), text_steps=["s"],
                times=(0,), columns=[(1.0,)],
            ),
        ],
    ),
    e.LogCreated(time=1, log="l", partitions=12),
    e.ProjectCreated(**ASKED, project="p", name="p", description="d", metadata={"m": 1}, tags={"t": 2}),
    e.GroupCreated(**ASKED, group="g", name="n", project_id="p", description="d", metadata={"m": 1}, tags={"t": 2}),
    e.GroupMetadataSet(**ENVELOPE, group="g", values={"k": None}),
]  # fmt: skip
BYTES = {
    "TrialCreated": (
        "c30190fbaa422d58895c4430303030303030303030303030303030303030303030303030303030303030307e72027700808981828389"
        "850600020272027402640202310206612e620c1200020104feffffffffffffffff01040106000000000000e03f06000000000000f0ff"
        "0804c3a90a02000e02000e0000000002027002026702026d0402000202740600000000000000400001020c5175657565640e"
    ),
    "TrialStarted": (
        "c301138a1e11fbfad5a54430303030303030303030303030303030303030303030303030303030303030305f30027706808981828389"
        "8506020e020272020a6a6f622f320202020804c3a904000000000000e0bf020a6a6f622f31"
    ),
    "TrialFinished": (
        "c3014665702fa9cd70554430303030303030303030303030303030303030303030303030303030303030305f30027706808981828389"
        "8506000002000000000000f83f01021456616c75654572726f72046e6f126174206c696e652031"
    ),
    "ChronoStarted": (
        "c30121a9587398e8b11f4430303030303030303030303030303030303030303030303030303030303030305f30027706808981828389"
        "850600000a65706f6368087374617402"
    ),
    "ChronosFinished": (
        "c301539f6dde765b0d2e4430303030303030303030303030303030303030303030303030303030303030305f30027706808981828389"
        "85060000040261026200040873746174021474696d6573657269657300000402000004000200060002020006000a0900069a99999999"
        "99b93f9a9999999999c93f000000000000f07f00"
    ),
    "ArgumentsLogged": (
        "c3018e1575f6b8d3ca3d4430303030303030303030303030303030303030303030303030303030303030305f30027706808981828389"
        "850600000206612e620c1200020104feffffffffffffffff01040106000000000000e03f06000000000000f0ff0804c3a90a02000e02"
        "000e00000000"
    ),
    "MetadataLogged": (
        "c3019b863ded52c50a654430303030303030303030303030303030303030303030303030303030303030305f30027706808981828389"
        "8506000002026b0402000872696e670a"
    ),
    "MetricsLogged": (
        "c3010efb0393ad167e5f4430303030303030303030303030303030303030303030303030303030303030305f30027706808981828389"
        "850600001474696d65736572696573000402780279000402040002000000000000e03f0002027300040012000404000000000000f03f"
        "00000000000000800004000000000000f07f01000000000000000000"
    ),
    "TagsAdded": (
        "c301d5c70e35561f5be24430303030303030303030303030303030303030303030303030303030303030305f30027706808981828389"
        "8506000002026b08027600"
    ),
    "StatusSet": (
        "c301d05a4b24eed5c80f4430303030303030303030303030303030303030303030303030303030303030305f30027706808981828389"
        "850600000c506175736564ac02021456616c75654572726f72046e6f126174206c696e652031"
    ),
    "TrialAttached": (
        "c301a740082b618b59674430303030303030303030303030303030303030303030303030303030303030305f30027706808981828389"
        "85060000020270020267"
    ),
    "Heartbeat": (
        "c301090b8f93bb46ed094430303030303030303030303030303030303030303030303030303030303030305f30027706808981828389"
        "85060000"
    ),
    "TrialUpdated": (
        "c301eb7f20bd1c8057c54430303030303030303030303030303030303030303030303030303030303030305f30027706808981828389"
        "8506020e020272048001c301138a1e11fbfad5a54430303030303030303030303030303030303030303030303030303030303030305f"
        "3002770080898182838985060000000000000000b201c3010efb0393ad167e5f44303030303030303030303030303030303030303030"
        "30303030303030303030305f3002770080898182838985060000087374617402020278000000020273000200000202000000000000f0"
        "3f000000"
    ),
    "LogCreated": (
        "c301182cd90404104f39026c1802"
    ),
    "ProjectCreated": (
        "c301cb32e155542cac7e02700277008089818283898506000202720270026402026d040200020274040400"
    ),
    "GroupCreated": (
        "c301d379865e2e6efb5a0267027700808981828389850600020272026e026402027002026d040200020274040400"
    ),
    "GroupMetadataSet": (
        "c30144f42e242950216102670277068089818283898506000002026b0000"
    ),
}  # fmt: skip
# Events as earlier releases wrote them, without the fields that were added since, and their bytes.
OLDER = [
    (
        dataclasses.replace(GOLDEN[0], status=None),
        (
            "c3019293ae9b2f9d21214430303030303030303030303030303030303030303030303030303030303030307e72027700808981828389"
            "850600020272027402640202310206612e620c1200020104feffffffffffffffff01040106000000000000e03f06000000000000f0ff"
            "0804c3a90a02000e02000e0000000002027002026702026d0402000202740600000000000000400001"
        ),
    ),
    (
        e.TrialStarted(
            **TRIAL, if_version=7, request="r", attempt="job/2", rank=1, world_size=4, host="é", resume_step=-0.5
        ),
        (
            "c3014fc07c8d7924a5414430303030303030303030303030303030303030303030303030303030303030305f30027706808981828389"
            "8506020e020272020a6a6f622f320202020804c3a904000000000000e0bf"
        ),
    ),
    (
        e.TrialStarted(**TRIAL, if_version=7, request="r"),
        (
            "c3019d45243ef5c2ff5c4430303030303030303030303030303030303030303030303030303030303030305f30027706808981828389"
            "8506020e020272"
        ),
    ),
]  # fmt: skip
EVERY_EVENT = pytest.mark.parametrize("event", [pytest.param(each, id=type(each).__name__) for each in GOLDEN])


def plain(event):
    """Return the fields of an event, sequences as lists."""
    return {
        each.name: list(field) if isinstance(field := getattr(event, each.name), tuple | array) else field
        for each in dataclasses.fields(event)
    }


def foreign(event, change):
    """Return a store with a changed schema of an event, and a function that encodes records with it."""
    [text] = [each for each in SCHEMAS.values() if json.loads(each)["name"] == f"trialstream.{event.__name__}"]
    schema = json.loads(text)
    change(schema)
    store = SchemaStore()
    key = store.add(json.dumps(schema).encode())

    def encoded(record):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
        return b"\xc3\x01" + key + out.getvalue()

    return store, encoded


def test_golden_events_are_complete():
    """Every event type is among the golden ones."""
    assert {type(each) for each in GOLDEN} == set(e.EVENTS)
    assert set(BYTES) == {each.__name__ for each in e.EVENTS}


@EVERY_EVENT
def test_wire_format(event):
    """The bytes of an event are those that the first release with its schema wrote."""
    assert encode(event).hex() == BYTES[type(event).__name__]


@EVERY_EVENT
def test_event_comes_back(event):
    """Decoding an encoded event restores it."""
    assert plain(SchemaStore().decode(encode(event))) == plain(event)


@EVERY_EVENT
def test_single_object_encoding(event):
    """An event begins with C3 01 and the fingerprint of its schema."""
    data = encode(event)

    assert data[:2] == b"\xc3\x01"
    assert json.loads(SCHEMAS[data[2:10]])["name"] == f"trialstream.{type(event).__name__}"


@EVERY_EVENT
def test_fastavro_alone_reads_an_event(event):
    """Fastavro reads an event with only the text of its schema from the schemas topic."""
    data = encode(event)
    schema = fastavro.parse_schema(json.loads(SCHEMAS[data[2:10]]))
    body = io.BytesIO(data[10:])

    record = fastavro.schemaless_reader(body, schema, None)

    assert body.read() == b""
    written = record_of(event)
    if isinstance(event, e.MetricsLogged):
        written |= {key: list(written[key]) for key in ("names", "steps", "float_steps", "times")}
        written["columns"] = [list(column) for column in event.columns]
    assert {**record, "time": event.time} == written


def test_fingerprint_of_the_specification():
    """The fingerprint is that of the Avro specification, by one of its test vectors."""
    assert fingerprint("int") == bytes.fromhex("8f5c393f1ad57572")
    assert SchemaStore().add(b'{"type": "int"}') == fingerprint("int")


@EVERY_EVENT
def test_cut_off(event):
    """An event that is cut off at any byte is a SchemaError."""
    data = encode(event)

    for n in range(len(data)):
        with pytest.raises(SchemaError):
            SchemaStore().decode(data[:n])


@EVERY_EVENT
def test_bytes_left_over(event):
    """Bytes after the body are a SchemaError with their number."""
    with pytest.raises(SchemaError, match=f"{type(event).__name__}: 2 bytes are left over after the body"):
        SchemaStore().decode(encode(event) + b"\0\0")


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc3", b"\xc3\x01", b"\xc3\x01" + b"\0" * 7, b"{}" * 20, b"\xc3\x02" + b"\0" * 20, b"\0" * 1000],
    ids=lambda data: f"{len(data)} bytes {data[:3].hex(' ')}",
)
def test_garbage(data):
    """Bytes that are not in single-object encoding are a SchemaError."""
    with pytest.raises(SchemaError, match="not in Avro single-object encoding"):
        SchemaStore().decode(data)


def test_unknown_fingerprint():
    """An event of a schema that was never published is an UnknownSchema that names the fingerprint."""
    with pytest.raises(UnknownSchema, match="no schema with fingerprint 0102030405060708 is known"):
        SchemaStore().decode(b"\xc3\x01" + bytes(range(1, 9)) + b"body")


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        pytest.param(e.Heartbeat(**{**TRIAL, "seq": 2**63}), "Heartbeat does not fit", id="seq beyond 64 bits"),
        pytest.param(e.Heartbeat(**{**TRIAL, "trial": None}), "Heartbeat does not fit", id="no trial"),
        pytest.param(e.Heartbeat(**{**TRIAL, "trial": "\ud800"}), "Heartbeat does not fit", id="lone surrogate"),
        pytest.param(e.TagsAdded(**TRIAL, values={"k": object()}), "TagsAdded does not fit", id="object as a value"),
        pytest.param(
            e.MetricsLogged(**TRIAL, aggregator=STAT, names=["x"], times=[0], columns=[["1"]]),
            "MetricsLogged does not fit", id="text as a metric",
        ),
    ],
)  # fmt: skip
def test_field_that_does_not_fit_its_schema(event, reason):
    """An event with a field that does not fit its schema is a SchemaError."""
    with pytest.raises(SchemaError, match=reason):
        encode(event)


# --- Other versions


@pytest.mark.parametrize(("event", "data"), OLDER, ids=[type(event).__name__ for event, _ in OLDER])
def test_event_of_an_earlier_release(event, data):
    """The bytes that an earlier release wrote are read with its schema; fields that were added have their defaults."""
    store = SchemaStore()
    path = files("trialstream_schemas").joinpath("avro", "released", type(event).__name__, f"{data[4:20]}.avsc")

    with pytest.raises(UnknownSchema):
        store.decode(bytes.fromhex(data))
    store.add(path.read_bytes())
    assert store.decode(bytes.fromhex(data)) == event


def test_older_writer():
    """A field that the writer did not have takes its default."""
    store, encoded = foreign(e.ProjectCreated, lambda schema: schema["fields"].pop())
    old = e.ProjectCreated(**ASKED, project="p", name="p", description="d", metadata={"m": 1})
    record = {key: each for key, each in record_of(old).items() if key != "tags"}

    assert store.decode(encoded(record)) == old


def test_newer_writer():
    """A field that this version does not have is dropped."""
    more = {"name": "load", "type": {"type": "array", "items": "double"}, "default": []}
    store, encoded = foreign(e.Heartbeat, lambda schema: schema["fields"].insert(2, more))
    event = e.Heartbeat(**TRIAL)

    assert store.decode(encoded({**record_of(event), "load": [1.0, 2.0]})) == event


def test_narrower_writer():
    """A narrower type is widened, by the rules of Avro."""
    store, encoded = foreign(e.Heartbeat, lambda schema: schema["fields"][2].update(type="int"))

    assert store.decode(encoded(record_of(e.Heartbeat(**TRIAL)))) == e.Heartbeat(**TRIAL)


def test_values_of_another_version():
    """Values, which are recursive, are read from another version's events too."""
    store, encoded = foreign(e.TagsAdded, lambda schema: schema["fields"].append({"name": "x", "type": "int"}))
    event = e.TagsAdded(**TRIAL, values={"a": [{"b": [VALUES]}]})

    assert store.decode(encoded({**record_of(event), "x": 1})) == event


@pytest.mark.parametrize(
    ("change", "record"),
    [
        pytest.param({"type": "string"}, {"time": "noon"}, id="another type"),
        pytest.param({"name": "when"}, {"when": 1}, id="a field that is missing"),
    ],
)
def test_incompatible_writer(change, record):
    """Events of a schema that cannot be resolved to this version's are SchemaErrors."""
    store, encoded = foreign(e.Heartbeat, lambda schema: schema["fields"][3].update(change))

    with pytest.raises(SchemaError, match="Heartbeat: the body does not fit its schema"):
        store.decode(encoded({**record_of(e.Heartbeat(**TRIAL)), **record}))


def test_text_in_place_of_a_list():
    """A text in place of a list of texts is a SchemaError, not a list of its letters."""
    store, encoded = foreign(e.MetricsLogged, lambda schema: schema["fields"][7].update(type="string"))
    [event] = [each for each in GOLDEN if isinstance(each, e.MetricsLogged)]

    with pytest.raises(SchemaError, match="MetricsLogged: the body does not fit its schema"):
        store.decode(encoded({**record_of(event), "names": "xy"}))


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"type": "record", "name": "trialstream.Dreamt", "fields": []}, id="an event of the future"),
        pytest.param({"type": "record", "name": "other.Heartbeat", "fields": []}, id="an event of another namespace"),
        pytest.param("string", id="a text"),
        pytest.param(["null", "string"], id="a union"),
        pytest.param({"type": "map", "values": "int"}, id="a map"),
    ],
)
def test_event_of_an_unknown_type(schema):
    """The schema of an unknown event can be added; decoding such an event is a SchemaError that says so."""
    store = SchemaStore()
    key = store.add(json.dumps(schema).encode())

    assert key in store
    with pytest.raises(SchemaError, match="this version has no such event"):
        store.decode(b"\xc3\x01" + key + b"\0")


EMPTY = {"type": "record", "name": "Empty", "fields": []}


@pytest.mark.parametrize(
    "items",
    [
        pytest.param("null", id="null"),
        pytest.param(EMPTY, id="a record without fields"),
        pytest.param({"type": "fixed", "name": "Nothing", "size": 0}, id="a fixed of no bytes"),
        pytest.param({**EMPTY, "fields": [{"name": "a", "type": "null"}]}, id="a record of nulls"),
        pytest.param({"type": "null"}, id="null, wrapped"),
    ],
)
def test_items_that_take_no_bytes(items):
    """A schema with an array of such items is an error, anywhere: five bytes could claim millions of items."""
    array = {"type": "array", "items": items}
    for place in (array, ["null", array], {"type": "map", "values": array}, {"type": "array", "items": array}):
        schema = {"type": "record", "name": "E", "fields": [{"name": "a", "type": place}]}
        with pytest.raises(SchemaError, match="items that take no bytes"):
            SchemaStore().add(json.dumps(schema).encode())


def test_items_that_take_bytes():
    """Arrays of unions, of recursive records and of records with a field are accepted."""
    tree = {"type": "record", "name": "Tree", "fields": [{"name": "a", "type": {"type": "array", "items": "Tree"}}]}
    for items in (["null"], tree, {**EMPTY, "fields": [{"name": "a", "type": "boolean"}]}):
        schema = {"type": "record", "name": "E", "fields": [{"name": "a", "type": {"type": "array", "items": items}}]}
        SchemaStore().add(json.dumps(schema).encode())


@pytest.mark.parametrize("text", [b"", b"{", b"null", b"3", b"{}", b'{"type": "nothing"}', b"\xff", b"[" * 60_000])
def test_text_that_is_no_schema(text):
    """Text that is not an Avro schema is a SchemaError."""
    with pytest.raises(SchemaError, match="expected an Avro schema that can be read"):
        SchemaStore().add(text)


def test_store_has_its_own_schemas():
    """A new store has the schemas that this version writes, and adding them changes nothing."""
    store = SchemaStore()

    for key, text in SCHEMAS.items():
        assert key in store
        assert store.add(text) == key
    assert b"\0" * 8 not in store
    assert plain(store.decode(encode(GOLDEN[0]))) == plain(GOLDEN[0])


# --- Bytes that no writer of ours makes


def nested(depth, padding):
    """Return an event with a value nested that deep, made of bytes, since fastavro's writer cannot recurse so far."""
    data = encode(e.TagsAdded(**TRIAL, values={"p": "x" * padding, "k": None}))
    at = data.rindex(b"\x02k\x00")
    return data[: at + 2] + b"\x0c\x02" * depth + b"\0" + b"\0" * depth + data[at + 3 :]


@pytest.mark.parametrize("padding", [0, 2000], ids=["short event", "long event"])
def test_deep_values_are_read(padding):
    """A value of the deepest nesting is decoded, in a short and in a long event."""
    found = SchemaStore().decode(nested(64, padding)).values["k"]
    depth = 0
    while found:
        [found] = found
        depth += 1

    assert depth == 64
    assert found is None


@pytest.mark.parametrize("depth", [450, 1000, 5000, 300_000])
def test_too_deep_values_are_a_schema_error(depth):
    """A value too deep for the stack is a SchemaError, and the process survives.

    The test runs in a process of its own, since a stack overflow would end the test run.
    """
    code = """if True:
        import sys
        from trialstream_schemas.wire.codec import SchemaStore
        try:
            SchemaStore().decode(sys.stdin.buffer.read())
        except Exception as error:
            print(type(error).__name__)"""

    done = subprocess.run([sys.executable, "-c", code], input=nested(depth, 0), capture_output=True, check=False)

    assert (done.returncode, done.stdout.strip()) == (0, b"SchemaError"), done.stderr[-500:]
