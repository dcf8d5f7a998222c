"""The event of a claim: each update is checked at the call, and several are joined to one event."""

from __future__ import annotations

import math

import numpy as np
import pytest
import trialstream as ts
from trialstream.arguments import MAPPING_ADVICE
from trialstream.kafka import commands
from trialstream.kafka.claim_events import claim_event
from trialstream.kafka.rows import RowChecks
from trialstream_schemas.errors import InvalidType, InvalidValue, QueryError
from trialstream_schemas.model.values import MAX_VALUE_BYTES
from trialstream_schemas.wire.codec import SchemaStore, encode
from trialstream_schemas.wire.events import (
    PARTS,
    GroupMetadataSet,
    MetricsLogged,
    StatusSet,
    TagsAdded,
    TrialStarted,
    TrialUpdated,
    updates_of,
)
from trialstream_schemas.wire.limits import MAX_EVENT_BYTES

UPDATES = RowChecks(lambda _: None).updates
RUNNING = ts.update("set_trial_status", ts.Status.Running)


def trial_claim(attr=None, *args, **kwargs):
    """Return the event of a claim of a trial."""
    return claim_event(UPDATES, "w", attr, args, kwargs)


def group_claim(attr=None, *args, **kwargs):
    """Return the event of a claim of a group."""
    return claim_event(commands.GROUP_UPDATES, "w", attr, args, kwargs)


def test_an_update_is_a_plain_value():
    """An update keeps the name and the arguments, of any names, and equals another one of the same call."""
    update = ts.update("add_trial_tags", {"a": 1}, attr=2, self=3)

    assert (update.attr, update.args, update.kwargs) == ("add_trial_tags", ({"a": 1},), {"attr": 2, "self": 3})
    assert update == ts.update("add_trial_tags", {"a": 1}, attr=2, self=3)


@pytest.mark.parametrize("name", UPDATES)
def test_every_update_can_be_one_of_several(name):
    """Each update that can claim a trial can be one of several, and the event is restored from the wire."""
    args = (ts.Status.Running,) if name == "set_trial_status" else ()
    kwargs = {"a": 1} if name.endswith(("arguments", "metadata", "metrics", "tags")) else {}
    event = trial_claim(updates=[ts.update(name, *args, **kwargs), ts.update("log_trial_start")])
    read = SchemaStore().decode(encode(event))

    assert isinstance(event, TrialUpdated)
    assert [type(each) for each in read.updates] == [type(UPDATES[name]("w", "", *args, **kwargs)), TrialStarted]
    assert all(isinstance(each, PARTS) for each in read.updates)
    assert {(each.writer, each.seq, each.request, each.if_version) for each in read.updates} == {("w", 0, None, None)}


def test_updates_keep_their_order_and_arguments():
    """The updates are in the order of the list, with the arguments of each."""
    event = trial_claim(
        updates=[
            RUNNING,
            ts.update("log_trial_metrics", step=3, loss=0.1),
            ts.update("add_trial_tags", {"updates": 1}, attr=2),
            ts.update("set_trial_status", ts.Status.Suspended, "why"),
        ]
    )
    first, row, tags, last = event.updates

    assert (first.status.name, last.status.name, last.error.message) == ("Running", "Suspended", "why")
    assert (row.names, row.steps, row.columns, row.times) == (("loss",), (3,), [(0.1,)], (0,))
    assert row.aggregator == ts.timeseries_aggregator
    assert tags.values == {"updates": 1, "attr": 2}


@pytest.mark.parametrize(
    ("step", "steps"),
    [
        pytest.param(None, ((), (), ()), id="no step"),
        pytest.param(3, ((3,), (), ()), id="an int"),
        pytest.param(np.int64(3), ((3,), (), ()), id="a numpy int"),
        pytest.param(0.5, ((), (0.5,), ()), id="a float"),
        pytest.param("one", ((), (), ("one",)), id="a text"),
    ],
)
def test_the_step_of_a_row(step, steps):
    """A row in a claim has the step of its type."""
    [row] = trial_claim("log_trial_metrics", step=step, loss=np.float32(0.5)).updates

    assert (row.steps, row.float_steps, row.text_steps) == steps
    assert row.columns == [(0.5,)]


def test_one_update_is_its_own_event():
    """A list of one update is the same event as the update alone; metrics count in the version in a `TrialUpdated`."""
    assert isinstance(trial_claim(updates=[RUNNING]), StatusSet)
    assert isinstance(trial_claim("set_trial_status", ts.Status.Running), StatusSet)
    for event in (
        trial_claim("log_trial_metrics", loss=1),
        trial_claim(updates=(ts.update("log_trial_metrics", a=1),)),
    ):
        assert isinstance(event, TrialUpdated)
        assert [type(each) for each in updates_of(event)] == [MetricsLogged]


def test_a_row_without_values_logs_nothing():
    """A row without values is no update, as it logs nothing alone."""
    event = trial_claim(updates=[RUNNING, ts.update("log_trial_metrics", step=1), ts.update("add_trial_tags", a=1)])

    assert [type(each) for each in event.updates] == [StatusSet, TagsAdded]
    assert trial_claim("log_trial_metrics", step=1).updates == []


