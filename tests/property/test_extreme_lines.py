"""Curves of extreme numbers: subnormal, huge, equal and descending steps, times and values."""

from __future__ import annotations

import itertools
import math
import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trialstream.protocol import MetricHistory
from trialstream.reading.bands import bands, curve, even_steps, grid
from trialstream_console.dashboard import lines as dashboard_lines
from trialstream_console.dashboard.curves import Curve, line_of
from trialstream_console.dashboard.lines import points_of
from trialstream_console.dashboard.series import _range

MAX, TINY = sys.float_info.max, 5e-324
DOUBLES = st.sampled_from([0.0, -0.0, TINY, -TINY, 2.3e-308, 1e308, -1e308, MAX, -MAX, 1.0, 2.0**53]) | st.floats(
    allow_nan=False, allow_infinity=False
)
VALUES = DOUBLES | st.sampled_from([math.nan, math.inf, -math.inf])
INTEGERS = st.integers(-3, 3) | st.sampled_from([2**53, 2**53 + 1, 2**53 + 3, 2**63 - 1, -(2**63), 2**62 + 1])
YEAR_1, YEAR_9999 = -62_135_596_800_000_000, 253_402_300_799_999_999
TIMES = (
    st.integers(0, 5)
    | st.integers(-3, 3).map(lambda n: 1_700_000_000_000_000 + n)
    | st.sampled_from([YEAR_1, YEAR_9999, YEAR_9999 - 1, YEAR_9999 - 17, 2**53 + 1, 2**53 + 2, 2**53 + 3])
)
STARTED = st.sampled_from([0, 1_700_000_000_000_000, YEAR_1, YEAR_9999])
AXES = st.sampled_from(["step", "time", "relative"])


def many(draw, numbers, count):
    """Draw numbers of which few differ, in any order."""
    some = draw(st.lists(numbers, min_size=1, max_size=12))
    found = [some[draw(st.integers(0, len(some) - 1))] for _ in range(min(count, 20))]
    found = (found * count)[:count]
    return sorted(found) if draw(st.booleans()) else found


@st.composite
def histories(draw):
    """Draw the rows of a curve."""
    count = draw(st.integers(1, 120))
    numbers, kind = draw(st.sampled_from([(DOUBLES, np.float64), (INTEGERS, np.int64), (VALUES, np.float64)]))
    steps = np.array(many(draw, numbers, count), kind)
    times = np.array(many(draw, TIMES, count), np.int64).view("datetime64[us]")
    values = np.array(many(draw, VALUES, count), np.float64)
    return MetricHistory(steps, times, np.full(count, "w", object), values, np.arange(count))


def check(line, first, last, width):
    """Check the points of a plot against all rows of the line."""
    found = points_of(line, first, last, width)
    x, values = line.x.at(np.arange(len(line.x), dtype=np.intp)), line.values
    assert np.all(x[1:] >= x[:-1])
    inside = (x >= first) & (x <= last)
    assert found.total == inside.sum()
    assert found.specials.nan + found.specials.inf + found.specials.neginf == (inside & ~np.isfinite(values)).sum()
    assert np.all(np.isfinite(found.y))
    assert np.all(found.x[1:] >= found.x[:-1])
    edges = even_steps(first, last, width + 1)
    assert (edges[0], edges[-1]) == (first, last)
    assert np.all(edges[1:] >= edges[:-1])
    edges[-1] = math.inf
    for left, right in itertools.pairwise(edges):
        of_column = values[inside & (x >= left) & (x < right) & np.isfinite(values)].tolist()
        kept = found.y[(found.x >= left) & (found.x < right)].tolist()
        assert bool(of_column) == bool(kept)
        if of_column:
            assert (kept[0], kept[-1], min(kept), max(kept)) == (
                *(of_column[0], of_column[-1], min(of_column), max(of_column)),
            )


@given(
    histories(), AXES, STARTED, st.integers(1, 9), st.sampled_from([0, 1000]), st.none() | st.tuples(DOUBLES, DOUBLES)
)
def test_no_pixel_column_of_extreme_numbers_loses_its_extremes(history, axis, started, width, few, window):
    """Each column keeps the first, last, smallest and largest finite value, in the whole range and in a window."""
    found = Curve()
    found.extend(history)
    line, rows = found.line(axis, started)
    assert rows is None
    first, last = _range([mock.Mock(line=line)], None, None)
    assert math.isfinite(first)
    assert math.isfinite(last)
    with mock.patch.object(dashboard_lines, "_FEW_ROWS", few):  # both ways: through blocks, and through all rows
        assert points_of(line, first, last, width).total == len(history)
        check(line, *(sorted(window) if window else (first, last)), width)


@given(histories(), histories(), st.integers(1, 9))
def test_extreme_values_as_an_axis(mine, other, width):
    """A metric over another one has the rows whose x is finite."""
    count = min(len(mine), len(other))
    curves = [Curve(), Curve()]
    for each, history in zip(curves, (mine, other), strict=True):
        each.extend(MetricHistory(*(column[:count] for column in vars(history).values())))
    line = curves[0].joined(curves[1], None)
    assert len(line.x) == np.isfinite(other.values[:count]).sum()
    if len(line.x):
        check(line, *_range([mock.Mock(line=line)], None, None), width)


@pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf], ids=str)
def test_steps_without_a_place(special):
    """A step that is NaN or infinite makes x the number of the row, as a text does."""
    found = Curve()
    for steps in ([1.0, 2.0], [special], [3.0]):
        times = np.zeros(len(steps), np.int64).view("datetime64[us]")
        row = len(found)
        writers = np.full(len(steps), "w", object)
        found.extend(MetricHistory(np.array(steps), times, writers, np.array(steps), row + np.arange(len(steps))))
    line, _ = found.line("step", 0)

    assert found.text_steps
    assert line.x.at(np.arange(4, dtype=np.intp)).tolist() == [0.0, 1.0, 2.0, 3.0]


def test_many_rows_of_one_time():
    """A place is found at once, however many rows have the time beside it."""
    times = np.repeat(np.array([YEAR_9999 - 3, YEAR_9999 - 2, YEAR_9999 - 1], np.int64), 200_000)
    line = line_of(times, np.zeros(len(times)))

    assert line.x.find(np.array([float(YEAR_9999)])).tolist() == [0]  # as a double, each is the same
    check(line, float(times[0]), float(times[-1]), 3)


@given(st.lists(histories(), min_size=1, max_size=3), st.integers(2, 9))
def test_the_steps_of_bands_are_finite(given_histories, points):
    """Bands leave out steps that are not finite, and their steps ascend."""
    curves = [each for given in given_histories if (each := curve(given.steps, given.values)) is not None]
    steps = grid(curves, points)
    found = bands(curves, [str(i) for i in range(len(curves))], steps, [0.5])

    assert np.all(np.isfinite(found.steps))
    assert np.all(found.steps[1:] > found.steps[:-1]) or len(steps) == points
