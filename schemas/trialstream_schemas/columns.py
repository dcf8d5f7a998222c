"""Columns of numbers as bytes: little-endian, 8 bytes each, as Avro and the buckets of the history hold them."""

from __future__ import annotations

import sys
from array import array
from typing import Any

__all__ = ["pack", "unpack"]


def pack(column: array[Any]) -> bytes:
    """The bytes of a column."""
    return _little_endian(column).tobytes()


def unpack(code: str, packed: bytes) -> array[Any]:
    """The column, of the type code of `array.array`, that such bytes hold."""
    return _little_endian(array(code, packed))


def _little_endian(column: array[Any]) -> array[Any]:
    if sys.byteorder == "little":
        return column
    swapped = column[:]
    swapped.byteswap()
    return swapped
