"""Avro's integers: zigzag varints (https://avro.apache.org/docs/1.12.0/specification/#primitive-types-1)."""

from __future__ import annotations

from trialstream_schemas.errors import SchemaError

__all__ = ["LONG_BYTES", "long_bytes", "read_long"]

LONG_BYTES = 10  # of the longest encoding of 64 bits, 7 in each byte


def read_long(data: bytes, at: int) -> tuple[int, int]:
    """An integer, and the offset behind it.

    Raises:
        SchemaError: it has more than 64 bits.
        IndexError: the bytes end before it does.
    """
    byte = data[at]
    found = byte & 0x7F
    shift = 7
    while byte & 0x80:
        at += 1
        byte = data[at]
        found |= (byte & 0x7F) << shift
        shift += 7
        if shift > 7 * LONG_BYTES:
            raise SchemaError("an integer of more than 64 bits")
    return (found >> 1) ^ -(found & 1), at + 1


def long_bytes(x: int) -> bytes:
    """The bytes of an integer of 64 bits."""
    left = (x << 1) ^ (x >> 63)
    found = bytearray()
    while left > 0x7F:
        found.append(left & 0x7F | 0x80)
        left >>= 7
    found.append(left)
    return bytes(found)
