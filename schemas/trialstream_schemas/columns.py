"""Columns of numbers as bytes: little-endian, 8 bytes each, as Avro and the buckets of the history hold them.

An Avro array of doubles is a count, the doubles as they lie in memory, and a zero for the end
(https://avro.apache.org/docs/1.12.0/specification/#arrays-1). So a column is copied as a whole, where fastavro makes
an object of each value; and it takes a third of the memory.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from trialstream_schemas.errors import SchemaError
from trialstream_schemas.varint import long_bytes, read_long

__all__ = ["pack", "read_columns", "unpack", "write_columns"]

_DOUBLE_BYTES = 8


def pack(column: array[Any]) -> bytes:
    """The bytes of a column."""
    return _little_endian(column).tobytes()


def unpack(code: str, packed: bytes | memoryview) -> array[Any]:
    """The column, of the type code of `array.array`, that such bytes hold."""
    column: array[Any] = array(code)
    column.frombytes(packed)
    return _little_endian(column)


def _little_endian(column: array[Any]) -> array[Any]:
    if sys.byteorder == "little":
        return column
    swapped = column[:]
    swapped.byteswap()
    return swapped


def write_columns(out: BytesIO, columns: Sequence[Sequence[float]]) -> None:
    """Write an Avro array of arrays of doubles, as fastavro would."""
    if columns:
        out.write(long_bytes(len(columns)))
        for column in columns:
            if column:
                out.write(long_bytes(len(column)))
                out.write(pack(column if isinstance(column, array) and column.typecode == "d" else array("d", column)))
            out.write(b"\0")
    out.write(b"\0")


def read_columns(data: bytes, at: int) -> tuple[list[array[float]], int]:
    """Read such an array from an offset on; return the columns and the offset behind them.

    Raises:
        SchemaError: a count that the bytes cannot hold.
        IndexError: the bytes end before the array does.
    """
    columns: list[array[float]] = []
    view = memoryview(data)
    while True:
        count, at = _block(data, at)
        if not count:
            return columns, at
        if count > len(data) - at:  # a column takes a byte at least
            raise SchemaError(f"{count} columns where {len(data) - at} bytes follow")
        for _ in range(count):
            column: array[float] = array("d")
            while True:
                rows, at = _block(data, at)
                if not rows:
                    break
                end = at + rows * _DOUBLE_BYTES
                if end > len(data):
                    raise SchemaError(f"a column of {rows} values where {len(data) - at} bytes follow")
                column.frombytes(view[at:end])
                at = end
            columns.append(_little_endian(column))


def _block(data: bytes, at: int) -> tuple[int, int]:
    """How many items a block has: where that is negative, its size in bytes follows."""
    count = data[at]
    if count < 0x80 and not count & 1:  # one byte and not negative: the way of most
        return count >> 1, at + 1
    count, at = read_long(data, at)
    if count < 0:
        _, at = read_long(data, at)
    return abs(count), at
