"""Moments of columns: the same bits from numpy and from the loop, within the stated error bounds."""

from __future__ import annotations

import math
from array import array
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trialstream_schemas.model.aggregators import (
    RingAggregator,
    StatAggregator,
    TimeSeriesAggregator,
    extend_columns,
    moments,
)

LARGEST = 1.7976931348623157e308
U = Fraction(1, 2**53)
# Squares of the differences neither overflow nor underflow.
MODERATE = st.floats(-1e100, 1e100).filter(lambda x: x == 0 or abs(x) > 1e-100)
ANY = st.floats() | st.sampled_from([0.0, -0.0, LARGEST, -LARGEST, math.nan, math.inf, -math.inf])


def tables(numbers):
    """Columns of the same length, some long enough for numpy and some not."""
    lengths = st.tuples(st.integers(1, 6), st.integers(2, 80))
    return lengths.flatmap(
        lambda size: st.lists(
            st.lists(numbers, min_size=size[1], max_size=size[1]).map(lambda xs: array("d", xs)),
            min_size=size[0],
            max_size=size[0],
        )
    )


def bits(found):
    """The exact values of moments, except for the signs of zeros as minimum and maximum."""
    return found and [float(each).hex() for each in found._replace(low=found.low + 0.0, high=found.high + 0.0)]


@given(tables(ANY))
def test_numpy_and_the_loop_agree_to_the_bit(columns):
    """The moments do not depend on the way in which they are computed."""
    table = list(moments._moments_of_table(columns))

    assert list(map(bits, table)) == [bits(moments.moments(each)) for each in columns]
    assert list(map(bits, table)) == list(map(bits, moments.moments_of_columns(columns)))


@given(st.lists(MODERATE, min_size=1, max_size=300))
def test_the_error_bounds_hold(xs):
    """Mean, sum and sum of squares are as close to the exact ones as the module says."""
    found = moments.moments(xs)
    exact = list(map(Fraction, xs))
    n, mean = len(xs), sum(exact) / len(xs)
    spread = max(abs(x - exact[0]) for x in exact)
    bound = 2 * n * U * spread + 2 * U * max(map(abs, exact))

    assert abs(Fraction(found.mean) - mean) <= bound
    assert abs(Fraction(found.total) - sum(exact)) <= n * bound
    root = math.sqrt(sum((x - mean) ** 2 for x in exact))
    assert (
        abs(math.sqrt(found.m2) - root) <= math.sqrt(n) * float(2 * n * U * spread) + root * float(2 * n * U) + 1e-150
    )
    assert (found.n, found.low, found.high) == (n, min(xs), max(xs))


@given(st.lists(st.lists(MODERATE, min_size=1, max_size=60) | st.lists(MODERATE, min_size=1, max_size=1), max_size=40))
def test_the_error_bounds_hold_between_frames(parts):
    """Average and sum of a series that came in parts are as close to the exact ones as `StatAggregator` says."""
    series = TimeSeriesAggregator()
    for each in parts:
        series.extend(array("d", each))
    exact = [Fraction(x) for each in parts for x in each]
    if not exact:
        assert series.avg is None
        return
    bound = (4 * max(map(len, parts)) + len(parts) + 10) * U * max(map(abs, exact))

    assert abs(Fraction(series.avg) - sum(exact) / len(exact)) <= bound
    assert abs(Fraction(series.sum) - sum(exact)) <= len(exact) * bound


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(2, 300))
def test_moments_of_equal_numbers_are_exact(x, n):
    """The mean of equal numbers is the number, and their deviation is 0."""
    found = moments.moments([x] * n)

    assert (found.mean, found.m2, found.low, found.high) == (x, 0.0, x, x)
    assert found.total == x * n


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_the_mean_is_between_the_extremes(xs):
    """Rounding, or a sum beyond a double, does not move the mean outside."""
    found = moments.moments(xs)

    assert found.low <= found.mean <= found.high


@given(st.lists(st.integers(-(2**43), 2**43), min_size=1, max_size=300))
def test_sums_of_integers_are_exact(xs):
    """Sums of counts stay integers."""
    assert moments.moments(xs).total == sum(xs)


def test_differences_beyond_a_double():
    """Mean and sum are right where a difference is beyond a double; the deviation is then infinite."""
    found = moments.moments([1.5e308, -1.5e308, 1.5e308])

    assert found.mean == pytest.approx(0.5e308)
    assert found.total == pytest.approx(1.5e308)
    assert found.m2 == math.inf


def test_a_sum_fits_a_double_though_a_multiple_of_the_first_number_does_not():
    """The first number times the count is beyond a double, the sum is not."""
    found = moments.moments([0.9e308, 0.2e308, 0.2e308])

    assert found.total == pytest.approx(1.3e308)
    assert found.mean == pytest.approx(1.3e308 / 3)


@pytest.mark.parametrize("count", [1, 2, 200])
@pytest.mark.parametrize("zeros", [(0.0, -0.0), (-0.0, 0.0), (-0.0, -0.0)], ids=["+-", "-+", "--"])
def test_zeros_as_extremes_are_positive(zeros, count):
    """Minimum and maximum of zeros are 0.0 for each sign and order, in one observation or many."""
    stat = StatAggregator()
    for x in zeros:
        stat.extend(array("d", [x]) * count)

    assert [math.copysign(1, x) for x in (stat.min, stat.max)] == [1, 1]


@given(tables(ANY), tables(ANY), st.sampled_from([TimeSeriesAggregator.lazy(), StatAggregator.lazy(2)]))
def test_columns_extend_as_if_each_were_alone(first, second, spec):
    """Extending several aggregators at once gives the same documents as one by one, whatever else is among them."""
    for columns in (first, second):
        together = [spec() for _ in columns[:-1]] + [RingAggregator(3)] * (spec != TimeSeriesAggregator.lazy())
        together += [TimeSeriesAggregator()] * (len(columns) - len(together))
        alone = [type(each).make(each.argument) for each in together]
        for _ in range(2):
            extend_columns(together, columns, 7)
            for each, column in zip(alone, columns, strict=True):
                each.extend(column, 7)

        assert [repr(each.to_document()) for each in together] == [repr(each.to_document()) for each in alone]
