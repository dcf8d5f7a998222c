"""Columns of numbers as bytes: little-endian, 8 bytes each, as Avro and the buckets of the history hold them."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["extremes", "pack", "shifted", "unpack"]

# From so many on numpy is faster than a loop.
_MANY = 24


def pack(column: array[Any]) -> bytes:
    """The bytes of a column."""
    return (column if sys.byteorder == "little" else _swapped(column)).tobytes()


def _swapped(column: array[Any]) -> array[Any]:
    swapped = column[:]
    swapped.byteswap()
    return swapped


def _unpack_swapped(code: str, packed: bytes) -> array[Any]:
    return _swapped(array(code, packed))


unpack: Callable[[str, bytes], array[Any]] = array if sys.byteorder == "little" else _unpack_swapped
"""The column, of a type code of `array.array`, that such bytes hold."""


def shifted(column: Sequence[int], by: int) -> array[int]:
    """The integers of 64 bits, each more by so much.

    Raises:
        OverflowError: one does not fit 64 bits; of many, numpy wraps it around: check the `extremes` before.
    """
    if len(column) < _MANY or not isinstance(column, array):
        return array("q", [each + by for each in column])
    return array("q", (np.frombuffer(column, np.int64) + by).tobytes())


def extremes(column: Sequence[int]) -> tuple[int, int]:
    """The smallest and the largest of integers."""
    if len(column) < _MANY or not isinstance(column, array):
        return min(column), max(column)
    view = np.frombuffer(column, np.int64)
    return int(view.min()), int(view.max())
