"""Aggregators: the result is that of one pass over all observations, regardless of how they are cut."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import VALUES, exact
from trialstream_schemas.model.aggregators import (
    Aggregator,
    BestAggregator,
    RingAggregator,
    StatAggregator,
    TimeSeriesAggregator,
    ValueAggregator,
)

# Bounded, so that squares and sums of thousands are exact enough in a double to be compared.
MODERATE = st.integers(-(10**6), 10**6).map(float) | st.floats(-1e6, 1e6, allow_subnormal=False)
LARGEST = 1.7976931348623157e308
ODD = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, LARGEST, -LARGEST, 5e-324])
ANY = st.floats() | ODD
STEPS = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=5)
LAZIES = st.one_of(
    st.just(ValueAggregator.lazy()),
    st.builds(StatAggregator.lazy, st.integers(0, 5)),
    st.builds(RingAggregator.lazy, st.integers(1, 5)),
    st.just(TimeSeriesAggregator.lazy()),
    st.builds(TimeSeriesAggregator.lazy, st.sampled_from(["max", "min"])),
)
EXACT = (
    "best",
    "count",
    "min",
    "max",
    "nan",
    "inf",
    "neginf",
    "last",
    "last_step",
    "value",
    "values",
    "skipped_values",
)
CLOSE = ("avg", "sd", "sum")


def parts(names, aggregator):
    """Return the values of those named attributes that this kind has."""
    return {name: getattr(aggregator, name) for name in names if hasattr(aggregator, name)}


def fed(lazy, *chunks):
    """Return an aggregator that was extended by each of these observations, with their last step."""
    made = lazy()
    for xs, step in chunks:
        made.extend(xs, step)
    return made


def assert_alike(one, other, xs):
    """Assert that two aggregators are equal: exactly, except for rounded statistics."""
    assert exact(parts(EXACT, one)) == exact(parts(EXACT, other)) or parts(EXACT, one) == parts(EXACT, other)
    finite = [x for x in xs if math.isfinite(x)]
    scale = max(map(abs, finite), default=0.0)
    for name, mine in parts(CLOSE, one).items():
        theirs = getattr(other, name)
        if mine is None:
            assert theirs is None
        else:
            # The root of a rounded sum of squares is exact in half of the digits.
            slack = {"sum": 1e-9 * len(xs), "avg": 1e-9, "sd": 1e-6}[name] * scale
            assert math.isclose(mine, theirs, rel_tol=1e-9, abs_tol=slack), name


@given(LAZIES, st.lists(MODERATE | st.sampled_from([math.nan, math.inf, -math.inf])), st.data())
def test_extending_twice_equals_once(lazy, xs, data):
    """Extending twice equals extending once by all observations."""
    cut = data.draw(st.integers(0, len(xs)))

    assert_alike(fed(lazy, (xs[:cut], 1), (xs[cut:], 1)), fed(lazy, (xs, 1)), xs)


@given(LAZIES, st.lists(MODERATE | st.sampled_from([math.nan, math.inf, -math.inf])), st.data())
def test_merge_is_one_pass(lazy, xs, data):
    """Merging aggregators equals one pass over all observations, including those that are skipped."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(xs)), max_size=3)))

    merged = lazy()
    for start, stop in zip([0, *cuts], [*cuts, len(xs)], strict=True):
        merged.merge(fed(lazy, (xs[start:stop], 1)))

    assert_alike(merged, fed(lazy, (xs, 1)), xs)


@given(st.lists(ANY, max_size=30), st.integers(0, 5))
def test_stat_covers_the_observations_after_the_skipped_ones(xs, skip):
    """Counts, minimum and maximum are those of the finite observations after the skipped ones."""
    stat = fed(StatAggregator.lazy(skip), (xs, None))
    counted = xs[skip:]
    finite = [x for x in counted if math.isfinite(x)]

    assert stat.count == len(finite)
    assert (stat.min, stat.max) == (min(finite, default=None), max(finite, default=None))
    assert stat.nan == sum(x != x for x in counted)  # noqa: PLR0124 (only NaN differs from itself)
    assert (stat.inf, stat.neginf) == (counted.count(math.inf), counted.count(-math.inf))


@given(st.lists(MODERATE, min_size=1, max_size=30), st.data())
def test_moments_are_exact_to_rounding(xs, data):
    """Average, deviation and sum agree with exact arithmetic, regardless of how the observations are cut."""
    cut = data.draw(st.integers(0, len(xs)))
    stat = fed(StatAggregator.lazy(), (xs[:cut], None), (xs[cut:], None))
    fractions = list(map(Fraction, xs))
    mean = sum(fractions) / len(xs)
    variance = sum((x - mean) ** 2 for x in fractions) / len(xs)
    scale = max(map(abs, xs))

    assert math.isclose(stat.avg, mean, rel_tol=1e-12, abs_tol=1e-12 * scale)
    assert math.isclose(stat.sum, sum(fractions), rel_tol=1e-12, abs_tol=1e-12 * scale * len(xs))
    assert math.isclose(stat.sd, math.sqrt(variance), rel_tol=1e-9, abs_tol=1e-9 * scale)


