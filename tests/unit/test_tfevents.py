"""TensorBoard's event files: the framing, the wire format, and damaged and hostile files."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trialstream.tfevents.protobuf import (
    bytes_field,
    double,
    double_field,
    fields,
    float_field,
    integer,
    text,
    varint_field,
)
from trialstream.tfevents.records import MAX_RECORD_BYTES, frame, read_records
from trialstream_schemas.errors import SchemaError

# tensorboardX writes these bytes for the record b"hello".
HELLO = bytes.fromhex("0500000000000000 eab2043e 68656c6c6f bb1f1c19")
INT64 = st.integers(-(2**63), 2**63 - 1)


def test_a_record_has_the_bytes_that_other_writers_write():
    """Length, masked CRC-32C of the length, data, masked CRC-32C of the data."""
    assert frame(b"hello") == HELLO


@given(records=st.lists(st.binary(max_size=200), max_size=8))
def test_records_come_back(tmp_path_factory, records):
    """The records of a file are those that were framed, with the offset behind each."""
    path = tmp_path_factory.mktemp("records") / "events"
    path.write_bytes(b"".join(map(frame, records)))

    found = list(read_records(path))
    assert [record for _, record in found] == records
    assert not found or found[-1][0] == path.stat().st_size


def test_a_file_that_is_cut_anywhere_has_the_whole_records_before(tmp_path):
    """A file that is being written ends in a part of a record, which is no error."""
    whole = frame(b"one") + frame(b"two")
    path = tmp_path / "events"
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        assert [record for _, record in read_records(path)] == [b"one"] * (cut >= len(frame(b"one")))


def test_each_damaged_bit_is_found(tmp_path):
    """A flipped bit raises an error with the file and the offset of the record; nothing wrong is returned."""
    whole = bytearray(frame(b"one") + frame(b"two"))
    path = tmp_path / "events"
    second = len(frame(b"one"))
    for bit in range(8 * second, 8 * len(whole)):
        whole[bit // 8] ^= 1 << bit % 8
        path.write_bytes(whole)
        with pytest.raises(SchemaError, match=f"events: .* at byte {second}"):
            list(read_records(path))
        whole[bit // 8] ^= 1 << bit % 8


def test_the_size_of_a_record_is_checked_before_it_is_read(tmp_path):
    """A length beyond the bound is refused even if its checksum is right."""
    length = struct.pack("<Q", MAX_RECORD_BYTES + 1)
    path = tmp_path / "events"
    path.write_bytes(length + frame(length)[-4:])

    with pytest.raises(SchemaError, match=rf"at most {MAX_RECORD_BYTES} bytes at byte 0, got {MAX_RECORD_BYTES + 1}"):
        list(read_records(path))


@given(number=st.integers(1, 2**29 - 1), value=INT64, data=st.binary(max_size=300), x=st.floats())
def test_fields_come_back(number, value, data, x):
    """Integers, bytes and doubles have the same value after encoding and decoding."""
    message = varint_field(number, value) + bytes_field(number, data) + double_field(number, x)
    (first, found), (_, bytes_), (_, packed) = fields(message)

    assert (first, integer(found), bytes_) == (number, value, data)
    assert double(packed) == x or math.isnan(x)


def test_a_float_of_4_bytes_beyond_its_range_is_infinite():
    """TensorBoard's scalars are floats of 4 bytes."""
    values = [double(value) for _, value in fields(float_field(2, 1e300) + float_field(2, -1e300))]

    assert values == [math.inf, -math.inf]


@given(data=st.binary(max_size=60))
def test_any_bytes_are_fields_or_an_error(data):
    """Hostile bytes raise SchemaError and nothing else, and no field is longer than the bytes."""
    try:
        found = list(fields(data))
    except SchemaError:
        return
    assert all(isinstance(value, int) or len(value) <= len(data) for _, value in found)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "expected .* bytes at byte 10, got 0"),
        (b"\x08" + b"\x80" * 20, "expected a varint at byte 1"),
        (b"\x00\x01", "expected the number of a field, got 0"),
        (b"\x0b", "expected a type of field, got 3"),
        (b"\x09\x00", "expected 8 bytes at byte 1, got 1"),
    ],
    ids=["length", "varint", "number", "group", "double"],
)
def test_what_is_no_message_is_refused(data, message):
    """The error has the offset."""
    with pytest.raises(SchemaError, match=message):
        list(fields(data))


def test_a_value_of_another_type_is_refused():
    """A number where a text is expected, and so on."""
    with pytest.raises(SchemaError):
        integer(b"")
    with pytest.raises(SchemaError):
        double(b"123")
    with pytest.raises(SchemaError):
        text(1)
