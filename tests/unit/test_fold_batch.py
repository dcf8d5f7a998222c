"""Row groups: frames of one row that are folded together."""

from __future__ import annotations

import copy
from array import array
from dataclasses import replace

import pytest
from trialstream_consumer.fold import (
    Changes,
    FoldFault,
    State,
    batch,
    fold,
    fold_groups,
    fold_rows,
    row_groups,
    single_groups,
)
from trialstream_schemas.model.aggregators import StatAggregator, TimeSeriesAggregator
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.storage.documents import trial_to_document
from trialstream_schemas.wire.codec import SchemaStore, encode
from trialstream_schemas.wire.events import Heartbeat, MetricsLogged, ProjectCreated, TagsAdded
from trialstream_schemas.wire.rows import RowRun

ONE, TWO = Trial(name="one"), Trial(name="two")
TIME = 1_700_000_000_000_000


def row(seq, trial=ONE, **changes):
    """Return a frame of one row."""
    event = MetricsLogged(
        trial=trial.uid,
        writer="w",
        seq=seq,
        time=TIME + seq,
        aggregator=TimeSeriesAggregator.lazy(),
        names=("loss", "lr"),
        steps=(seq,),
        times=(0,),
        columns=[(seq / 7,), (0.1,)],
    )
    return replace(event, **changes)


def state_with(*events):
    """Return a state with both trials, after some events."""
    state = State(trials={each.uid: copy.deepcopy(each) for each in (ONE, TWO)})
    for event in events:
        fold(state, event)
    state.changes = Changes()
    return state


def run(rows):
    """Return frames as one run, or None if they are none."""
    return RowRun.of(rows)


def seen(state):
    """Return the content of a state as documents, and its changes."""
    trials = {uid: trial_to_document(each) for uid, each in state.trials.items()}
    buckets = {key: each.to_document(full=False) for key, each in state.buckets.items()}
    return trials, buckets, state.changes


def test_alternating_trials_have_a_row_group_each():
    """The rows of each trial form one group, in the order of the log, if trials alternate."""
    assert row_groups([row(1), row(1, TWO), row(2), row(2, TWO), row(3)]) == [[0, 2, 4], [1, 3]]


def test_a_record_that_is_not_folded_is_in_no_group():
    """A record that is not folded is in no group and ends none."""
    assert row_groups([row(1), None, row(2), None]) == [[0, 2]]
    assert single_groups([row(1), None, row(2)]) == [[0], [2]]


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(row(2, writer="v"), id="another writer"),
        pytest.param(row(2, names=("loss", "x")), id="other names"),
        pytest.param(row(2, aggregator=StatAggregator.lazy()), id="another aggregator"),
        pytest.param(row(2, steps=()), id="no step"),
        pytest.param(row(2, steps=(), float_steps=(0.5,)), id="a step that is a float"),
        pytest.param(row(2, steps=(), text_steps=("a",)), id="a step that is a text"),
        pytest.param(row(2, if_version=0), id="only for a version"),
        pytest.param(row(2, times=(1,)), id="a time after the frame's"),
        pytest.param(row(2, times=(0, 1), steps=(1, 2), columns=[(1.0, 2.0)] * 2), id="two rows"),
        pytest.param(Heartbeat(trial=ONE.uid, writer="w", seq=2, time=TIME), id="a heartbeat"),
    ],
)
def test_an_event_ends_the_group_of_its_trial(event):
    """An event other than an ordinary row ends the group of its trial, and rows of other trials stay in one group."""
    rows = [row(1), row(1, TWO), event, row(2, TWO), row(3)]

    assert row_groups(rows) == [[0], [2], [4], [1, 3]]


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(TagsAdded(trial=TWO.uid, writer="w", time=TIME, request="r", values={}), id="a request"),
        pytest.param(Heartbeat(trial=f"{ONE.hash}~r", writer="w", seq=1, time=TIME), id="an address"),
        pytest.param(ProjectCreated(project="p", name="p", writer="w", time=TIME, request="r"), id="a project"),
    ],
)
def test_an_event_ends_all_groups(event):
    """An event that may read or change any trial ends all groups."""
    assert row_groups([row(1), row(1, TWO), event, row(2), row(2, TWO)]) == [[0], [1], [2], [3], [4]]


def test_ordinary_rows_are_folded_together():
    """A group is folded at once after its first row, with the same result as one by one."""
    rows = [row(seq) for seq in range(1, 40)]
    together, one_by_one = state_with(), state_with()
    for each in rows:
        fold(one_by_one, each)

    assert not fold_rows(together, run(rows))
    fold(together, rows[0])
    assert fold_rows(together, run(rows[1:]))
    assert seen(together) == seen(one_by_one)
    assert together.trials[ONE.uid].rows == 39