@given(st.lists(st.lists(ANY, max_size=5), max_size=6), st.booleans(), st.integers(0, 3))
def test_statistics_are_never_nan(chunks, merged, skip):
    """No statistic is NaN, and the mean is finite, for any observations: NaN, ±inf and the largest doubles."""
    stat = StatAggregator(skip)
    for xs in chunks:
        if merged:
            stat.merge(fed(StatAggregator.lazy(skip), (xs, None)))
        else:
            stat.extend(xs)

    assert not any(math.isnan(x) for x in (stat.avg, stat.sd, stat.min, stat.max, stat.sum) if x is not None)
    assert all(math.isfinite(x) for x in (stat.avg, stat.min, stat.max) if x is not None)
    assert (stat.count == 0) == (stat.avg is None)


@given(st.lists(st.sampled_from([LARGEST, 1.5e308, 1e308]), min_size=2, max_size=40))
def test_mean_of_the_largest_doubles(xs):
    """The mean is between minimum and maximum when the sum is beyond a double."""
    stat = fed(StatAggregator.lazy(), (xs, None))

    assert stat.min <= stat.avg <= stat.max
    assert stat.sum == math.inf


@given(LAZIES, st.lists(ANY, max_size=10), st.lists(ANY, max_size=10), STEPS)
def test_state_comes_back(lazy, xs, ys, step):
    """An aggregator restored from MongoDB or strict JSON continues to the bit like the original one."""
    stayed = fed(lazy, (xs, step))
    stored = Aggregator.from_document(bson.decode(bson.encode(stayed.to_document())))
    written = Aggregator.from_json(json.loads(json.dumps(stayed.to_json(), allow_nan=False)))

    assert stored == written == stayed
    for each in (stayed, stored, written):
        each.extend(ys, step)
    assert exact(stored.to_document()) == exact(written.to_document()) == exact(stayed.to_document())
    json.dumps(stayed.to_json(short=True), allow_nan=False)


@pytest.mark.parametrize(
    "lazy", [pytest.param(ValueAggregator.lazy(), id="Value"), pytest.param(RingAggregator.lazy(3), id="Ring")]
)
@given(xs=st.lists(VALUES, max_size=5))
def test_any_value_comes_back(lazy, xs):
    """MongoDB and strict JSON restore any value in the aggregators that keep values."""
    made = fed(lazy, (xs, None))
    stored = Aggregator.from_document(bson.decode(bson.encode(made.to_document())))
    written = Aggregator.from_json(json.loads(json.dumps(made.to_json(), allow_nan=False)))

    for back in (stored, written):
        assert exact(parts(EXACT, back)) == exact(parts(EXACT, made))
    json.dumps(made.to_json(short=True), allow_nan=False)


NUMERIC = st.integers(-5, 5) | st.sampled_from([-1.5, 0.5, 2.5, math.nan])
ROWS = st.tuples(st.integers(-3, 3).map(float) | ODD, NUMERIC | st.sampled_from([None, "a"]), st.integers(0, 3))


@given(
    st.sampled_from(["max", "min"]),
    st.lists(ROWS | st.tuples(st.just("rewind"), st.integers(-5, 5) | st.just(0.5), st.integers(1, 3)), max_size=60),
    st.booleans(),
)
def test_the_best_survives_all_rewinds(goal, events, restored):
    """The best is the first of the best observations that no rewind of a later attempt supersedes, before or since."""
    found, rows, rewinds = BestAggregator(goal), [], {}
    for what, step, attempt in events:
        if what == "rewind":
            rewinds.setdefault(attempt, step)  # an attempt resumes once
            found.rewind(attempt, rewinds[attempt])
        else:
            bound = min((each for number, each in rewinds.items() if number > attempt), default=None)
            found.extend_rows([what], [step], attempt, bound)
            rows.append((what, step, attempt))
        if restored:
            found = Aggregator.from_document(bson.decode(bson.encode(found.to_document())))

    surviving = [
        (x, step)
        for x, step, attempt in rows
        if not math.isnan(x)
        and (
            isinstance(step, str | None) or not any(step > each for number, each in rewinds.items() if number > attempt)
        )
    ]
    sign = 1 if goal == "max" else -1
    expected = max(surviving, key=lambda row: sign * row[0], default=(None, None))
    assert exact((found.best, found.best_step)) == exact(expected)
