"""The life of a trial in the fold: its first status, its starts and its finishes."""

from __future__ import annotations

import copy

from hypothesis import event as note
from hypothesis import given
from hypothesis import strategies as st
from logs import FIRST, START, TRIAL
from model import STATUSES
from projection import Projection, project
from strategies import INT64, NAMES
from trialstream_schemas.wire import events as e

BUILT_IN = st.sampled_from([e.StatusRecord(*each) for each in STATUSES.items()])
RECORDS = BUILT_IN | st.builds(e.StatusRecord, NAMES.filter(lambda name: name not in STATUSES), INT64)
ERRORS = st.none() | st.just(e.Error("ValueError", "no", ""))
GIVEN = {
    "trial": st.just(TRIAL),
    "writer": st.sampled_from(["w1", "w2"]),
    "time": st.integers(START, START + 1000),
    "request": st.none() | st.integers(0, 2**32).map("up-{}".format),
}
STARTS = st.builds(e.TrialStarted, **GIVEN)
FINISHES = st.builds(
    e.TrialFinished, interrupted=st.booleans(), elapsed=st.none() | st.floats(0, 9), error=ERRORS, **GIVEN
)
STATUSES_SET = st.builds(e.StatusSet, status=RECORDS, error=ERRORS, **GIVEN)
BEATS = st.builds(e.Heartbeat, **GIVEN)


def created(status=None):
    """Return the creation of the trial with a status."""
    event = copy.deepcopy(FIRST)
    event.status = status
    return event


@given(RECORDS)
def test_a_status_at_creation_is_that_status_set(status):
    """A trial created with a status differs from one whose status was set afterwards by the count of updates only."""
    setting = e.StatusSet(trial=TRIAL, writer="w1", time=START, status=status, request="set")
    at_creation = project([created(status)]).read("trials", TRIAL)
    afterwards = project([created(), setting]).read("trials", TRIAL)

    assert (at_creation.pop("state_version"), afterwards.pop("state_version")) == (0, 1)
    assert at_creation == afterwards
    assert at_creation["status"] == {"name": status.name, "code": STATUSES.get(status.name, status.code)}
    assert (at_creation["starts"], at_creation["started"], at_creation["finished"]) == (0, None, None)


@given(st.none() | RECORDS, st.lists(STARTS | FINISHES | STATUSES_SET | BEATS, max_size=12))
def test_only_the_first_finish_since_a_start_adds_to_the_runtime(status, events):
    """A further finish changes the status and the errors only, whatever else was logged since, claims included."""
    projection = Projection()
    state = projection.fold([created(status)])
    seqs = {"w1": 0, "w2": 0}
    ended = False
    for event in events:
        if event.request is None:
            seqs[event.writer] += 1
            event.seq = seqs[event.writer]
        before = projection.read("trials", TRIAL)
        projection.fold([event], state)
        after = projection.read("trials", TRIAL)
        changed = {key for key in after if after[key] != before[key]}
        folded = event.request is None or after["state_version"] > before["state_version"]
        if isinstance(event, e.TrialFinished) and folded:
            if ended:
                assert changed <= {"status", "errors", "writers", "last_seen", "state_version"}
            else:
                has_runtime = event.elapsed is not None or before["started"] is not None
                assert runs(after) == runs(before) + has_runtime
                assert after["finished"] == event.time
            note("a further finish" if ended else "a finish")
            ended = True
        else:
            assert not changed & {"chronos"}
            if isinstance(event, e.TrialStarted) and folded:
                assert after["finished"] is None
                ended = False
            else:
                assert after["finished"] == before["finished"]
    assert projection.dead_letters == []


def runs(document):
    """Return the number of runs in the runtime of a trial."""
    return document["chronos"]["runtime"]["count"] if document["chronos"] else 0
