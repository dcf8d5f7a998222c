"""Columns of numbers as bytes: little-endian, 8 bytes each, as in Avro and in the buckets of the history."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np

__all__ = ["NUMPY_FROM", "extremes", "is_long", "largest", "pack", "shifted", "shifted_together", "unpack"]

NUMPY_FROM = 24
"""Length of a column from which numpy is faster than a loop in Python (measured)."""


def pack(column: array[Any]) -> bytes:
    """Pack a column of 8-byte numbers into little-endian bytes."""
    return (column if sys.byteorder == "little" else _swapped(column)).tobytes()


def _swapped(column: array[Any]) -> array[Any]:
    swapped = column[:]
    swapped.byteswap()
    return swapped


def _unpack_swapped(code: str, packed: bytes) -> array[Any]:
    return _swapped(array(code, packed))


unpack: Callable[[str, bytes], array[Any]] = array if sys.byteorder == "little" else _unpack_swapped
"""Unpack little-endian bytes into a column: called with the type code of `array.array` and the bytes."""


def shifted(column: Sequence[int], by: int) -> array[int]:
    """Add a number to each integer of a column.

    The sums must fit 64 bits, so callers check the `extremes` first: in a column of `NUMPY_FROM` integers or more,
    numpy wraps a larger sum around without an error.

    Args:
        column: Integers of 64 bits.
        by: The number to add.

    Raises:
        OverflowError: A sum in a shorter column does not fit 64 bits.
    """
    if not is_long(column):
        return array("q", [each + by for each in column])
    return array("q", (np.frombuffer(column, np.int64) + by).tobytes())


def extremes(column: Sequence[int]) -> tuple[int, int]:
    """The smallest and the largest integer of a column, which must not be empty."""
    if not is_long(column):
        return min(column), max(column)
    view = np.frombuffer(column, np.int64)
    return int(view.min()), int(view.max())


def is_long(column: Sequence[int]) -> TypeGuard[array[int]]:
    """Whether numpy is faster for a column than a loop in Python."""
    return len(column) >= NUMPY_FROM and isinstance(column, array)


def shifted_together(columns: Sequence[array[int]], by: Sequence[int]) -> list[tuple[int, int, array[int]]]:
    """The `extremes` of columns of the same length, and each column `shifted` by its own number.

    Args:
        columns: Columns of 64-bit integers, at least one column and one integer in each.
        by: For each column the number to add, of 64 bits. A sum that does not fit 64 bits wraps around.

    Returns:
        For each column its smallest and its largest integer, and the sums.
    """
    table = np.frombuffer(b"".join(columns), np.int64).reshape(len(columns), -1)
    low, high = table.min(axis=1).tolist(), table.max(axis=1).tolist()
    sums = table + np.array(by, np.int64)[:, None]
    return [(low[i], high[i], array("q", sums[i].tobytes())) for i in range(len(columns))]


def largest(column: array[Any]) -> int | float:
    """The largest number of a column, which must not be empty: an int or a float, without loss of digits.

    NaN is left out; the result is NaN if there is nothing else. The result is the same on every machine: zero is never
    negative, and NaN is always the same NaN.
    """
    found: int | float = np.fmax.reduce(np.asarray(column)).item() + 0  # which of the two zeros is found may vary
    return math.nan if math.isnan(found) else found
