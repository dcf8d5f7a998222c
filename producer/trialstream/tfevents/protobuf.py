"""The wire format of protobuf (protobuf.dev/programming-guides/encoding), without generated classes.

A message is read as its fields, in their order: the number of each and its value. The caller converts the value, since
the wire format has four types only. All bounds are checked before they are used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeAlias

from trialstream_schemas.errors import SchemaError

__all__ = ["Field", "bytes_field", "double", "double_field", "fields", "float_field", "integer", "text", "varint_field"]

Field: TypeAlias = "tuple[int, int | bytes]"
"""Number of a field, and its value: an int of a varint, the bytes of any other type."""

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_MAX_VARINT = 10  # bytes of 64 bits


def fields(data: bytes) -> Iterator[Field]:
    """Read the fields of a message.

    Args:
        data: The encoded message.

    Yields:
        The fields, in their order.

    Raises:
        SchemaError: The bytes are no message; the message of the error has the offset in the bytes.
    """
    at, end = 0, len(data)
    while at < end:
        begin = at
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if not number:
            raise SchemaError(f"protobuf: expected the number of a field, got 0 at byte {begin}")
        if kind == _VARINT:
            found, at = _varint(data, at)
            yield number, found
            continue
        if kind == _LEN:
            length, at = _varint(data, at)
        elif kind in (_I64, _I32):
            length = 8 if kind == _I64 else 4
        else:
            raise SchemaError(f"protobuf: expected a type of field, got {kind} at byte {begin}")
        if length > end - at:
            raise SchemaError(f"protobuf: expected {length} bytes at byte {at}, got {end - at}")
        yield number, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    found = 0
    for i, byte in enumerate(data[at : at + _MAX_VARINT]):
        found |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return found & (2**64 - 1), at + i + 1
    raise SchemaError(f"protobuf: expected a varint at byte {at}, got {data[at : at + _MAX_VARINT].hex() or 'the end'}")


def integer(value: int | bytes) -> int:
    """Convert the value of a field to a signed integer of 64 bits."""
    if isinstance(value, bytes):
        raise SchemaError(f"protobuf: expected an integer, got {len(value)} bytes")
    return value - 2**64 if value >= 2**63 else value


def double(value: int | bytes) -> float:
    """Convert the value of a field to a float: of 8 bytes or of 4."""
    if not isinstance(value, bytes) or len(value) not in (4, 8):
        raise SchemaError("protobuf: expected a float or a double, got another type")
    (found,) = struct.unpack("<d" if len(value) == 8 else "<f", value)
    assert isinstance(found, float)
    return found


def text(value: int | bytes) -> str:
    """Convert the value of a field to a text; bytes that are not UTF-8 become U+FFFD."""
    if not isinstance(value, bytes):
        raise SchemaError("protobuf: expected a text, got a number")
    return value.decode(errors="replace")


def _encoded(number: int) -> bytes:
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def varint_field(number: int, value: int) -> bytes:
    """Encode a field of an integer of 64 bits."""
    return _encoded(number << 3 | _VARINT) + _encoded(value & (2**64 - 1))


def bytes_field(number: int, value: bytes) -> bytes:
    """Encode a field of bytes, a text in UTF-8, or a message."""
    return _encoded(number << 3 | _LEN) + _encoded(len(value)) + value


def double_field(number: int, value: float) -> bytes:
    """Encode a field of a double."""
    return _encoded(number << 3 | _I64) + struct.pack("<d", value)


def float_field(number: int, value: float) -> bytes:
    """Encode a field of a float of 4 bytes."""
    try:
        packed = struct.pack("<f", value)
    except OverflowError:  # beyond the largest float of 4 bytes
        packed = struct.pack("<f", float("inf") if value > 0 else float("-inf"))
    return _encoded(number << 3 | _I32) + packed
