"""Typed events and their schemas match."""

from __future__ import annotations

import dataclasses
import json

import pytest
from trialstream_schemas.wire import events
from trialstream_schemas.wire.events import EVENTS, Heartbeat, SubjectEvent, TrialEvent
from trialstream_schemas.wire.schemas import SCHEMAS

TEXTS = {json.loads(text)["name"]: json.loads(text) for text in SCHEMAS.values()}
EVERY_EVENT = pytest.mark.parametrize("event", [pytest.param(each, id=each.__name__) for each in EVENTS])


def records(schema):
    """Return all records of a schema, however deep."""
    if isinstance(schema, list):
        return [found for each in schema for found in records(each)]
    if not isinstance(schema, dict):
        return []
    inner = [schema.get("items"), schema.get("values"), *(field["type"] for field in schema.get("fields", []))]
    return [schema] * (schema["type"] == "record") + records(inner)


def arrays(schema):
    """Return all array schemas of a schema, however deep."""
    if isinstance(schema, list):
        return [found for each in schema for found in arrays(each)]
    if not isinstance(schema, dict):
        return []
    inner = [schema.get("items"), schema.get("values"), *(field["type"] for field in schema.get("fields", []))]
    return [schema] * (schema["type"] == "array") + arrays(inner)


def test_every_event_has_a_schema():
    """Every event has one schema, with a fingerprint of its own."""
    assert set(TEXTS) == {f"trialstream.{each.__name__}" for each in EVENTS}
    assert len(SCHEMAS) == len(EVENTS)


def test_every_event_is_exported():
    """Every event class of the module is in `EVENTS`, or a base class."""
    classes = {each for each in vars(events).values() if isinstance(each, type) and issubclass(each, events.Event)}

    assert classes - set(EVENTS) == {events.Event, SubjectEvent, TrialEvent}
    assert {each.__name__ for each in classes} <= set(events.__all__)


@EVERY_EVENT
def test_fields_match(event):
    """The dataclass has the fields of the schema, and a default where the schema has one."""
    ours = {each.name: each for each in dataclasses.fields(event)}
    theirs = {each["name"]: each for each in TEXTS[f"trialstream.{event.__name__}"]["fields"]}

    assert set(ours) == set(theirs)
    optional = {
        name
        for name, each in ours.items()
        if each.default is not dataclasses.MISSING or each.default_factory is not dataclasses.MISSING
    }
    with_default = {name for name, each in theirs.items() if "default" in each}
    assert optional - {"seq"} == with_default  # the outbox sets it after the event is made


@EVERY_EVENT
def test_envelope(event):
    """Every event has a time; those of a trial, a group or a project have the whole envelope, with the same names."""
    fields = {each["name"]: each["type"] for each in TEXTS[f"trialstream.{event.__name__}"]["fields"]}

    assert fields["time"] == {"type": "long", "logicalType": "timestamp-micros"}
    if issubclass(event, SubjectEvent):
        assert fields[event.SUBJECT] == fields["writer"] == "string"
        assert fields["seq"] == "long"
        assert fields["if_version"] == ["null", "long"]
        assert fields["request"] == ["null", "string"]


@EVERY_EVENT
def test_everything_is_documented(event):
    """Every record and every field has a doc of one sentence."""
    for record in records(TEXTS[f"trialstream.{event.__name__}"]):
        assert record["doc"].endswith("."), record["name"]
        for field in record["fields"]:
            assert field["doc"].endswith("."), (record["name"], field["name"])


def size_at_least(schema):
    """Return the smallest number of bytes that a datum of the schema takes."""
    match schema:
        case "null":
            return 0
        case "trialstream.Value":
            return 1
        case {"type": "record", "fields": fields}:
            return sum(size_at_least(field["type"]) for field in fields)
        case {"type": "fixed", "size": n}:
            return n
    return 1


@EVERY_EVENT
def test_no_array_of_empty_items(event):
    """No array has items of zero bytes; five bytes could otherwise claim more items than memory has room for."""
    for each in arrays(TEXTS[f"trialstream.{event.__name__}"]):
        assert size_at_least(each["items"]) > 0


def test_zero_size_is_detected():
    """The check above finds such arrays."""
    assert size_at_least("null") == 0
    assert size_at_least({"type": "record", "fields": [{"type": "null"}]}) == 0
    assert len(arrays({"type": "map", "values": {"type": "array", "items": {"type": "array", "items": "null"}}})) == 2


@pytest.mark.parametrize("address", ["abc_0", "abc_12", "abc~request_with~signs"])
def test_address(address):
    """All addresses of a trial have its hash as key, so that all its events are in one partition."""
    event = Heartbeat(trial=address, writer="w", time=0)

    assert event.hash == "abc"
    assert event.subject == address
