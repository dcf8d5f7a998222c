"""Moments of columns of numbers: count, mean, sum of squared deviations, minimum, maximum and sum.

The moments of a column (but for the signs of zeros) have the same bits on every machine, and whether they are computed
by numpy for several columns at once or by a loop in Python for one: each sum is added up from the first number to the
last in doubles, by ufuncs that do one rounded operation each. A rebuild therefore writes the same documents.

With x₀ the first number and dᵢ = xᵢ - x₀, the mean is x₀ + Σdᵢ / n, the sum n·x₀ + Σdᵢ, and the sum of squared
deviations Σ(dᵢ - Σdᵢ / n)², as in the two-pass algorithm for shifted data (Chan, Golub and LeVeque, "Algorithms for
Computing the Sample Variance", 1983). The moments of equal numbers are exact.

Error bounds, with u = 2⁻⁵³, n ≤ 2²⁰ numbers and r = max |dᵢ|: the error of the mean is at most 2·n·u·r + 2·u·max |xᵢ|,
that of the sum n times as much, and the root of the sum of squares is off by at most √n·(2·n·u·r) + 2·n·u times itself.
These follow from the bound (n - 1)·u·Σ|dᵢ| of recursive summation (Higham, "Accuracy and Stability of Numerical
Algorithms", 2nd edition, section 4.2), and are property-tested.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = ["Moments", "moments", "moments_of_columns"]

# Numbers in all columns together from which numpy is faster than the loop (measured).
_NUMPY_FROM = 128
# Numbers that numpy works on at once, so that the arrays in between fit the processor's cache (measured).
_TABLE = 8192


class Moments(NamedTuple):
    """Moments of finite numbers.

    Attributes:
        n: Number of numbers, at least one.
        mean: Their mean, between `low` and `high`.
        m2: Sum of their squared deviations from the mean; inf if it is beyond a double.
        low: Minimum; its sign is undefined if it is zero.
        high: Maximum; its sign is undefined if it is zero.
        total: Sum; ±inf if it is beyond a double.
    """

    n: int
    mean: float
    m2: float
    low: float
    high: float
    total: float


def moments(xs: Sequence[float]) -> Moments | None:
    """The moments of a column.

    They are within the bounds of the module also if the sum, or the difference of two numbers, is beyond a double.

    Args:
        xs: Numbers, at least one.

    Returns:
        The moments, or None if a number is not finite.
    """
    xs = list(map(float, xs))  # each pass over an array would make new float objects
    first, n, total = xs[0], len(xs), 0.0
    for x in xs:
        total += x - first
    mean = total / n
    if mean - mean == 0.0:
        m2 = 0.0
        for x in xs:
            deviation = (x - first) - mean
            m2 += deviation * deviation
        return _shifted_back(n, first, total, m2, min(xs), max(xs))
    if not all(map(math.isfinite, xs)):
        return None
    low, high = min(xs), max(xs)
    mean = min(max(math.fsum([x / n / 2 for x in xs]) * 2, low), high)
    return Moments(n, mean, math.inf, low, high, mean * n)  # a deviation is so large that its square is beyond a double


def moments_of_columns(columns: Sequence[Sequence[float]]) -> list[Moments | None]:
    """The moments of columns of the same length, with the bits of `moments`.

    Args:
        columns: Columns of numbers, at least one column and one number in each.

    Returns:
        The moments of each column, or None for a column with a number that is not finite.
    """
    n = len(columns[0])
    if n * len(columns) < _NUMPY_FROM:
        return [moments(each) for each in columns]
    height = max(1, _TABLE // n)
    return [each for at in range(0, len(columns), height) for each in _moments_of_table(columns[at : at + height])]


def _moments_of_table(columns: Sequence[Sequence[float]]) -> Iterator[Moments | None]:
    import numpy as np  # noqa: PLC0415 (heavy)

    table = np.array(columns, np.float64)
    n = table.shape[1]
    with np.errstate(invalid="ignore", over="ignore"):
        differences = table - table[:, :1]
        totals = np.add.accumulate(differences, axis=1)[:, -1]
        differences -= (totals / n)[:, None]
        differences *= differences
        squares = np.add.accumulate(differences, axis=1)[:, -1]
    plain = [each.tolist() for each in (table[:, 0], totals, squares, table.min(axis=1), table.max(axis=1))]
    for column, (first, total, m2, low, high) in zip(columns, zip(*plain, strict=True), strict=True):
        # A total is not finite if a number is not finite, or if numbers differ by nearly the largest double.
        yield _shifted_back(n, first, total, m2, low, high) if math.isfinite(total) else moments(column)


def _shifted_back(n: int, first: float, total: float, m2: float, low: float, high: float) -> Moments:
    """The moments of numbers from those of the differences to the first of them."""
    mean = first + total / n  # not outside, since the 0 among the differences keeps it 1/n of their range away
    plain = first * n + total
    return Moments(n, mean, m2, low, high, plain if math.isfinite(plain) else mean * n)
