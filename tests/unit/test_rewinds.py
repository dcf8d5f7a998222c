"""Superseded rows are left out of histories: a plain rule over the attempt of the writer and the step of the row."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_reading_history import buckets_of
from trialstream.reading.history import downsampled, histories
from trialstream.reading.reader import Since
from trialstream.reading.rewinds import Rewinds
from trialstream_schemas.model.attempts import FormerParticipant, Participant, TrialAttempt
from trialstream_schemas.model.trial import Trial

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
INTS = st.sampled_from([-(2**63), -1, 0, 1, 2, 3, 2**53, 2**53 + 1, 2**63 - 1]) | st.integers(-4, 9)
FLOATS = st.sampled_from([-1e300, -(2.0**63), 2.0**53, 2.0**63, 1e300]) | st.floats(-3, 9).map(
    lambda x: round(x * 2) / 2
)
STEPS = st.none() | INTS | FLOATS | st.sampled_from(["a", "9"])
WRITERS = ["w0", "w1", "w2", "w3", "w4"]


def trial_of(steps, numbers, former=()):
    """Return a trial whose attempts resume from these steps, with the writers of these numbers of attempts."""
    trial = Trial(name="t")
    trial.attempts = [TrialAttempt(f"k{i}", i, NOON, step) for i, step in enumerate(steps, 1)]
    for writer, number in numbers.items():
        if number and writer in former:
            trial.former_participants[writer] = FormerParticipant(number, 0)
        elif number:
            trial.participants[writer] = Participant(number, 0, "", NOON, NOON)
    return trial


def survives(trial, writer, step):
    """Return whether a row is not superseded, by the plain rule."""
    number = trial.attempt_of(writer)
    later = [each.resume_step for each in trial.attempts if each.number > number and each.resume_step is not None]
    return isinstance(step, str | None) or not any(step > bound for bound in later)


@given(
    st.lists(st.none() | INTS | FLOATS, max_size=4),
    st.lists(st.integers(0, 4), min_size=5, max_size=5),
    st.lists(st.tuples(st.sampled_from(WRITERS), STEPS), max_size=40),
    st.none() | st.integers(0, 9),
    st.sets(st.sampled_from(WRITERS)),
)
def test_superseded_rows_are_left_out(steps, numbers, rows, since, former):
    """Exactly the rows that no later attempt has rewound are left, with their numbers, in the order of the log."""
    numbers = {writer: min(number, len(steps)) for writer, number in zip(WRITERS, numbers, strict=True)}
    trial = trial_of(steps, numbers, former)
    buckets = buckets_of([(writer, step, {"a": i}) for i, (writer, step) in enumerate(rows)])

    found = histories(buckets, Since(row=since), Rewinds(trial))
    kept = found["a"].rows.tolist() if found else []

    expected = [i for i, (writer, step) in enumerate(rows) if survives(trial, writer, step) and i >= (since or 0)]
    assert kept == expected
    assert found["a"].values.tolist() == expected if found else not expected


def test_late_rows_of_a_dying_process_are_superseded():
    """Rows of an earlier attempt that the log has after those of the next one are superseded, too."""
    trial = trial_of([None, 10], {"old": 1, "new": 2})
    rows = [("old", 9), ("old", 11), ("new", 11), ("old", 12), ("new", 12), ("old", 10)]

    found = histories(buckets_of([(w, step, {"a": 0.0}) for w, step in rows]), rewinds=Rewinds(trial))["a"]

    assert found.steps.tolist() == [9, 11, 12, 10]
    assert found.writers.tolist() == ["old", "new", "new", "old"]


def test_rows_of_writers_without_an_attempt_are_superseded():
    """Writers that named no attempt come before the first one; rows without a number as step are never superseded."""
    trial = trial_of([3.5], {"new": 1})
    rows = [
        ("plain", 3),
        ("plain", 4),
        ("plain", None),
        ("plain", "9"),
        ("plain", 3.5),
        ("plain", math.nextafter(3.5, 4)),
    ]

    found = histories(buckets_of([(w, step, {"a": 0.0}) for w, step in rows]), rewinds=Rewinds(trial))["a"]

    assert found.steps.tolist() == [3, None, "9", 3.5]


def test_downsampling_sees_the_surviving_rows_only():
    """A spike among superseded rows is not a point of the downsampled history."""
    trial = trial_of([None, 50], {"old": 1, "new": 2})
    rows = [("old", i, {"a": 1000.0 if i > 50 else 0.0}) for i in range(100)]
    rows += [("new", i, {"a": 1.0}) for i in range(51, 100)]

    found = downsampled(histories(buckets_of(rows), rewinds=Rewinds(trial))["a"], 10)

    assert found.values.max() == 1.0


@pytest.mark.parametrize("rewinds", [[], [None, None]])
def test_without_rewinds_nothing_is_computed(rewinds):
    """A bucket without a superseded row has no mask."""
    [bucket] = buckets_of([("w0", 1, {"a": 0.0})])

    assert Rewinds(trial_of(rewinds, {"w0": len(rewinds)})).superseded(bucket.shape.steps, bucket.spans, None) is None
