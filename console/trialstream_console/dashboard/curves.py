"""Curves: the rows of one metric of one trial, kept in memory, to which later rows are added.

Steps and numbers of rows that rise evenly, which most do, are kept as two numbers; so a row takes 17 bytes: its value,
its time, and its part of the blocks.
"""

from __future__ import annotations

import threading
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from trialstream.protocol import MetricHistory
from trialstream.reading.bands import Curve as BandCurve
from trialstream.reading.bands import curve as band_curve
from trialstream_schemas.model.outline import Outline

from trialstream_console.dashboard.lines import MAX_EXACT, NO_BLOCKS, Axis, Floats, Indices, Line, Progression, Sorted

__all__ = ["AxisName", "Curve"]

AxisName: TypeAlias = Literal["step", "time", "relative"]
Numbers: TypeAlias = NDArray[np.int64] | NDArray[np.float64]

_MICROS = 1e6
# Differences that are computed together, so that they stay in the cache of the processor.
_AT_ONCE = 2**15


class _Growing:
    """An array at whose end numbers are added; parts that were taken before stay as they were."""

    def __init__(self) -> None:
        self._buffer: NDArray[Any] | None = None
        self._count = 0

    @property
    def array(self) -> NDArray[Any]:
        """The numbers so far."""
        return np.empty(0) if self._buffer is None else self._buffer[: self._count]

    @property
    def nbytes(self) -> int:
        """Memory, bytes."""
        return 0 if self._buffer is None else self._buffer.nbytes

    def extend(self, more: NDArray[Any]) -> None:
        """Add numbers, in an array that nothing changes later; integers become doubles once a double is added."""
        if self._buffer is None:
            self._buffer, self._count = more, len(more)
            return
        count, kind = self._count + len(more), np.result_type(self._buffer, more)
        if count > len(self._buffer) or kind != self._buffer.dtype:
            larger = np.empty(max(count, self._count + self._count // 4), kind)
            larger[: self._count] = self.array
            self._buffer = larger
        self._buffer[self._count : count] = more
        self._count = count


class _Column:
    """Numbers of rows: a progression as long as they are one, then an array, whose numbers doubles hold."""

    def __init__(self) -> None:
        self._progression: Progression | None = Progression(0, 1, 0)
        self._array = _Growing()
        self.is_ascending = True

    @property
    def nbytes(self) -> int:
        """Memory, bytes."""
        return self._array.nbytes

    def extend(self, more: Numbers) -> None:
        """Add numbers, at least one."""
        if self._progression is not None:
            longer = _longer(self._progression, more)
            if longer is not None:
                self._progression = longer
                return
            if len(self._progression):
                self._array.extend(_numbers(self._progression))
            self._progression = None
        if more.dtype.kind == "i" and max(-int(more.min()), int(more.max())) > MAX_EXACT:
            more = more.astype(np.float64)
        before = self._array.array[-1:]
        self.is_ascending &= bool(np.all(more[1:] >= more[:-1])) and not np.any(more[:1] < before)
        self._array.extend(more)

    def axis(self) -> Axis:
        """The numbers as an axis, if they are ascending."""
        return self._progression if self._progression is not None else Sorted(self._array.array)

    def array(self) -> Numbers:
        """The numbers as an array."""
        return _numbers(self._progression) if self._progression is not None else self._array.array


def _numbers(found: Progression) -> NDArray[np.int64]:
    return found.first + found.stride * np.arange(found.count, dtype=np.int64)


def _longer(found: Progression, more: Numbers) -> Progression | None:
    """Return a progression with more numbers; None if these do not go on with it."""
    if more.dtype.kind != "i":
        return None
    first = found.first if found.count else int(more[0])
    if found.count > 1:
        stride = found.stride
    elif found.count:
        stride = int(more[0]) - first
    else:
        stride = int(more[1]) - int(more[0]) if len(more) > 1 else 1
    last = first + stride * (found.count + len(more) - 1)
    # As the ends are those of the progression, differences of the numbers between them do not overflow unseen.
    if stride < 1 or int(more[0]) != first + stride * found.count or int(more[-1]) != last:
        return None
    if max(-first, last) > MAX_EXACT:
        return None
    for at in range(0, len(more) - 1, _AT_ONCE):
        part = more[at : at + _AT_ONCE + 1]
        if np.any(part[1:] - part[:-1] != stride):
            return None
    return Progression(first, stride, found.count + len(more))


class Curve:
    """The rows of one metric of one trial, or of one rank or writer of it, in the order of the log.

    Rows are added by one thread at a time; other threads may read meanwhile.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values = _Growing()
        self._times = _Growing()
        self._steps, self._rows = _Column(), _Column()
        self._blocks = NO_BLOCKS
        self._specials = np.empty(0, np.intp)
        self._times_ascend = True
        # Lines whose order is not that of the log, by axis, with the number of rows that they have.
        self._sorted: dict[AxisName, tuple[int, Line]] = {}
        self.text_steps = False  # also of steps that are NaN or infinite, which have no place on an axis

    def __len__(self) -> int:
        return len(self._values.array)

    @property
    def nbytes(self) -> int:
        """Memory, bytes."""
        lines = sum(line.values.nbytes * 2 + line.blocks.nbytes for _, line in self._sorted.values())
        columns = self._values.nbytes + self._times.nbytes + self._steps.nbytes + self._rows.nbytes
        return columns + self._blocks.nbytes + self._specials.nbytes + lines

    def extend(self, history: MetricHistory | Outline) -> None:
        """Add rows, which come after those of the curve."""
        if not len(history.rows):
            return
        with self._lock:
            before = len(self)
            times = history.times.view(np.int64)
            last = self._times.array[-1:]
            self._times_ascend &= bool(np.all(times[1:] >= times[:-1])) and not np.any(times[:1] < last)
            kind = history.steps.dtype.kind
            if kind not in "if" or (kind == "f" and not np.isfinite(history.steps).all()):
                self.text_steps = True
            if not self.text_steps:
                self._steps.extend(history.steps)
            self._rows.extend(history.rows)
            self._times.extend(times)
            self._values.extend(history.values)
            special = before + np.flatnonzero(~np.isfinite(history.values))
            self._specials = np.concatenate([self._specials, special]) if len(special) else self._specials
            self._blocks = self._blocks.extended(self._values.array)

    def line(
        self, axis: AxisName, started: int, since: int = 0, until: int | None = None
    ) -> tuple[Line, tuple[int, int] | None]:
        """Return the rows in the order of an axis.

        Args:
            axis: What x is; the number of the row in the curve instead of a step that is no number.
            started: The zero of relative time, microseconds since 1970.
            since: Number of a row in the trial: only this one and later ones.
            until: Only rows logged up to this time, microseconds since 1970; None for all.

        Returns:
            The line, and which of its rows these are; None for all.
        """
        with self._lock:
            times = self._times.array
            count = len(times)
            low = int(self._rows.axis().find(np.array([float(since)]))[0]) if since else 0
            high, chosen = count, None
            if until is not None and self._times_ascend:
                high = int(np.searchsorted(times, until, "right"))
            elif until is not None:
                chosen = np.flatnonzero(times <= until)
                chosen = chosen[chosen >= low]
            is_all = chosen is None and low == 0 and high == count
            is_ordered = self._is_ordered(axis)
            if chosen is None and is_ordered:
                line = Line(self._axis(axis, started), self._values.array, self._blocks, self._specials)
                return line, None if is_all else (min(low, high), high)
            if is_all:
                known = self._sorted.get(axis)
                if known is None or known[0] != count:
                    known = self._sorted[axis] = count, self._ordered(axis, None)
                line = known[1]
            else:
                index = np.arange(low, max(low, high), dtype=np.intp) if chosen is None else chosen
                line = self._ordered(axis, index)
            return (_relative(line, started) if axis == "relative" else line), None

    def _is_ordered(self, axis: AxisName) -> bool:
        return (self.text_steps or self._steps.is_ascending) if axis == "step" else self._times_ascend

    def _axis(self, axis: AxisName, started: int) -> Axis:
        if axis == "step":
            return Progression(0, 1, len(self)) if self.text_steps else self._steps.axis()
        times = self._times.array
        return Sorted(times) if axis == "time" else Sorted(times, started, _MICROS)

    def _ordered(self, axis: AxisName, index: Indices | None) -> Line:
        """Return some rows, or all, sorted by x; x is a time for both axes of time."""
        if axis == "step":
            x: Numbers = np.arange(len(self)) if self.text_steps else self._steps.array()
        else:
            x = self._times.array
        values: Floats = self._values.array
        if index is not None:
            x, values = x[index], values[index]
        order = np.argsort(x, kind="stable")
        return line_of(x[order], values[order])

    def by_step(self) -> BandCurve | None:
        """Return the mean of the values at each step; None without any. The steps must be numbers."""
        _, steps, values = self._columns(None)
        return band_curve(steps, values)

    def joined(self, other: Curve, until: int | None) -> Line:
        """Return the line of this curve over the values of another one.

        The values of a row are joined if both metrics are in it, and otherwise those of a step.

        Args:
            other: The curve of the metric on the x axis.
            until: Only rows logged up to this time, microseconds since 1970; None for all.
        """
        mine, others = self._columns(until), other._columns(until)
        _, here, there = np.intersect1d(mine[0], others[0], assume_unique=True, return_indices=True)
        if not len(here) and not self.text_steps and not other.text_steps and len(others[1]):
            last = len(others[1]) - 1 - np.unique(others[1][::-1], return_index=True)[1]  # the last row of each step
            at = np.searchsorted(others[1][last], mine[1])
            matched = (at < len(last)) & (others[1][last][np.minimum(at, len(last) - 1)] == mine[1])
            here, there = np.flatnonzero(matched), last[at[matched]]
        x, values = others[2][there], mine[2][here]
        finite = np.isfinite(x)
        x, values = x[finite], values[finite]
        order = np.argsort(x, kind="stable")
        return line_of(x[order], values[order])

    def _columns(self, until: int | None) -> tuple[Numbers, Numbers, Floats]:
        """Return numbers of rows, steps and values."""
        with self._lock:
            rows, values, times = self._rows.array(), self._values.array, self._times.array
            steps: Numbers = np.arange(len(rows)) if self.text_steps else self._steps.array()
        if until is None:
            return rows, steps, values
        kept = times <= until
        return rows[kept], steps[kept], values[kept]


def line_of(x: Numbers, values: Floats) -> Line:
    """Return the line of rows that are sorted by x."""
    return Line(Sorted(x), values, NO_BLOCKS.extended(values), np.flatnonzero(~np.isfinite(values)))


def _relative(line: Line, started: int) -> Line:
    assert isinstance(line.x, Sorted)
    return Line(Sorted(line.x.values, started, _MICROS), line.values, line.blocks, line.specials)
