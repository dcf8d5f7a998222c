"""Events and values survive every form that they take."""

from __future__ import annotations

import json

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import NAMES, VALUES, events_of, exact
from trialstream_schemas import values
from trialstream_schemas.codec import SCHEMAS, SchemaStore, encode
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.events import EVENTS

STORE = SchemaStore()
EVERY_EVENT = pytest.mark.parametrize("event", [pytest.param(each, id=each.__name__) for each in EVENTS])


@EVERY_EVENT
@settings(max_examples=50)
@given(data=st.data())
def test_event_comes_back(event, data):
    """An event of any content is the same after its way through Avro."""
    sent = data.draw(events_of(event))

    assert exact(STORE.decode(encode(sent))) == exact(sent)


@EVERY_EVENT
@settings(max_examples=50)
@given(data=st.data())
def test_damaged_event_is_a_schema_error(event, data):
    """Whatever bytes come after a known fingerprint: they make an event or a SchemaError, never another error."""
    sent = bytearray(encode(data.draw(events_of(event))))
    at = data.draw(st.integers(10, len(sent) - 1))
    sent[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))

    try:
        STORE.decode(bytes(sent))
    except SchemaError as error:
        assert str(error)  # noqa: PT017 (an event is as good)


@given(key=st.sampled_from(sorted(SCHEMAS)), body=st.binary(max_size=60))
def test_garbage_is_a_schema_error(key, body):
    """Random bytes after a known fingerprint make an event or a SchemaError."""
    try:
        STORE.decode(b"\xc3\x01" + key + body)
    except SchemaError as error:
        assert str(error)  # noqa: PT017 (an event is as good)


@given(VALUES)
def test_value_comes_back(x):
    """A value is the same, to type, bits and order of keys, after its way through each of its forms."""
    assert exact(values.value(x, "p")) == exact(x)
    assert exact(values.from_avro(values.to_avro(x))) == exact(x)
    assert exact(values.from_document(bson.decode(bson.encode({"x": values.to_document(x)}))["x"])) == exact(x)
    assert exact(values.from_json(json.loads(json.dumps(values.to_json(x), allow_nan=False)))) == exact(x)


@given(VALUES)
def test_size_bounds_the_bson(x):
    """The size of a value is no less than what BSON takes for it."""
    assert len(bson.encode({"x": values.to_document(x)})) - 8 <= values.size(x)


@given(NAMES, NAMES)
def test_keys_stay_apart(one, other):
    """Escaped keys come back, are free of dots and dollars, and are equal only if the keys are."""
    escaped = values.escape_key(one)

    assert values.unescape_key(escaped) == one
    assert not set(escaped) & set(".$")
    assert (escaped == values.escape_key(other)) == (one == other)
