"""TensorBoard's event files: the framing, the wire format, and damaged and hostile files."""

from __future__ import annotations

import math
import struct

import pytest
from trialstream.tfevents.protobuf import (
    double,
    fields,
    float_field,
    integer,
    text,
)
from trialstream.tfevents.records import MAX_RECORD_BYTES, frame, read_records
from trialstream_schemas.errors import SchemaError

# tensorboardX writes these bytes for the record b"hello".
HELLO = bytes.fromhex("0500000000000000 eab2043e 68656c6c6f bb1f1c19")


def test_a_record_has_the_bytes_that_other_writers_write():
    """Length, masked CRC-32C of the length, data, masked CRC-32C of the data."""
    assert frame(b"hello") == HELLO


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


def test_a_float_of_4_bytes_beyond_its_range_is_infinite():
    """TensorBoard's scalars are floats of 4 bytes."""
    values = [double(value) for _, value in fields(float_field(2, 1e300) + float_field(2, -1e300))]

    assert values == [math.inf, -math.inf]


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
