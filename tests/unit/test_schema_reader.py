"""Schemas that anybody may have written: each is read or refused at a cost that is linear in its text."""

from __future__ import annotations

import json
import tracemalloc

import pytest
import trialstream as ts
from trialstream.spool.segment import Container, SpooledEvent, read_segment
from trialstream_consumer.archive.file import Archive, ArchiveError, new_archive
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire import schemas
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.limits import MAX_SCHEMAS_BYTES
from trialstream_schemas.wire.schema_reader import MAX_SCHEMA_BYTES, MAX_SCHEMA_VALUES, fingerprint, read_schema
from trialstream_schemas.wire.schemas import PARSED, SCHEMAS, check_fingerprint, schemas_from_json, schemas_to_json


def record(name, *types):
    """Return a record with fields of these types."""
    return {"type": "record", "name": name, "fields": [{"name": f"f{i}", "type": each} for i, each in enumerate(types)]}


def two_by_two(depth, first):
    """Return a record that contains two records that contain two records, and so on; `first` is the innermost type."""
    inner = first
    for i in range(depth):
        inner = record(f"R{i}", inner, inner if isinstance(inner, str) else inner["name"])
    return inner


def out_of_line(depth):
    """The same where each record is defined in an array that stands before, so that nothing is nested."""
    defined = record("R0", "null", "null")
    fields = [{"type": "array", "items": ["null", defined]}]
    fields += [{"type": "array", "items": ["null", record(f"R{i}", f"R{i - 1}", f"R{i - 1}")]} for i in range(1, depth)]
    return record("trialstream.Heartbeat", *fields, f"R{depth - 1}")


def fields(count):
    """Return a record of many nulls."""
    return record("trialstream.Heartbeat", *["null"] * count)


def nested(depth):
    """Return arrays nested that deep, as text."""
    return b'{"type": "array", "items": ' * depth + b'"long"' + b"}" * depth


HOSTILE = {
    "records two by two, 28 deep": two_by_two(28, "null"),
    "records of longs, two by two": two_by_two(28, "long"),
    "records two by two, not nested": out_of_line(60),
    "100,000 fields": fields(100_000),
    "2,000 fields": fields(2000),
    "nested 5,000 deep": nested(5000),
    "nested 40 deep": nested(40),
    "brackets 5,000 deep": b"[" * 5000 + b"]" * 5000,
    "a record that contains itself": record("R", "long", "R"),
    "records that contain each other": record("R", "long", record("S", ["null", "long"], "R")),
    "an array of records that contain themselves": {"type": "array", "items": record("R", "R")},
    "an array of records without bytes": {"type": "array", "items": record("R", "null")},
    "an array of a type without bytes that follows": record(
        "R", ["null", record("S", {"type": "array", "items": ["null", "R"]})], {"type": "array", "items": record("T")}
    ),
    "a fixed of 2**62 bytes": {"type": "fixed", "name": "F", "size": 2**62},
    "a fixed of 10**3000 bytes": b'{"type": "fixed", "name": "F", "size": 1' + b"0" * 3000 + b"}",
    "a fixed of -1 bytes": {"type": "fixed", "name": "F", "size": -1},
    "a name of 100,000 characters": record("R" * 100_000, "long"),
    "a doc of 100,000 characters": {**record("R", "long"), "doc": "d" * 100_000},
    "a doc that grows when it is escaped": {**record("R", "long"), "doc": "\u20ac" * 20_000},
    "100,000 symbols": {"type": "enum", "name": "E", "symbols": [f"s{i}" for i in range(100_000)]},
    "a union in a union": ["null", ["long"]],
    "a union of a union of 10,000": ["null", ["long"] * 10_000],
    "a type that is a list": {"type": ["null", "long"]},
    "a type that is an object": {"type": {"type": "long"}},
    "a parsed schema": {"__fastavro_parsed": True, "__named_schemas": {}, "type": "nothing"},
    "a name that is a number": {**record("R", "long"), "name": 3},
    "a namespace that is a list": {**record("R", "long"), "namespace": ["a"]},
    "fields that are numbers": {"type": "record", "name": "R", "fields": [1, 2]},
    "an unknown type": record("R", "S"),
    "a type that is defined twice": record("R", record("S", "long"), record("S", "int")),
}


def text_of(schema):
    """Return the JSON of a schema."""
    return schema if isinstance(schema, bytes) else json.dumps(schema, ensure_ascii=False).encode()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_is_refused(name):
    """The error comes at a small cost, is short, and the same for a store."""
    text = text_of(HOSTILE[name])
    tracemalloc.start()
    try:
        with pytest.raises(SchemaError) as caught:
            read_schema(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 8 * 1024 * 1024 + len(text)
    assert len(str(caught.value)) < 400
    with pytest.raises(SchemaError):
        SchemaStore().add(text)


@pytest.mark.parametrize(
    "kind", [{"type": "fixed", "size": 4}, {"type": "enum", "symbols": ["a"]}, {"type": "error", "fields": []}]
)
def test_a_schema_with_the_name_of_an_event_that_is_no_record(kind):
    """Nothing but a record is the schema of an event."""
    with pytest.raises(SchemaError, match="expected a record, got"):
        SchemaStore().add(text_of({**kind, "name": "trialstream.Heartbeat"}))


def test_a_decimal_of_millions_of_digits_is_an_ordinary_number():
    """Logical types are dropped at every level before fastavro sees them."""
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 5_000_000, "scale": 4_999_999}
    schema = record("trialstream.Heartbeat", decimal, {"type": "array", "items": decimal}, ["null", decimal])
    found = read_schema(text_of(schema))

    assert b"logicalType" not in json.dumps(found.parsed, default=str).encode()
    assert found.key == fingerprint(
        record("trialstream.Heartbeat", "bytes", {"type": "array", "items": "bytes"}, ["null", "bytes"])
    )


