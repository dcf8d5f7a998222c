"""The memory of a consumer: the footprint of a state counts all that it holds, and batches are cut by bytes."""

from __future__ import annotations

from types import SimpleNamespace

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs import FIRST, TRIAL
from trialstream_consumer import worker
from trialstream_consumer.fold import State, fold, footprint
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.identity import group_uid
from trialstream_schemas.model.outcome import Outcome
from trialstream_schemas.storage.documents import group_to_document
from trialstream_schemas.wire import events as e

BIG = "x" * 100_000
SERIES = AggregatorSpec("timeseries")


def begun():
    """Return a state with one trial."""
    state = State()
    fold(state, FIRST)
    return state


def writers(state):
    """Add many writers to the trial."""
    for i in range(1000):
        fold(state, e.Heartbeat(trial=TRIAL, writer=f"w{i}", seq=1, time=0))


def errors(state):
    """Add errors with long texts to the trial."""
    error = e.Error("ValueError", "m" * 2048, "t" * 8192)
    for i in range(32):
        status = e.StatusRecord("Exception", 202)
        fold(state, e.StatusSet(trial=TRIAL, writer="w", seq=i + 1, time=0, status=status, error=error))


def wide_rows(state):
    """Add one row of many metrics with long names."""
    names = [f"{i:04}" + "n" * 500 for i in range(200)]
    columns = [[1.0]] * 200
    event = e.MetricsLogged(
        trial=TRIAL, writer="w", seq=1, time=0, aggregator=SERIES, names=names, times=[0], columns=columns
    )
    fold(state, event)


def group(state):
    """Add a group with large metadata."""
    uid = group_uid("g", None)
    fold(state, e.GroupCreated(group=uid, name="g", writer="w", time=0, request="g", tags={"a": BIG}))
    fold(state, e.GroupMetadataSet(group=uid, writer="w", seq=1, time=0, values={"a": BIG}))


def project(state):
    """Add a project with large metadata."""
    fold(state, e.ProjectCreated(project="p", name="p", writer="w", time=0, request="p", metadata={"a": BIG}))


def nothing_there(state):
    """Note of many documents that they do not exist."""
    state.trials.update({f"{i:032}_0": None for i in range(500)})


def outcomes(state):
    """Add outcomes with long reasons."""
    state.outcomes.update({f"{i}": Outcome(f"{i}", None, applied=False, reason="r" * 2000) for i in range(100)})


def revisions(state):
    """Add next revisions of many hashes."""
    state.revisions.update({f"{i:032}": 1 for i in range(500)})


@pytest.mark.parametrize(
    "add",
    [writers, errors, wide_rows, group, project, nothing_there, outcomes, revisions],
    ids=lambda add: add.__name__,
)
def test_all_that_a_state_holds_counts(add):
    """Entries of each kind, and the parts of documents that have limits of their own, add their bytes."""
    state = begun()
    before = footprint(state)[1]
    add(state)

    assert footprint(state)[1] - before >= 100_000


def test_the_size_of_a_group_is_kept_exactly():
    """The kept size of a group's metadata is that of the whole, also after values were replaced."""
    state, uid = State(), group_uid("g", None)
    fold(state, e.GroupCreated(group=uid, name="g", writer="w", time=0, request="g", metadata={"a.b": 1}))
    for seq, given_values in enumerate([{"a.b": BIG}, {"c": [1, {"d": None}]}, {"a.b": None, "c": 2.5, "e": b"y"}], 1):
        fold(state, e.GroupMetadataSet(group=uid, writer="w", seq=seq, time=0, values=given_values))
    kept, found = state.sizes["metadata", uid], state.groups[uid]
    again = State(groups={uid: found})
    footprint(again)

    assert kept == again.sizes["metadata", uid]
    assert kept >= len(bson.encode(group_to_document(found)["metadata"]))


@given(st.lists(st.none() | st.binary(max_size=40), min_size=1), st.integers(1, 100))
def test_batches_are_cut_by_bytes(values, most):
    """The parts are the records, in their order, and each is within the bound or one record."""
    records = [SimpleNamespace(value=each) for each in values]
    parts = list(worker._cut(records, most))

    assert [each for part in parts for each in part] == records
    for part in parts:
        assert part
        assert len(part) == 1 or sum(len(each.value or b"") for each in part) <= most
