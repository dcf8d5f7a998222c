"""Views of a history: rows by writer or rank, and the rows of a step reduced to one, against plain loops."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_reading_history import buckets_of
from test_rewinds import trial_of
from trialstream.reading.history import histories
from trialstream.reading.views import View
from trialstream_schemas.errors import InvalidValue
from trialstream_schemas.model.attempts import FormerParticipant

WRITERS = ["w0", "w1", "w2", "w3"]
RANKS = {"w0": 0, "w1": 1, "w2": 0, "w3": None}
NUMBERS = st.integers(-3, 3) | st.sampled_from([0.5, -1.0, 2.0])
ROWS = st.lists(st.tuples(st.sampled_from(WRITERS), NUMBERS | st.sampled_from([None, "a", "b"])), max_size=40)
REDUCTIONS = {"mean": statistics.fmean, "min": min, "max": max, "sum": math.fsum, "count": len}


def ranked():
    """Return a trial with the participants of `RANKS`; one of them is a former one."""
    trial = trial_of([None, None], {"w0": 2, "w1": 2, "w3": 2})
    for writer, each in trial.participants.items():
        each.rank = RANKS[writer]
    trial.former_participants["w2"] = FormerParticipant(1, RANKS["w2"])
    return trial


def view_of(rows, **options):
    """Return the view of a history with these (writer, step), whose values are 0, 1, 2 …."""
    found = histories(buckets_of([(writer, step, {"a": float(i)}) for i, (writer, step) in enumerate(rows)]))
    return View(**options).of(found["a"], ranked(), lambda each: each) if found else {}


def plain(history):
    """Return a history as lists."""
    return {key: getattr(history, key).tolist() for key in ("steps", "writers", "values", "rows")}


@given(ROWS, st.sampled_from(["writer", "rank"]))
def test_rows_by_writer_and_by_rank(rows, by):
    """Each history has the rows of its writer, or of the writers with its rank, in the order of the log."""
    found = view_of(rows, by=by)

    keys = [writer if by == "writer" else RANKS[writer] for writer, _ in rows]
    distinct = list(dict.fromkeys(keys))
    if by == "rank":
        distinct = sorted(each for each in distinct if each is not None) + [None] * (None in distinct)
    assert list(found) == distinct
    for key, history in found.items():
        mine = [i for i, each in enumerate(keys) if each == key]
        assert plain(history) == {
            "steps": [rows[i][1] for i in mine], "writers": [rows[i][0] for i in mine],
            "values": mine, "rows": mine,
        }  # fmt: skip


@given(ROWS.filter(bool), st.sampled_from(list(REDUCTIONS)))
def test_rows_of_a_step_become_one(rows, reduce):
    """The rows of each step are reduced to one: numbers ascending, then the other steps in the order of the log."""
    found = view_of(rows, reduce=reduce)

    distinct = list(dict.fromkeys(step for _, step in rows))
    numbers = sorted(each for each in distinct if isinstance(each, int | float))
    others = [each for each in distinct if not isinstance(each, int | float)]
    groups = [[i for i, (_, each) in enumerate(rows) if each == step] for step in [*numbers, *others]]
    assert plain(found) == {
        "steps": [*numbers, *others],
        "writers": [rows[group[-1]][0] for group in groups],
        "values": pytest.approx([REDUCTIONS[reduce]([float(i) for i in group]) for group in groups]),
        "rows": [group[-1] for group in groups],
    }  # fmt: skip


def test_each_rank_is_reduced_by_itself():
    """With both, the rows of a step are reduced within each rank."""
    found = view_of([("w0", 1), ("w1", 1), ("w2", 1), ("w0", 2)], by="rank", reduce="sum")

    assert {rank: each.values.tolist() for rank, each in found.items()} == {0: [2.0, 3.0], 1: [1.0]}


def test_rows_without_steps_become_one():
    """Rows without a step, as those of chronos, are reduced to one: the mean seconds of each rank."""
    found = view_of([("w0", None), ("w1", None), ("w0", None)], by="rank", reduce="mean")

    assert {rank: (each.steps.tolist(), each.values.tolist()) for rank, each in found.items()} == {
        0: ([None], [1.0]), 1: ([None], [1.0])
    }  # fmt: skip


@pytest.mark.parametrize("reduce", list(REDUCTIONS))
def test_odd_values_show(reduce):
    """A NaN among the values makes the result NaN, except the count, without a warning."""
    buckets = buckets_of([("w", 1, {"a": x}) for x in (math.inf, -math.inf, math.nan)] + [("w", 2, {"a": 1.0})])
    found = View(reduce=reduce).of(histories(buckets)["a"], None, lambda each: each)

    assert np.isnan(found.values).tolist() == [reduce != "count", False]


def test_an_empty_history_has_an_empty_view():
    """A history whose rows are all left out is empty, or has no writer."""
    empty = histories(buckets_of([("w", i, {"a": 0.0}) for i in range(1024)])[1:])["a"]

    assert View(by="rank", reduce="mean").of(empty, None, lambda each: each) == {}
    assert len(View(reduce="mean").of(empty, None, lambda each: each)) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "host"}, "by: expected 'writer', 'rank' or None, got 'host'"),
        ({"reduce": "median"}, "reduce: expected 'mean', 'min', 'max', 'sum', 'count' or None, got 'median'"),
        ({"reduce": ["mean"]}, "reduce: expected"),
    ],
    ids=["by", "reduce", "list"],
)
def test_wrong_options_are_refused(options, message):
    """Another value raises an error that names the parameter."""
    with pytest.raises(InvalidValue, match=message):
        View(**options).check()
