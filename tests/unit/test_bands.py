"""Bands: statistics of many trials on a common grid of steps, against plain loops."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_reading_history import buckets_of, plain
from trialstream.reading.bands import bands, check_grid, check_quantiles, curve, grid, key_of
from trialstream.reading.history import histories
from trialstream_schemas.errors import InvalidType, InvalidValue, QueryError
from trialstream_schemas.model.aggregators import TimeSeriesAggregator
from trialstream_schemas.model.status import Status
from trialstream_schemas.model.trial import Trial

STEPS = st.integers(-5, 20) | st.integers(-10, 40).map(lambda x: x / 2)
VALUES = st.integers(-100, 100).map(float) | st.just(math.nan)
SERIES = st.lists(st.tuples(STEPS, VALUES), max_size=12)


def curve_of(rows):
    """Return the curve of rows of (step, value)."""
    steps = np.array([step for step, _ in rows], dtype=np.float64)
    history = plain(steps, [value for _, value in rows])
    return curve(history.steps, history.values)


def value_at(rows, step):
    """Return the value of rows at a step by linear interpolation; None outside of their range."""
    by_step: dict[float, list[float]] = {}
    for each, value in rows:
        if not math.isnan(value):
            by_step.setdefault(float(each), []).append(value)
    points = sorted((each, statistics.fmean(values)) for each, values in by_step.items())
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 <= step <= x1:
            return y0 + (y1 - y0) * (step - x0) / (x1 - x0)
    return points[0][1] if len(points) == 1 and points[0][0] == step else None


@given(st.lists(SERIES, max_size=5), st.sampled_from([2, 5, 200]))
def test_statistics_of_many_trials(series, points):
    """At each step of the grid, the statistics are those of the interpolated values of the trials that have one."""
    rows = [each for each in series if curve_of(each) is not None]
    curves = [curve_of(each) for each in rows]
    steps = grid(curves, points)
    found = bands(curves, [f"t{i}" for i in range(len(rows))], steps, [0.0, 0.5, 1.0])

    assert len(found) == len(steps) <= points
    assert np.all(np.diff(steps) > 0)
    for i, step in enumerate(steps):
        values = [value for each in rows if (value := value_at(each, step)) is not None]
        assert found.count[i] == len(values)
        if not values:
            assert all(
                np.isnan(each[i]) for each in (found.mean, found.std, found.min, found.max, found.quantiles[0.5])
            )
            continue
        expected = [
            *(statistics.fmean(values), statistics.pstdev(values), min(values), max(values)),
            *(min(values), statistics.median(values), max(values)),
        ]
        got = [found.mean[i], found.std[i], found.min[i], found.max[i], *(each[i] for each in found.quantiles.values())]
        assert got == pytest.approx(expected, abs=1e-9)


@given(st.lists(SERIES, min_size=1, max_size=5))
def test_few_steps_are_all_in_the_grid(series):
    """A grid with room for all steps has exactly these; otherwise it goes from the first to the last."""
    curves = [each for rows in series if (each := curve_of(rows)) is not None]
    every = sorted({float(step) for rows in series for step, value in rows if not math.isnan(value)})

    assert grid(curves, 500).tolist() == every
    if len(every) > 2:
        assert grid(curves, 2).tolist() == [every[0], every[-1]]


def test_rows_without_numbers_as_steps_are_left_out():
    """Steps that are texts or missing have no place on the grid."""
    rows = [("w", 1, {"a": 1.0}), ("w", "b", {"a": 2.0}), ("w", None, {"a": 3.0}), ("w", 2.5, {"a": 4.0})]
    history = histories(buckets_of(rows))["a"]
    steps, values = curve(history.steps, history.values)

    assert (steps.tolist(), values.tolist()) == ([1.0, 2.5], [1.0, 4.0])
    history = histories(buckets_of([("w", "b", {"a": 2.0})]))["a"]
    assert curve(history.steps, history.values) is None


def test_infinite_values_cause_no_warning():
    """Infinite values are values, and what they leave undefined is NaN."""
    curves = [curve_of([(0, math.inf), (1, 1.0)]), curve_of([(0, -math.inf), (1, 3.0)])]
    found = bands(curves, ["a", "b"], grid(curves, 10), [0.5])

    assert (found.min.tolist(), found.max.tolist()) == ([-math.inf, 1.0], [math.inf, 3.0])
    assert found.mean[1] == 2.0


def test_trials_are_grouped_by_any_field():
    """The key of a trial is the value at a path: None if it is missing, and a text if it is no scalar."""
    loss = TimeSeriesAggregator()
    loss.extend([0.5], 1)
    trial = Trial(
        name="t", parameters={"lr": 0.1, "a.b": {"c": [1, 2]}, "nan": math.nan}, group_id="g", metrics={"loss": loss},
        status=Status.Completed,
    )  # fmt: skip
    paths = {
        "parameters.lr": 0.1, "group_id": "g", "project_id": None, "parameters.other.deep": None, "status": "Completed",
        "metrics.loss.last": 0.5, r"parameters.a\.b.c.1": 2, r"parameters.a\.b.c.2": None, "name.x": None,
        r"parameters.a\.b.c": "[1, 2]",
    }  # fmt: skip

    assert {path: key_of(trial, path) for path in paths} == paths
    assert key_of(trial, "parameters.nan") is key_of(trial, "parameters.nan")
    with pytest.raises(QueryError, match="there is no field 'parameter', did you mean 'parameters'"):
        key_of(trial, "parameter.lr")


@pytest.mark.parametrize(
    ("check", "given", "error", "message"),
    [
        (check_grid, 1, InvalidValue, "points: expected 2 to 10000, got 1"),
        (check_grid, 10_001, InvalidValue, "points: expected 2 to 10000, got 10001"),
        (check_grid, 2.5, InvalidType, "points: expected an int, got float"),
        (check_grid, None, InvalidType, "points: expected an int, got NoneType"),
        (check_quantiles, 0.5, InvalidType, "quantiles: expected a list of numbers, got 0.5"),
        (check_quantiles, "0.5", InvalidType, "quantiles: expected a list of numbers"),
        (check_quantiles, ["a"], InvalidType, "quantiles: expected a list of numbers"),
        (check_quantiles, [1.5], InvalidValue, "quantiles: expected numbers from 0 to 1"),
        (check_quantiles, (math.nan,), InvalidValue, "quantiles: expected numbers from 0 to 1"),
    ],
    ids=lambda x: x.__name__ if callable(x) and not isinstance(x, type) else "",
)
def test_wrong_options_are_refused(check, given, error, message):
    """A wrong number of points or quantile raises an error that names the parameter."""
    with pytest.raises(error, match=message):
        check(given)
    assert check_grid(np.int64(2)) == 2
    assert check_quantiles(np.array([0.5])) == [0.5]
