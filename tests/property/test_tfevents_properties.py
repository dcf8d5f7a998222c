"""TensorBoard's event files: whatever was encoded comes back, and any bytes are a message or an error."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from trialstream.tfevents.protobuf import (
    bytes_field,
    double,
    double_field,
    fields,
    integer,
    varint_field,
)
from trialstream.tfevents.records import frame, read_records
from trialstream_schemas.errors import SchemaError

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(records=st.lists(st.binary(max_size=200), max_size=8))
def test_records_come_back(tmp_path_factory, records):
    """The records of a file are those that were framed, with the offset behind each."""
    path = tmp_path_factory.mktemp("records") / "events"
    path.write_bytes(b"".join(map(frame, records)))

    found = list(read_records(path))
    assert [record for _, record in found] == records
    assert not found or found[-1][0] == path.stat().st_size


@given(number=st.integers(1, 2**29 - 1), value=INT64, data=st.binary(max_size=300), x=st.floats())
def test_fields_come_back(number, value, data, x):
    """Integers, bytes and doubles have the same value after encoding and decoding."""
    message = varint_field(number, value) + bytes_field(number, data) + double_field(number, x)
    (first, found), (_, bytes_), (_, packed) = fields(message)

    assert (first, integer(found), bytes_) == (number, value, data)
    assert double(packed) == x or math.isnan(x)


@given(data=st.binary(max_size=60))
def test_any_bytes_are_fields_or_an_error(data):
    """Hostile bytes raise SchemaError and nothing else, and no field is longer than the bytes."""
    try:
        found = list(fields(data))
    except SchemaError:
        return
    assert all(isinstance(value, int) or len(value) <= len(data) for _, value in found)