def test_updates_of_a_group_become_one():
    """Several updates of a group are one event with the values of all, the last of each name."""
    event = group_claim(updates=[ts.update("set_group_metadata", a=1, b=1), ts.update("set_group_metadata", {"b": 2})])

    assert isinstance(event, GroupMetadataSet)
    assert event.values == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("update", "error", "reason"),
    [
        pytest.param(ts.update("new_trial"), QueryError, "attr: expected one of .*, got 'new_trial'", id="no update"),
        pytest.param(ts.update(3), QueryError, "attr: expected one of .*, got 3", id="no name"),
        pytest.param(ts.update("log_trial_start", 1), TypeError, "log_trial_start: too many positional", id="too many"),
        pytest.param(ts.update("set_trial_status"), TypeError, "set_trial_status: missing a required", id="too few"),
        pytest.param(ts.update("set_trial_status", "Running"), InvalidType, "status: expected a Status", id="a type"),
        pytest.param(ts.update("log_trial_metrics", loss="x"), InvalidType, "metric 'loss': expected", id="a metric"),
        pytest.param(ts.update("log_trial_metrics", step=math.nan), InvalidValue, "step: expected a fin", id="a step"),
        pytest.param(ts.update("add_trial_tags", a=2**63), InvalidValue, r"tags\.a: expected", id="a value"),
        pytest.param(ts.update("add_trial_tags", {"a": 1}, a=1), InvalidValue, r"tags\.a: expected one", id="twice"),
        pytest.param(
            *(ts.update("add_trial_tags", trial=1), TypeError),
            f"add_trial_tags: multiple values for argument 'trial'; {MAPPING_ADVICE}$",
            id="the name of a parameter",
        ),
        pytest.param("log_trial_start", InvalidType, r"expected a trialstream\.update\(\.\.\.\), got str", id="a text"),
        pytest.param(("add_trial_tags", {}), InvalidType, r"expected .*, got tuple", id="a tuple"),
    ],
)
def test_a_wrong_update_is_named(update, error, reason):
    """A wrong update is the error of the method, with the number of the update."""
    with pytest.raises(error, match=rf"^updates\[1\]: {reason}"):
        trial_claim(updates=[RUNNING, update])


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "reason"),
    [
        pytest.param((), {}, QueryError, "^attr: expected one of .*, got None", id="nothing"),
        pytest.param((), {"updates": []}, InvalidValue, "^updates: expected at least one", id="no updates"),
        pytest.param((), {"updates": RUNNING}, InvalidType, "^updates: expected a list .* got Update", id="an update"),
        pytest.param((), {"updates": "log_trial_start"}, InvalidType, r"^updates\[0\]: .* got str", id="a text"),
        pytest.param((), {"updates": None}, InvalidType, "^updates: .* got NoneType", id="None"),
        pytest.param((), {"updates": {RUNNING.attr: 1}}, InvalidType, "^updates: .* got dict", id="a dict"),
        pytest.param((), {"updates": [RUNNING], "a": 1}, InvalidType, "^updates: expected no other", id="more"),
        pytest.param((None, 1), {"updates": [RUNNING]}, InvalidType, "^updates: expected no other", id="positional"),
        pytest.param(("log_trial_start",), {"updates": [RUNNING]}, TypeError, "^log_trial_start: .*updates", id="both"),
    ],
)
def test_a_wrong_list_of_updates(args, kwargs, error, reason):
    """A claim has the name of one update, or a list of updates and no other argument."""
    with pytest.raises(error, match=reason):
        trial_claim(*args, **kwargs)


def test_updates_is_a_value_like_any_other_of_a_single_update():
    """With the name of an update, a keyword `updates` is a value of that update."""
    assert trial_claim("add_trial_tags", updates=3).values == {"updates": 3}
    assert group_claim("set_group_metadata", {"query": 1}, updates=[1]).values == {"query": 1, "updates": [1]}


def test_updates_too_large_for_one_event_are_refused():
    """Updates that are small enough each are an error if they do not fit one event, and the largest ones do fit."""
    half = "x" * (MAX_VALUE_BYTES - 1000)
    assert 2 * len(half) > MAX_EVENT_BYTES
    for claim, name in ((trial_claim, "add_trial_tags"), (group_claim, "set_group_metadata")):
        with pytest.raises(InvalidValue, match=r"^updates: expected at most 786432 bytes in one claim, got 1\d{6}$"):
            claim(updates=[ts.update(name, a=half), ts.update(name, b=half)])
    event = trial_claim(updates=[ts.update("add_trial_tags", a=half)] + [ts.update("log_trial_start")] * 1000)

    assert len(encode(event)) <= MAX_EVENT_BYTES
    with pytest.raises(InvalidValue, match=r"^updates: expected at most"):
        trial_claim(updates=[ts.update("log_trial_start")] * 6000)


def test_an_integer_that_loses_digits():
    """An integer of a claim that loses digits as a double is warned of once, by name."""
    warnings = []
    updates = RowChecks(warnings.append).updates
    large = 2**53 + 1
    rows = [
        ts.update("log_trial_metrics", loss=large),
        ts.update("log_trial_metadata", ts.timeseries_aggregator, loss=large),
    ]
    claim_event(updates, "w", None, (), {"updates": rows})

    assert [each.split(":")[1] for each in warnings] == [" metric 'loss'", " metadata.loss"]
