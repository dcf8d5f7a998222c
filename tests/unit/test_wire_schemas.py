"""Schemas as JSON: the form in which a spool and an archive keep them."""

import json

import pytest
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.schemas import SCHEMAS, fingerprint, schemas_from_json, schemas_to_json

OTHER = b'{"fields": [], "name": "trialstream.Other", "type": "record"}'


def test_json_has_a_schema_for_each_fingerprint():
    """The keys are fingerprints in hexadecimal digits, the values schemas that any Avro library reads."""
    found = json.loads(schemas_to_json(SCHEMAS))

    assert len(found) == len(SCHEMAS)
    for key, schema in found.items():
        assert fingerprint(schema) == bytes.fromhex(key)


@pytest.mark.parametrize("form", [str, str.encode], ids=["text", "bytes"])
def test_schemas_come_back_from_json(form):
    """Fingerprints and texts are the same after a round trip, to the byte."""
    assert schemas_from_json(form(schemas_to_json(SCHEMAS))) == SCHEMAS


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"xyz": {}}', b"\xff"], ids=["empty", "torn", "list", "null", "no digits", "bytes"]
)
def test_json_that_is_no_object_of_schemas(text):
    """Text that is not an object of schemas by fingerprint is a SchemaError."""
    with pytest.raises(SchemaError, match="expected a JSON object of schemas by fingerprint"):
        schemas_from_json(text)


def test_store_of_schemas():
    """A store made of schemas has these schemas and those of this version."""
    key = fingerprint(json.loads(OTHER))

    store = SchemaStore.of({key: OTHER})

    assert key in store
    assert all(each in store for each in SCHEMAS)


def test_store_of_an_invalid_schema():
    """A store cannot be made if one text is not an Avro schema."""
    with pytest.raises(SchemaError, match="schema"):
        SchemaStore.of({b"\0" * 8: b"{}"})
