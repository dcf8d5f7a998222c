"""Encoded forms of events and values restore them."""

from __future__ import annotations

import io
import json
from array import array
from dataclasses import fields, replace

import bson
import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples
from strategies import INT64, NAMES, VALUES, events_of, exact
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.model import forms, values
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.keys import escape_key, unescape_key
from trialstream_schemas.wire import events as e
from trialstream_schemas.wire.codec import HEADER_BYTES, SchemaStore, encode, record_of
from trialstream_schemas.wire.events import EVENTS
from trialstream_schemas.wire.limits import MAX_VALUES
from trialstream_schemas.wire.schemas import SCHEMAS
from trialstream_schemas.wire.varint import long_bytes, longs_bytes, read_longs

STORE = SchemaStore()
[FRAME_TEXT] = [each for each in SCHEMAS.values() if json.loads(each)["name"] == "trialstream.MetricsLogged"]
# Without the logical type, which would make datetimes of times.
FRAME_SCHEMA = fastavro.parse_schema(json.loads(FRAME_TEXT.replace(b'"logicalType": "timestamp-micros", ', b"")))
EVERY_EVENT = pytest.mark.parametrize("event", [pytest.param(each, id=each.__name__) for each in EVENTS])


def content(event):
    """Return the content of an event, exact to the bit; columns of a frame, tuples or arrays, become lists."""
    return exact(with_lists(event))


def with_lists(event):
    """Return an event whose columns are lists."""
    if isinstance(event, e.TrialUpdated):
        return replace(event, updates=[with_lists(each) for each in event.updates])
    if isinstance(event, e.MetricsLogged):
        plain = ("names", "steps", "float_steps", "text_steps", "times")
        lists = {name: list(getattr(event, name)) for name in plain}
        return replace(event, **lists, columns=[list(each) for each in event.columns])
    return event


@EVERY_EVENT
@settings(max_examples=examples(50))
@given(data=st.data())
def test_event_comes_back(event, data):
    """Decoding an encoded event of any content restores it."""
    sent = data.draw(events_of(event))

    assert content(STORE.decode(encode(sent))) == content(sent)


@EVERY_EVENT
@settings(max_examples=examples(50))
@given(data=st.data())
def test_an_event_does_not_depend_on_those_before_it(event, data):
    """An event comes back, and its values are counted, whatever was decoded before and what a user has done to that."""
    names = [each.name for each in fields(event)]
    before = data.draw(events_of(event))
    same = {name: getattr(before, name) for name in data.draw(st.sets(st.sampled_from(names)))}
    sent = replace(data.draw(events_of(event)), **same)
    counts = []
    for each in (before, before, sent, sent, sent):
        left = [MAX_VALUES]
        decoded = STORE._decode(encode(each), left)
        counts.append(left)

        assert content(decoded) == content(each)
        for name in names:
            if isinstance(field := getattr(decoded, name), list):
                field.append(None)
    assert counts[0] == counts[1]
    assert counts[2] == counts[3] == counts[4]


@EVERY_EVENT
@settings(max_examples=examples(50))
@given(data=st.data())
def test_damaged_event_is_a_schema_error(event, data):
    """Damaged bytes of an event are decoded to an event or a SchemaError, never to another error."""
    sent = bytearray(encode(data.draw(events_of(event))))
    at = data.draw(st.integers(10, len(sent) - 1))
    sent[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))

    try:
        STORE.decode(bytes(sent))
    except SchemaError as error:
        assert str(error)  # noqa: PT017 (an event is as good)


def by_fastavro(data: bytes):
    """Return the frame as fastavro decodes it with the text of the schema."""
    body = io.BytesIO(data[HEADER_BYTES:])
    record = fastavro.schemaless_reader(body, FRAME_SCHEMA, None)
    assert not body.read()
    return e.MetricsLogged(**{**record, "aggregator": AggregatorSpec(**record["aggregator"])})


@given(sent=events_of(e.MetricsLogged))
def test_a_frame_has_the_bytes_that_fastavro_writes(sent):
    """The bytes of a frame are those that fastavro writes with the schema."""
    out = io.BytesIO()
    record = {**record_of(sent), "names": list(sent.names), "columns": [list(each) for each in sent.columns]}
    fastavro.schemaless_writer(out, FRAME_SCHEMA, record, strict=True)

    assert encode(sent)[HEADER_BYTES:] == out.getvalue()


@settings(max_examples=examples(300))
@given(data=st.data())
def test_a_frame_equals_the_one_that_fastavro_reads(data):
    """Any bytes that are decoded to a frame are decoded to the same frame by fastavro."""
    sent = bytearray(encode(data.draw(events_of(e.MetricsLogged))))
    at = data.draw(st.integers(HEADER_BYTES, len(sent)))
    sent[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        made = STORE.decode(bytes(sent))
    except SchemaError:
        return

    assert content(made) == content(by_fastavro(bytes(sent)))


@given(xs=st.lists(INT64 | st.integers(-70, 70), max_size=60), cut=st.integers(0, 60))
def test_columns_of_integers_come_back(xs, cut):
    """Columns of integers, short or long, are restored; cut short they are an error."""
    data = longs_bytes(xs)

    assert data == b"".join(map(long_bytes, xs))
    assert read_longs(b"x" + data, 1, len(xs)) == (array("q", xs), len(data) + 1)
    if cut < len(data):
        with pytest.raises((SchemaError, IndexError)):
            read_longs(data[:cut], 0, len(xs))


@given(key=st.sampled_from(sorted(SCHEMAS)), body=st.binary(max_size=60))
def test_garbage_is_a_schema_error(key, body):
    """Random bytes after a known fingerprint make an event or a SchemaError."""
    try:
        STORE.decode(b"\xc3\x01" + key + body)
    except SchemaError as error:
        assert str(error)  # noqa: PT017 (an event is as good)


@given(VALUES)
def test_value_comes_back(x):
    """Each form of a value restores its types, bits and order of keys."""
    assert exact(values.value(x, "p")) == exact(x)
    assert exact(forms.from_avro(forms.to_avro(x))) == exact(x)
    assert exact(forms.from_document(bson.decode(bson.encode({"x": forms.to_document(x)}))["x"])) == exact(x)
    assert exact(forms.from_json(json.loads(json.dumps(forms.to_json(x), allow_nan=False)))) == exact(x)


@given(VALUES)
def test_size_bounds_the_bson(x):
    """The size of a value is at least its bytes in BSON."""
    assert len(bson.encode({"x": forms.to_document(x)})) - 8 <= values.size(x)


@given(NAMES, NAMES)
def test_escaped_keys_differ(one, other):
    """Escaped keys are restored, have no dots and dollars, and are equal only if the keys are."""
    escaped = escape_key(one)

    assert unescape_key(escaped) == one
    assert not set(escaped) & set(".$")
    assert (escaped == escape_key(other)) == (one == other)
