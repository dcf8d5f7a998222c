"""The new rows of a live event: all, or those that a plot needs, with the counts of all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trialstream.protocol import MetricHistory
from trialstream_console.dashboard.increments import rows_of

MANY = 5000


def history(values, steps=None, first=0):
    """Rows of a metric, which follow each other in the trial."""
    values = np.asarray(values, np.float64)
    rows = first + np.arange(len(values))
    steps = 10 * rows if steps is None else np.asarray(steps)
    times = (1_000_000 + rows).astype("datetime64[us]")
    return MetricHistory(steps, times, np.full(len(values), "w", object), values, rows)


def test_few_rows_are_all_there():
    """An event of few rows has all of them, and no counts."""
    found = rows_of({"loss": history([1.0, math.nan, 3.0], first=7)}, end=9)

    assert found == {
        "loss": {"steps": [70, 80], "times": [1_000_007, 1_000_008], "values": [1.0, {"$float": "NaN"}]},
    }


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    names=st.integers(1, 40),
    count=st.integers(4097, MANY),
    special=st.sampled_from([0.0, 0.01, 0.9, 1.0]),
)
def test_many_rows_are_thinned(seed, names, count, special):
    """Of many rows, an event has some in their order: the ends and the extremes too, and the counts of all."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=MANY)
    is_special = rng.random(MANY) < special
    values[is_special] = rng.choice([math.nan, math.inf, -math.inf], is_special.sum())
    every = history(values)
    found = rows_of({f"m{n}": every for n in range(names)}, end=count)["m0"]

    values = values[:count]
    finite = np.flatnonzero(np.isfinite(values))
    rows = [time - 1_000_000 for time in found["times"]]
    assert rows == sorted(set(rows))
    assert found["steps"] == [10 * row for row in rows]
    assert len(rows) <= 4 * max(8, 1024 // names) + 200
    if len(finite):
        assert {finite[0], finite[-1], finite[values[finite].argmin()], finite[values[finite].argmax()]} <= set(rows)
    assert [each for each in found["values"] if isinstance(each, float)] == [x for x in values[rows] if np.isfinite(x)]
    assert found["counts"] == {
        "total": count,
        "nan": np.isnan(values).sum(),
        "inf": np.isposinf(values).sum(),
        "neginf": np.isneginf(values).sum(),
    }


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([*range(MANY - 1), 3], id="steps that go back"),
        pytest.param(np.full(MANY, "a", object), id="texts"),
    ],
)
def test_rows_of_unordered_steps_are_not_thinned(steps):
    """Many rows whose steps do not ascend are not sent: those that an attempt supersedes are known to `/series`."""
    assert rows_of({"loss": history(np.zeros(MANY), steps)}, end=MANY) is None
    assert len(rows_of({"loss": history(np.zeros(MANY), steps)}, end=100)["loss"]["values"]) == 100
