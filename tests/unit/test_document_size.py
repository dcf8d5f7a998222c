"""The accounted size of a trial's document: its growth equals BSON's where values of any length are replaced."""

from __future__ import annotations

import itertools

import bson
import pytest
from trialstream_consumer.fold import State, fold
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.storage.documents import trial_to_document
from trialstream_schemas.wire.events import MetadataLogged, MetricsLogged

TIME = 1_700_000_000_000_000
# Type byte, index and its NUL of an element of a short array. A new ring reserves these bytes.
ELEMENT_BYTES = 3


def sizes(events):
    """Return the accounted and the real size of a trial's document after each event, bytes."""
    trial = Trial(name="t")
    state = State(trials={trial.uid: trial})
    found = []
    for seq, event in enumerate(events, 1):
        event.trial, event.seq = trial.uid, seq
        fold(state, event)
        found.append((trial.size, len(bson.encode(trial_to_document(trial)))))
    return found


def growths(events):
    """Return the accounted and the real growth by each event but the first, bytes."""
    return [
        (size - size_before, real - real_before)
        for (size_before, real_before), (size, real) in itertools.pairwise(sizes(events))
    ]


def rings(length, **values):
    """Return an event with a value for each of some rings."""
    return MetadataLogged(trial="", writer="w", time=TIME, values=values, aggregator=AggregatorSpec("ring", length))


def frame(kind="timeseries", names=("a", "b"), **steps):
    """Return a row of metrics with a step."""
    return MetricsLogged(
        trial="", writer="w", time=TIME, names=names, times=[0], columns=[[0.5] for _ in names],
        aggregator=AggregatorSpec(kind), **steps,
    )  # fmt: skip


def test_a_ring_that_fills_grows_by_each_value():
    """A ring with free places grows by each value and by the difference of the latest values, which it stores twice."""
    given = growths([rings(4, a="x" * n) for n in (100, 50, 200, 10)])

    assert [real - size for size, real in given] == [ELEMENT_BYTES] * 3


def test_a_full_ring_grows_by_the_value_less_the_oldest():
    """A full ring grows or shrinks by the new value less the oldest one, which it replaces."""
    given = growths([rings(3, a="x" * n) for n in (1000, 10, 300, 20, 5, 700, 700, 0)])[2:]

    assert [size for size, _ in given] == [real for _, real in given]
    assert given[0][0] == (20 - 1000) + (20 - 300)


def test_the_rings_of_one_event_grow_together():
    """Each ring of an event grows by its own values."""
    given = growths([rings(1, a="x" * n, b="y" * m) for n, m in ((1, 1), (100, 5), (3, 400))])

    assert given == [(2 * (99 + 4),) * 2, (2 * (-97 + 395),) * 2]


def test_a_last_step_grows_by_the_difference_of_texts():
    """Each time series of a frame grows by the difference of the last steps, between texts and numbers in any order."""
    steps = [
        {"text_steps": ["s" * 10]},
        {"text_steps": ["s" * 500]},
        {"float_steps": [0.5]},
        {"text_steps": ["s" * 70]},
        {"text_steps": [""]},
        {"float_steps": [1.5]},
        {"float_steps": [2.5]},
    ]

    given = growths([frame(**step) for step in steps])

    assert [size for size, _ in given] == [real for _, real in given] == [980, -994, 134, -140, 6, 0]


def test_a_new_time_series_counts_its_first_step():
    """A new time series counts a first text step by its length; a number step is reserved already."""
    (short, _), (long, _), (number, _) = (
        sizes([frame(**step)])[0]
        for step in ({"text_steps": ["s"]}, {"text_steps": ["s" * 1000]}, {"float_steps": [0.5]})
    )

    assert long - short == 2 * 999
    assert short - number == 2 * (len("s") + 5 - 8)


@pytest.mark.parametrize("kind", ["stat", "value"])
def test_other_aggregators_keep_no_step(kind):
    """Aggregators other than time series, new or known, do not grow with the text of a step."""
    (short, _), (long, _) = (sizes([frame(kind, text_steps=["s" * n])])[0] for n in (1, 1000))

    assert long == short
    assert growths([frame(kind, text_steps=["s" * n]) for n in (1, 1000)])[0][0] == 0


def test_only_the_time_series_of_a_frame_grow_with_its_step():
    """Only names whose first aggregator is a time series grow with a frame's step; later aggregators do not count."""
    first = frame("stat", ("a",), text_steps=["s"])
    later = [frame("timeseries", ("a", "b"), text_steps=["s" * n]) for n in (10, 30)]

    assert growths([first, *later])[1] == (20, 20)