def test_what_decoding_does_not_need_is_dropped():
    """Docs, defaults, aliases, orders and unknown entries are in neither the parsed schema nor the fingerprint."""
    plain = record("R", "long", {"type": "enum", "name": "E", "symbols": ["a"]})
    rich = json.loads(json.dumps(plain)) | {"doc": "d", "aliases": ["S"], "more": [1]}
    rich["fields"][0] |= {"doc": "d", "default": 3, "order": "ignore", "aliases": ["g"]}
    rich["fields"][1]["type"] |= {"default": "a", "doc": "d"}
    found = read_schema(text_of(rich))

    assert found == read_schema(text_of(plain))


def test_the_bounds_are_far_from_the_schemas_of_this_version():
    """Each schema of this version has a tenth of the bounds, and its fingerprint is that of fastavro."""
    for key, text in SCHEMAS.items():
        found = read_schema(text)
        [parsed] = [each for each in PARSED.values() if fingerprint(each) == key]

        assert found.key == key
        assert found.name == parsed["name"]
        assert len(text) < MAX_SCHEMA_BYTES / 10
        assert len(parsed["fields"]) < MAX_SCHEMA_VALUES / 10


def test_the_largest_schema():
    """A schema at the bounds is read."""
    assert read_schema(text_of(fields(MAX_SCHEMA_VALUES - 1))).name == "trialstream.Heartbeat"
    with pytest.raises(SchemaError, match=f"expands to {MAX_SCHEMA_VALUES + 1} values"):
        read_schema(text_of(fields(MAX_SCHEMA_VALUES)))


# --- Keys


OTHER = text_of(record("trialstream.Heartbeat", "string", "double"))
OTHER_KEY = read_schema(OTHER).key


def test_a_fingerprint_is_computed():
    """A schema under the key of another one, under no key or under a long one is an error that names both."""
    check_fingerprint(OTHER_KEY, OTHER)
    [key, *_] = SCHEMAS
    for wrong in (key, b"", b"k" * 1000):
        with pytest.raises(
            SchemaError, match=f"has the fingerprint {OTHER_KEY.hex()}, and its key is {wrong[:8].hex()}"
        ):
            check_fingerprint(wrong, OTHER)
    with pytest.raises(SchemaError, match="its key is none"):
        check_fingerprint(None, OTHER)


@pytest.mark.parametrize("key", [*list(SCHEMAS)[:1], b"\1" * 8])
def test_a_file_whose_schema_stands_under_another_key(key):
    """A spool or an archive with such a schema is refused."""
    assert schemas_from_json(schemas_to_json({OTHER_KEY: OTHER})).keys() == {OTHER_KEY}
    with pytest.raises(SchemaError, match="has the fingerprint"):
        schemas_from_json(schemas_to_json({key: OTHER}))


def test_spools_and_archives_with_a_wrong_key_are_refused(tmp_path):
    """The error of a push or an import names the file, the schema, its fingerprint and the key."""
    [key, *_] = SCHEMAS
    segment, file = tmp_path / "1.avro", tmp_path / "log.avro"
    container = Container("w", "p", "", {key: OTHER})
    segment.write_bytes(container.header + container.block([SpooledEvent("trials", b"k", b"v")]))
    with new_archive(file, {key: OTHER}, {}):
        pass

    words = f"trialstream.Heartbeat has the fingerprint {OTHER_KEY.hex()}, and its key is {key.hex()}"
    with pytest.raises(ts.SpoolError, match=f"{segment} .*{words}"):
        read_segment(segment)
    with pytest.raises(ArchiveError, match=f"{file}.*{words}"):
        Archive.check(file, lambda *_: None)


def test_a_file_with_more_schemas_than_a_log_can_have():
    """The error comes before the JSON is read."""
    with pytest.raises(SchemaError, match=f"at most {2 * MAX_SCHEMAS_BYTES} bytes"):
        schemas_from_json("[" * (2 * MAX_SCHEMAS_BYTES + 1))


def test_a_schema_with_the_fingerprint_of_this_version_does_not_replace_it(monkeypatch):
    """A fingerprint is no proof: another schema with it can be made."""
    [(own, text), *_] = SCHEMAS.items()
    store = SchemaStore()
    before = store._known[own]
    monkeypatch.setattr("trialstream_schemas.wire.codec.read_schema", lambda text: read_schema(text)._replace(key=own))

    assert store.add(OTHER) == own
    assert store._known[own] is before
    assert schemas.SCHEMAS[own] == text


# --- The store


def test_the_schemas_of_a_store_are_bounded_in_bytes():
    """A log of many schemas does not fill the memory: later ones are refused, and the first stay."""
    store = SchemaStore()
    given = [text_of({**record(f"trialstream.E{i}", "long"), "doc": "d" * 20_000}) for i in range(200)]
    kept = [store.add(text) for text in given[: MAX_SCHEMAS_BYTES // 21_000]]
    with pytest.raises(SchemaError, match=f"more than {MAX_SCHEMAS_BYTES} bytes of schemas"):
        for text in given:
            store.add(text)

    assert all(key in store for key in kept)
    assert store.add(text_of(record("trialstream.E0", "long"))) == kept[0]  # known, and now smaller
    assert all(store.add(text) == key for key, text in SCHEMAS.items())
