"""Lines: the rows of a curve in the order of x, and the few of them that a plot needs.

A plot has a number of pixel columns of equal width. Of the rows in each column, the first, the last, the minimum and
the maximum of the finite values are kept, so that what is drawn is what all rows would draw. Rows whose value is NaN or
infinite are counted, and some are marked.

The minimum and the maximum of each block of rows are computed once, when the rows are added. In a column of many rows,
they show in which block the row with the extreme is; only the rows of that one, or of the edges, are searched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from trialstream.reading.bands import even_steps

__all__ = [
    "MAX_EXACT",
    "NO_BLOCKS",
    "Axis",
    "Blocks",
    "Floats",
    "Indices",
    "Line",
    "Points",
    "Progression",
    "Sorted",
    "Specials",
    "points_of",
]

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

MAX_EXACT = 2**53
"""Integers of at most this size are doubles, each one."""

# Rows of a block: smaller ones take longer to go through, larger ones leave more rows at the edges of columns.
_BLOCK = 16
# Blocks that are made together, so that their rows stay in the cache of the processor.
_BLOCKS_AT_ONCE = 2048
# Rows of a column up to which going through all of them is faster than through blocks and edges.
_FEW_ROWS = 256
_MAX_MARKS = 200
_INT64 = 2.0**62


class Axis(Protocol):
    """The x of rows, ascending."""

    def at(self, index: Indices) -> Floats:
        """The x of some rows."""

    def find(self, x: Floats) -> Indices:
        """For each x, the number of rows before the first row whose x is not smaller."""

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Progression:
    """An x that rises by the same whole number from row to row, such as the steps of most trials.

    Attributes:
        first: The x of the first row.
        stride: Difference between rows, 1 or more.
        count: Number of rows.
    """

    first: int
    stride: int
    count: int

    def __len__(self) -> int:
        return self.count

    def at(self, index: Indices) -> Floats:
        """See `Axis`."""
        found: Floats = (self.first + self.stride * index.astype(np.int64)).astype(np.float64)
        return found

    def find(self, x: Floats) -> Indices:
        """See `Axis`."""
        guess = np.ceil(np.clip((x - self.first) / self.stride, 0, self.count)).astype(np.intp)
        # The quotient is rounded, so the guess may be off by one.
        guess -= (guess > 0) & (self.at(guess - 1) >= x)
        guess += (guess < self.count) & (self.at(guess) < x)
        return guess


@dataclass(frozen=True)
class Sorted:
    """An x that is an array of numbers, ascending.

    Attributes:
        values: The numbers: doubles that are finite, steps of which doubles hold each, or times in microseconds.
        origin: Time that is subtracted from times.
        unit: Number by which the difference is divided.
    """

    values: NDArray[np.float64] | NDArray[np.int64]
    origin: int = 0
    unit: float = 1.0

    def __len__(self) -> int:
        return len(self.values)

    def at(self, index: Indices) -> Floats:
        """See `Axis`."""
        found = self.values[index]
        if not self.origin and self.unit == 1.0:
            return found.astype(np.float64)
        return (found - np.int64(self.origin)).astype(np.float64) / self.unit

    def find(self, x: Floats) -> Indices:
        """See `Axis`."""
        values = self.values
        if values.dtype.kind == "f":
            return np.searchsorted(values, x)
        with np.errstate(over="ignore"):
            wanted = np.ceil(np.clip(x * self.unit, -_INT64, _INT64)).astype(np.int64)
        guess: Indices = np.searchsorted(values, wanted + np.int64(self.origin))
        if not len(self) or (self.unit == 1.0 and max(-values[0], values[-1]) <= MAX_EXACT):
            return guess
        # The product and the x of rows are rounded, so the guess may be off by a few numbers, of many rows each.
        last = len(self) - 1
        while (later := (guess > 0) & (self.at(np.maximum(guess - 1, 0)) >= x)).any():
            guess[later] = np.searchsorted(values, values[guess[later] - 1])
        while (earlier := (guess <= last) & (self.at(np.minimum(guess, last)) < x)).any():
            guess[earlier] = np.searchsorted(values, values[guess[earlier]], "right")
        return guess


class Blocks(NamedTuple):
    """For each whole block of rows, the minimum and the maximum of its finite values; inf and -inf without any.

    Attributes:
        lows: The minima.
        highs: The maxima.
    """

    lows: Floats
    highs: Floats

    @property
    def nbytes(self) -> int:
        """Memory of the blocks, bytes."""
        return self.lows.nbytes + self.highs.nbytes

    def extended(self, values: Floats) -> Blocks:
        """Return the blocks of more rows.

        Args:
            values: The values of all rows, which begin with those of these blocks.
        """
        known, count = len(self.lows), len(values) // _BLOCK
        if count == known:
            return self
        lows, highs = [self.lows], [self.highs]
        for first in range(known, count, _BLOCKS_AT_ONCE):
            table = values[first * _BLOCK : min(first + _BLOCKS_AT_ONCE, count) * _BLOCK].reshape(-1, _BLOCK)
            rows = np.ascontiguousarray(table.T)  # numpy goes through short rows slowly
            finite = np.isfinite(rows)
            is_finite = finite.all()
            lows.append((rows if is_finite else np.where(finite, rows, np.inf)).min(axis=0))
            highs.append((rows if is_finite else np.where(finite, rows, -np.inf)).max(axis=0))
        return Blocks(np.concatenate(lows), np.concatenate(highs))


NO_BLOCKS = Blocks(np.empty(0), np.empty(0))


@dataclass(frozen=True)
class Line:
    """The rows of a curve in the order of x.

    Attributes:
        x: Their x.
        values: Their values.
        blocks: The blocks of the values.
        specials: The rows whose value is NaN or infinite, ascending.
    """

    x: Axis
    values: Floats
    blocks: Blocks
    specials: Indices


class Specials(NamedTuple):
    """The rows of a range whose value is NaN or infinite.

    Attributes:
        nan: Number of values that are NaN.
        inf: Number of values that are +inf.
        neginf: Number of values that are -inf.
        x: The x of some of the rows, at most 200.
        kinds: For each of these, 0 for NaN, 1 for +inf, 2 for -inf.
    """

    nan: int
    inf: int
    neginf: int
    x: Floats
    kinds: Floats


class Points(NamedTuple):
    """The rows of a line that a plot needs.

    Attributes:
        x: Their x, ascending.
        y: Their values, which are finite.
        total: Number of rows in the range.
        exact: Whether all rows of the range with a finite value are there.
        specials: The rows whose value is not finite.
    """

    x: Floats
    y: Floats
    total: int
    exact: bool
    specials: Specials


def points_of(line: Line, first: float, last: float, width: int, rows: tuple[int, int] | None = None) -> Points:
    """Return the rows of a line that a plot of some pixel columns needs.

    Args:
        line: The line.
        first: The x at the left edge of the plot.
        last: The x at the right edge; rows at the edges are in the plot.
        width: Number of pixel columns.
        rows: Rows of the line that are in the plot, as far as their x is; None for all.
    """
    bounds = line.x.find(_edges(first, last, width))
    if rows is not None:
        bounds = np.clip(bounds, *rows)
    begin, end = int(bounds[0]), int(bounds[-1])
    special = line.specials[slice(*np.searchsorted(line.specials, [begin, end]))]
    exact = end - begin <= 4 * width
    if exact:
        chosen = np.arange(begin, end, dtype=np.intp)
        if len(special):
            chosen = chosen[np.isfinite(line.values[begin:end])]
    else:
        chosen = _chosen(line, bounds, has_specials=bool(len(special)))
    marked = _specials(line, special)
    return Points(line.x.at(chosen), line.values[chosen], end - begin, exact, marked)


def _edges(first: float, last: float, width: int) -> Floats:
    """Return the edges of pixel columns, ascending; rows whose x is the last one are in the last column."""
    edges = even_steps(first, last, width + 1)
    edges[-1] = math.nextafter(last, math.inf)
    return edges


def _chosen(line: Line, bounds: Indices, *, has_specials: bool) -> Indices:
    """Return the first and last rows and those of the extremes of columns, ascending; rows with finite values only."""
    is_filled = bounds[1:] > bounds[:-1]
    starts, ends = bounds[:-1][is_filled], bounds[1:][is_filled]
    values = line.values
    if has_specials:
        finite = starts[0] + np.flatnonzero(np.isfinite(values[starts[0] : ends[-1]]))
        if not len(finite):
            return np.empty(0, np.intp)
        firsts = finite[np.minimum(np.searchsorted(finite, starts), len(finite) - 1)]
        lasts = finite[np.maximum(np.searchsorted(finite, ends) - 1, 0)]
    else:
        firsts, lasts = starts, ends - 1
    is_long = (ends - starts).min() >= 2 * _BLOCK and ends[-1] - starts[0] > _FEW_ROWS * len(starts)
    least, greatest = (_by_blocks if is_long else _by_rows)(line, starts, ends, has_specials=has_specials)
    rows = [firsts, np.minimum(least, greatest), np.maximum(least, greatest), lasts]
    chosen: Indices = np.sort(np.concatenate(rows)) if has_specials else np.stack(rows, axis=1).reshape(-1)
    chosen = chosen[np.append(True, chosen[1:] > chosen[:-1])]
    return chosen[np.isfinite(values[chosen])] if has_specials else chosen


def _by_rows(line: Line, starts: Indices, ends: Indices, *, has_specials: bool) -> list[Indices]:
    """Return the rows of the minima and those of the maxima of columns; any, of a column without finite values."""
    first = starts[0]
    found = []
    for reduce, bound in ((np.minimum, np.inf), (np.maximum, -np.inf)):
        values = line.values[first : ends[-1]]
        values = _finite(values, bound) if has_specials else values
        wanted = reduce.reduceat(values, starts - first)
        hits = np.flatnonzero(values == np.repeat(wanted, ends - starts))
        found.append(first + hits[np.searchsorted(hits, starts - first)])
    return found


def _by_blocks(line: Line, starts: Indices, ends: Indices, *, has_specials: bool) -> list[Indices]:
    """Return what `_by_rows` does, from the blocks in each column, at least one, and the rows at its edges."""
    count = len(line.values) // _BLOCK
    table, tail = line.values[: count * _BLOCK].reshape(-1, _BLOCK), line.values[count * _BLOCK :]
    # The blocks that the edges cut, as columns, since numpy goes through short rows slowly.
    edges = np.append(starts, ends[-1])
    cut = table[np.minimum(edges // _BLOCK, count - 1)].T.copy()
    if edges[-1] >= count * _BLOCK:
        cut[: len(tail), -1] = tail
    step = np.arange(_BLOCK, dtype=np.intp)
    is_right = step[:, None] >= edges % _BLOCK
    # The blocks that lie in each column; between those of two columns there may be one that lies in neither.
    first_block, last_block = -(-starts // _BLOCK), ends // _BLOCK
    parts = np.stack([first_block, last_block], axis=1).reshape(-1)
    found: list[Indices] = []
    for blocks, reduce, bound in ((line.blocks.lows, np.minimum, np.inf), (line.blocks.highs, np.maximum, -np.inf)):
        rows = _finite(cut, bound) if has_specials else cut
        of_parts = reduce.reduceat(blocks[: parts[-1]], parts[:-1])
        wanted = reduce(of_parts[::2], reduce.reduce(np.where(is_right, rows, bound), axis=0)[:-1])
        wanted = reduce(wanted, reduce.reduce(np.where(is_right, bound, rows), axis=0)[1:])
        of_parts[::2], of_parts[1::2] = wanted, math.nan
        hits = parts[0] + np.flatnonzero(blocks[parts[0] : parts[-1]] == np.repeat(of_parts, np.diff(parts)))
        block = np.append(hits, count)[np.searchsorted(hits, first_block)]
        in_block = block < last_block
        at_edge = ~in_block
        row, block = np.empty_like(starts), block[in_block]
        row[in_block] = block * _BLOCK + (table[block] == wanted[in_block, None]).argmax(axis=1)
        left, right = starts[at_edge, None], ends[at_edge, None] - 1
        searched = np.concatenate([np.minimum(left + step, right), np.maximum(right - step, left)], axis=1)
        is_wanted = line.values[searched] == wanted[at_edge, None]
        row[at_edge] = searched[np.arange(len(searched)), is_wanted.argmax(axis=1)]
        found.append(row)
    return found


def _finite(values: Floats, bound: float) -> Floats:
    """Return values with a bound in place of those that are not finite."""
    finite = np.isfinite(values)
    return values if finite.all() else np.where(finite, values, bound)


def _specials(line: Line, rows: Indices) -> Specials:
    values = line.values[rows]
    kinds = np.where(np.isnan(values), 0.0, np.where(values > 0, 1.0, 2.0))
    nan, inf, neginf = (int((kinds == kind).sum()) for kind in (0.0, 1.0, 2.0))
    some = np.arange(len(rows), dtype=np.intp)
    if len(rows) > _MAX_MARKS:
        some = np.linspace(0, len(rows) - 1, _MAX_MARKS).astype(np.intp)
    return Specials(nan, inf, neginf, line.x.at(rows[some]), kinds[some])
