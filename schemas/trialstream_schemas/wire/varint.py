"""Avro's integers: zigzag varints (https://avro.apache.org/docs/1.12.0/specification/#primitive-types-1).

Single integers and short columns are read and written in plain Python, long columns by numpy, and the integers of many
records by numpy at once. Measured for 256 integers of up to three bytes: fastavro, which reads byte by byte, takes
33 µs, numpy 15 µs alone and 4 µs among those of 30 frames.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from trialstream_schemas.errors import SchemaError
from trialstream_schemas.model.columns import NUMPY_FROM

__all__ = [
    "LONG_BYTES",
    "long_bytes",
    "longs_bytes",
    "read_int64",
    "read_long",
    "read_longs",
    "read_time",
    "unpack_longs",
]

IntArray: TypeAlias = NDArray[np.int64]

LONG_BYTES = 10
"""Length of the longest encoding of an integer of 64 bits, bytes: each byte holds 7 bits."""

LENGTH_BITS = int.from_bytes(b"\x80" * 8, "little")
"""The bits of eight bytes that tell the length of an integer: each byte but the last has another after it."""

EIGHT_BYTES = int.from_bytes(b"\x80" * 7 + b"\0", "little")
"""The values of these bits in an integer of eight bytes, as all times from 1988 to 3111 are."""

_WORD = struct.Struct("<Q")


def read_long(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """Read an integer.

    Args:
        data: The bytes.
        at: Offset of the integer.

    Returns:
        The integer, and the offset of the byte after it.

    Raises:
        SchemaError: The integer takes more than `LONG_BYTES` bytes.
        IndexError: The bytes end before the end of the integer.
    """
    found = data[at]
    if found < 0x80:
        return (found >> 1) ^ -(found & 1), at + 1
    shift = 0
    while True:
        at += 1
        shift += 7
        byte = data[at]
        found += (byte - 1) << shift  # - 1 removes the continuation bit of the previous byte
        if byte < 0x80:
            return (found >> 1) ^ -(found & 1), at + 1
        if shift == 7 * (LONG_BYTES - 1):
            raise SchemaError("an integer of more than 64 bits")


def read_time(data: bytes, at: int) -> tuple[int, int]:
    """Read an integer of 64 bits as `read_int64` does, faster if it takes eight bytes."""
    try:
        [word] = _WORD.unpack_from(data, at)
    except struct.error:  # fewer than eight bytes follow
        return read_int64(data, at)
    if word & LENGTH_BITS != EIGHT_BYTES:
        return read_int64(data, at)
    word &= 0x7F7F7F7F7F7F7F7F
    word = word & 0x007F007F007F007F | (word & 0x7F007F007F007F00) >> 1
    word = word & 0x00003FFF00003FFF | (word & 0x3FFF00003FFF0000) >> 2
    word = word & 0x000000000FFFFFFF | (word & 0x0FFFFFFF00000000) >> 4
    return (word >> 1) ^ -(word & 1), at + 8


def read_longs(data: bytes, at: int, count: int) -> tuple[array[int], int]:
    """Read a column of integers.

    Args:
        data: The bytes.
        at: Offset of the first integer.
        count: Number of integers.

    Returns:
        The integers, and the offset of the byte after the last one.

    Raises:
        SchemaError: An integer has more than 64 bits, or the bytes end before the end of a long column.
        IndexError: The bytes end before the end of a short column (less than `NUMPY_FROM` integers).
    """
    if count < NUMPY_FROM:
        found = array("q")
        for _ in range(count):
            each, at = read_int64(data, at)
            found.append(each)
        return found, at
    window = data[at : at + count * LONG_BYTES]
    ends = np.flatnonzero(np.frombuffer(window, np.uint8) < 0x80)[:count]
    if len(ends) < count:
        raise SchemaError(f"{count} integers where {len(window)} bytes follow")
    end = int(ends[-1]) + 1
    plain = _unpacked(window[:end] + _PADDING, ends)
    found = array("q")
    if plain is None:
        for _ in range(count):
            each, at = read_int64(data, at)
            found.append(each)
        return found, at
    found.frombytes(plain.tobytes())
    return found, at + end


def read_int64(data: bytes, at: int, _: object = None) -> tuple[int, int]:
    """Read an integer of 64 bits.

    Args:
        data: The bytes.
        at: Offset of the integer.
        _: Not used; readers of other types count values in it (`reader.py`).

    Returns:
        The integer, and the offset of the byte after it.

    Raises:
        SchemaError: The integer has more than 64 bits.
        IndexError: The bytes end before the end of the integer.
    """
    found = data[at]
    if found < 0x80:
        return (found >> 1) ^ -(found & 1), at + 1
    if (byte := data[at + 1]) < 0x80:
        found += (byte - 1) << 7
        return (found >> 1) ^ -(found & 1), at + 2
    found, at = read_long(data, at)
    if not -(2**63) <= found < 2**63:
        raise SchemaError("an integer of more than 64 bits")
    return found, at


# Bytes of a word, in which an integer is unpacked; a longer integer is read by `read_long`.
_WORD_BYTES = 8
# Follows the bytes of integers, so that a word can be read at the start of each.
_PADDING = bytes(_WORD_BYTES)
# By length of an encoded integer, the bits of a word that are its bits.
_BITS = np.array([0x7F7F7F7F7F7F7F7F & ((1 << 8 * length) - 1) for length in range(_WORD_BYTES + 1)], np.uint64)
# Each step joins two groups of bits that are neighbours: bits to keep, bits to shift down, and by how much.
_JOINS = [
    (1, 0x007F007F007F007F, 0x7F007F007F007F00, 1),
    (2, 0x00003FFF00003FFF, 0x3FFF00003FFF0000, 2),
    (4, 0x000000000FFFFFFF, 0x0FFFFFFF00000000, 4),
]


def _unpacked(padded: bytes, ends: IntArray) -> IntArray | None:
    """Unpack integers.

    Args:
        padded: Bytes of one integer after the other, and the padding.
        ends: Offset of the last byte of each integer.

    Returns:
        The integers; None if one of them is longer than a word.
    """
    starts = np.empty_like(ends)
    starts[0] = 0
    np.add(ends[:-1], 1, out=starts[1:])
    last = ends - starts  # index of the last byte of each integer
    longest = int(last.max())
    if longest >= _WORD_BYTES:
        return None
    words = np.ndarray(len(padded) - _WORD_BYTES, "<u8", padded, strides=(1,))[starts].astype(np.uint64, copy=False)
    words &= _BITS[1:][last]
    for least, kept, moved, by in _JOINS:
        if longest >= least:
            high = words & np.uint64(moved)
            high >>= np.uint64(by)
            words &= np.uint64(kept)
            words |= high
    sign = words & np.uint64(1)
    words >>= np.uint64(1)
    words ^= np.negative(sign, out=sign)
    return words.view(np.int64)


def unpack_longs(packed: bytes) -> tuple[IntArray, IntArray] | None:
    """Unpack the integers of many records at once.

    Args:
        packed: Bytes of one integer after the other.

    Returns:
        The integers, and the offset of the last byte of each; None if there is no integer, if the last one is cut
        off, or if one is longer than 8 bytes or than needed.
    """
    if not packed or packed[-1] >= 0x80:
        return None
    view = np.frombuffer(packed, np.uint8)
    continued = view >= 0x80
    if (continued[:-1] & (view[1:] == 0)).any():  # the last byte of an integer of several bytes has no bits
        return None
    ends = np.flatnonzero(~continued)
    found = _unpacked(packed + _PADDING, ends)
    return None if found is None else (found, ends)


def long_bytes(x: int) -> bytes:
    """Encode an integer.

    Raises:
        OverflowError: The integer has more than 64 bits.
    """
    if not -(2**63) <= x < 2**63:
        raise OverflowError(f"expected an integer of 64 bits, got {x}")
    left = (x << 1) ^ (x >> 63)
    if left < 0x80:
        return _SHORT[left]
    found = bytearray()
    while left >= 0x80:
        found.append(left & 0x7F | 0x80)
        left >>= 7
    found.append(left)
    return bytes(found)


_SHORT = [bytes([n]) for n in range(0x80)]


def longs_bytes(xs: Sequence[int]) -> bytes:
    """Encode the integers of a column, without the count and the end of an array.

    Raises:
        OverflowError: An integer has more than 64 bits.
    """
    if len(xs) < NUMPY_FROM:
        return b"".join(map(long_bytes, xs))
    column = xs if isinstance(xs, array) and xs.typecode == "q" else array("q", xs)
    plain = np.frombuffer(column, np.int64)
    left = ((plain << 1) ^ (plain >> 63)).view(np.uint64)
    width = max(1, -(-int(left.max()).bit_length() // 7))
    groups = (left[:, None] >> (np.arange(width, dtype=np.uint64) * np.uint64(7))).astype(np.uint8)
    more = np.zeros(groups.shape, bool)  # whether a higher group of 7 bits is not 0
    for k in range(width - 1, 0, -1):
        more[:, k - 1] = (left >> np.uint64(7 * k)) != 0
    kept = np.ones(groups.shape, bool)
    kept[:, 1:] = more[:, :-1]
    return bytes(((groups & np.uint8(0x7F)) | (more.astype(np.uint8) << np.uint8(7)))[kept])
