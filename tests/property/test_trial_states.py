"""The states of a trial at any times, in any order, are those of the fold of its events up to each time."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trialstream as ts
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import TRIAL, logs
from profiles import examples
from trialstream_consumer.fold import Refused, State, fold
from trialstream_consumer.replay import trial_states
from trialstream_consumer.replay.trial_log import TrialLog, TrialRecord
from trialstream_consumer.replay.trial_states import Stopped, TrialStates
from trialstream_schemas.storage.documents import trial_to_document
from trialstream_schemas.wire.codec import encode
from trialstream_schemas.wire.envelope import envelope_fault


def log_of(events):
    """Return the log of a trial: an event a millisecond."""
    log = TrialLog(ts.Config(), TRIAL, None)
    log.records = [TrialRecord(i, i, encode(each)) for i, each in enumerate(events)]
    return log


def document(trial):
    """Return a trial as its document; comparable as text, since NaN is equal to no NaN."""
    return None if trial is None else repr(trial_to_document(trial))


def never():
    """Stop no fold."""
    return False


@pytest.fixture(autouse=True, scope="module")
def _small_steps():
    """Fold and keep states every few records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial_states, "_STEP_RECORDS", 3)
        patch.setattr(trial_states, "_MAX_SNAPSHOTS", 4)
        yield


@settings(max_examples=examples(60))
@given(logs(max_size=30), st.lists(st.integers(0, 300), min_size=1, max_size=6))
def test_states_are_those_of_the_fold(events, times):
    """A time that was visited before, a later one and an earlier one give the state of a fold from the beginning."""
    events = [each for each in events if getattr(each, "trial", "").startswith(TRIAL[:32])]
    states = TrialStates(log_of(events))

    for time in times:
        state = State()
        for event in events[: time + 1]:
            with suppress(Refused):
                if envelope_fault(event) is None:
                    fold(state, event)
        assert states.at(time, document, never) == document(state.trials.get(TRIAL))


@given(logs(max_size=20))
@settings(max_examples=examples(20))
def test_a_stopped_fold_goes_on(events):
    """A fold that is stopped after each step has the same result in the end."""
    events = [each for each in events if getattr(each, "trial", "").startswith(TRIAL[:32])]
    stopped, whole = TrialStates(log_of(events)), TrialStates(log_of(events))
    turns = iter([False, True] * (len(events) + 1))
    while True:
        try:
            found = stopped.at(1000, document, lambda: next(turns))
        except Stopped:
            continue
        break

    assert found == whole.at(1000, document, never)


@given(logs(max_size=30))
def test_the_memory_of_states_is_counted(events):
    """It is that of the states that are kept, and of the trial that was folded last, whose size is that of the fold."""
    states = TrialStates(log_of([each for each in events if getattr(each, "trial", "").startswith(TRIAL[:32])]))
    assert states.nbytes == 0
    size = states.at(300, lambda trial: 0 if trial is None else trial.size, never)

    assert states.nbytes == sum(map(len, states._snapshots)) + trial_states._SIZE_FACTOR * size
    assert (states.nbytes > 0) >= (size > 0)