@pytest.mark.parametrize(
    ("changes", "before"),
    [
        pytest.param({"seq": 5}, {}, id="a gap"),
        pytest.param({"seq": 2}, {}, id="a duplicate"),
        pytest.param({"columns": [(1.0,)]}, {}, id="a column too few"),
        pytest.param({"columns": [(1.0,), (1.0, 2.0)]}, {}, id="a column too long"),
        pytest.param({"steps": (1, 2)}, {}, id="a step too many"),
        pytest.param({"times": (2**62,)}, {}, id="a time outside the calendar"),
        pytest.param({"time": 2**63 - 1, "times": (1,)}, {}, id="a time beyond 64 bits"),
        pytest.param({"time": -(2**62)}, {}, id="a frame's time outside the calendar"),
        pytest.param({}, {"aggregator": StatAggregator.lazy()}, id="another aggregator before"),
        pytest.param({}, {"steps": (), "text_steps": ("a",)}, id="a text before"),
        pytest.param({}, {"names": ("loss", "other")}, id="a new name"),
    ],
)
def test_irregular_rows_are_left_to_fold(changes, before):
    """Irregular rows leave the state unchanged and are left to `fold`."""
    state = state_with(row(1, **before))
    expected = seen(copy.deepcopy(state))
    rows = run([row(2), replace(row(3), **changes), row(4)])

    assert rows is None or not fold_rows(state, rows)
    assert seen(state) == expected


def test_unknown_trials_and_writers_are_left_to_fold():
    """Rows of unknown trials and writers are left to `fold`, which refuses an unknown trial with a reason."""
    nowhere = Trial(name="nowhere")
    rows = [row(2, nowhere), row(3, nowhere)]

    assert not fold_rows(state_with(row(1)), run([row(1, writer="no writer"), row(2, writer="no writer")]))
    assert not fold_rows(state_with(row(1)), run(rows))
    assert fold_groups(state_with(), rows, [[0, 1]]) == [(n, f"there is no trial {nowhere.uid!r}") for n in (0, 1)]


def test_columns_may_be_arrays_or_lists():
    """Columns may be lists, as in a frame decoded with the schema of another version."""
    rows = [row(seq) for seq in (2, 3)]
    others = [replace(each, columns=[array("d", c) for c in each.columns], steps=list(each.steps)) for each in rows]
    one, other = state_with(row(1)), state_with(row(1))

    assert fold_rows(one, run(rows))
    assert fold_rows(other, run(others))
    assert seen(one) == seen(other)


def decoded_rows(*more):
    """Return 16 rows of each trial in turn with events after the tenth, and the same decoded together."""
    rows = [row(seq, trial) for seq in range(2, 18) for trial in (ONE, TWO)]
    rows[20:20] = more
    decoded = SchemaStore().decode_all([encode(each) for each in rows])
    assert [type(each) for each in decoded] == [RowRun] * 20 + list(map(type, more)) + [RowRun] * 12
    return rows, decoded


def test_rows_that_were_decoded_together_have_the_groups_of_frames():
    """Runs are in the groups in which their frames would be, cut by another event of their trial."""
    rows, decoded = decoded_rows(Heartbeat(trial=ONE.uid, writer="v", seq=1, time=TIME))

    assert row_groups(decoded) == row_groups(rows)
    assert sorted(map(len, row_groups(decoded))) == [1, 6, 10, 16]


def test_a_record_of_a_run_that_is_not_folded_leaves_a_gap():
    """A record that is left out of a run, because it cannot be folded, counts as a lost event."""
    rows, decoded = decoded_rows()
    decoded[10] = None
    rows[10] = None
    together, one_by_one = (state_with(row(1), row(1, TWO)) for _ in range(2))

    assert fold_groups(together, decoded, row_groups(decoded)) == []
    assert fold_groups(one_by_one, rows, single_groups(rows)) == []
    assert seen(together) == seen(one_by_one)
    assert together.trials[ONE.uid].lost_events == 1


def test_a_fault_names_the_group_that_caused_it(monkeypatch):
    """A fault names the group that caused it, so that the caller can fold the batch one by one."""
    monkeypatch.setattr(batch, "fold_rows", lambda *_: 1 / 0)

    with pytest.raises(FoldFault, match="division by zero") as caught:
        fold_groups(state_with(row(1)), [row(2, TWO), row(2), row(3)], [[0], [1, 2]])

    assert caught.value.group == [1, 2]
