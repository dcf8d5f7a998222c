"""Time series that keep their best observation: the bound of the records, and frames of rows."""

from __future__ import annotations

from array import array

import bson
import pytest
from trialstream_consumer.fold import State, fold
from trialstream_schemas.errors import InvalidValue
from trialstream_schemas.model.aggregators import AggregatorSpec, BestAggregator, TimeSeriesAggregator
from trialstream_schemas.model.aggregators.best import MAX_RECORDS
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.wire import events as e

TIME = 1_700_000_000_000_000


def test_records_are_bounded():
    """Of many records, the newest are all kept and older ones thinned out; the best is always the best."""
    found = BestAggregator("min")
    for step in range(10_000):
        found.extend_rows([-float(step)], [step], 1)
        assert found.best == -step

    document = found.to_document()
    steps = [step for _, step, _ in document["records"]]
    assert len(steps) <= MAX_RECORDS
    assert steps[-32:] == list(range(9968, 10_000))
    assert steps[0] == 0
    assert len(bson.encode(document)) <= found.reserved
    found.rewind(2, 9980)
    assert (found.best, found.best_step) == (-9980.0, 9980)
    found.rewind(3, 5000.5)
    assert found.best_step <= 5000
    found.rewind(4, -1)
    assert (found.best, found.best_step) == (None, None)


def test_a_frame_is_extended_as_its_rows():
    """A frame gives the same best as its rows one by one, and the statistics of a plain time series."""
    xs = [((i * 7919) % 1000) / 8 for i in range(500)]
    frame, single, plain = BestAggregator(), BestAggregator(), TimeSeriesAggregator()
    frame.extend_rows(array("d", xs), array("q", range(500)), 2)
    plain.extend(array("d", xs), 499)
    for step, x in enumerate(xs):
        single.extend_rows([x], [step], 2)

    assert frame.to_document()["records"] == single.to_document()["records"]
    assert (frame.best, frame.best_step) == (max(xs), xs.index(max(xs)))
    assert plain.summary().items() <= frame.summary().items()


@pytest.mark.parametrize(
    "make", [BestAggregator, TimeSeriesAggregator.lazy], ids=["BestAggregator", "TimeSeriesAggregator.lazy"]
)
def test_a_wrong_goal_is_refused(make):
    """The best observation is the largest or the smallest one."""
    with pytest.raises(InvalidValue, match="best: expected 'max'"):
        make("largest")
    assert TimeSeriesAggregator.lazy(best="min")() == BestAggregator.lazy("min")() == BestAggregator("min")
    assert BestAggregator.lazy()() == BestAggregator()


def log_of(*parts):
    """Return a trial with starts and rows: each is (writer, key, resume_step) or (writer, step, value)."""
    trial = Trial(name="t")
    state = State(trials={trial.uid: trial})
    for writer, *rest in parts:
        given = {"trial": trial.uid, "writer": writer, "time": TIME, "seq": trial.writers.get(writer, 0) + 1}
        if isinstance(rest[0], str):
            fold(state, e.TrialStarted(attempt=rest[0], resume_step=rest[1], rank=0, **given))
        else:
            step, value = rest
            spec = AggregatorSpec("best", 1)
            fold(state, e.MetricsLogged(
                aggregator=spec, names=["a"], times=[0], columns=[[value]], steps=[step], **given
            ))  # fmt: skip
    return trial


def test_a_rewind_takes_the_best_back():
    """After a rewind the best is that of the surviving rows; late rows of the earlier attempt cannot become it."""
    trial = log_of(
        ("old", "k", None), ("old", 1, 0.5), ("old", 5, 0.7), ("old", 9, 0.9), ("new", "k/1", 6),
        ("old", 10, 1.0), ("old", 6, 0.75), ("new", 7, 0.6),
    )  # fmt: skip

    found = trial.metrics["a"]
    assert (found.best, found.best_step) == (0.75, 6)
    assert (found.last, found.count) == (0.6, 6)


def test_a_step_that_a_later_rank_names_rewinds_the_earlier_attempts_only():
    """If only the second start of an attempt has the step, the rows that the attempt has logged by then stay."""
    trial = log_of(("old", "k", None), ("old", 9, 0.9), ("new", "k/1", None), ("new", 8, 0.8), ("other", "k/1", 5))

    assert (trial.metrics["a"].best, trial.metrics["a"].best_step) == (0.8, 8)
