"""Checks of the objects that creations take: values that a creation does not carry are refused with their field."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from datetime import UTC, datetime

import pytest
from trialstream.kafka import commands
from trialstream.kafka.creations import new_group, new_project, new_trial, request_of_run
from trialstream.reading.checks import definition
from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.model.aggregators import StatAggregator, TimeSeriesAggregator
from trialstream_schemas.model.attempts import FormerParticipant, Participant, TrialAttempt
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.trial import OwnHash, Project, Trial, TrialError, TrialGroup
from trialstream_schemas.wire import events as e

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
# Values that a user may give for each field of a trial, and for those that a creation carries.
CARRIED = {
    "name": "t", "version": "1", "parameters": {"lr": 0.1}, "project_id": "p", "group_id": "g", "description": "d",
    "metadata": {"a": 1}, "tags": {"b": 2}, "status": CustomStatus("Queued", 7),
}  # fmt: skip
REFUSED = {
    "hash": "0" * 32, "revision": 2, "request": "0" * 24, "metrics": {"loss": TimeSeriesAggregator()},
    "chronos": {"epoch": StatAggregator()}, "open_chronos": {"epoch": 1}, "failed_chronos": {"epoch": 1},
    "errors": [TrialError("ValueError", "no", "", NOON)], "errors_dropped": 1, "starts": 1, "created": NOON,
    "started": NOON, "finished": NOON, "last_seen": NOON, "writers": {"w": 1}, "lost_events": 1, "state_version": 1,
    "rows": 1, "size": 1, "attempts": [TrialAttempt("k", 1, NOON)],
    "participants": {"w": Participant(1, 0, "", NOON, NOON)}, "former_participants": {"w": FormerParticipant(1, 0)},
}  # fmt: skip


def test_every_field_is_carried_or_refused():
    """Each field of a trial is part of its creation, or the creation refuses it."""
    assert set(CARRIED) | set(REFUSED) == {each.name for each in dataclasses.fields(Trial)}
    assert set(CARRIED) | {"trial", "writer", "time", "seq", "request", "if_version", "auto_increment"} == {
        each.name for each in dataclasses.fields(e.TrialCreated)
    }


def test_a_creation_has_every_field_that_is_carried():
    """The creation of a trial has its name, version, parameters, project, group, description, values and status."""
    event = commands.create_trial("w", new_trial(Trial(**CARRIED)), auto_increment=False)

    status = CARRIED["status"]
    assert {name: getattr(event, name) for name in CARRIED} == {
        **CARRIED, "status": e.StatusRecord(status.name, status.value)
    }  # fmt: skip


@pytest.mark.parametrize("status", [None, Status.CreatedGroup])
def test_the_default_status_is_not_written(status):
    """A creation with the default status is that of earlier releases."""
    event = commands.create_trial("w", new_trial(Trial(name="t", status=status)), auto_increment=False)

    assert event.status is None


@pytest.mark.parametrize("field", REFUSED)
def test_a_value_that_a_creation_of_a_trial_does_not_carry(field):
    """A value that a user has given to a field that the log decides is refused; the message names the field."""
    trial = Trial(name="t", **{field: REFUSED[field]})

    with pytest.raises(InvalidValue, match=rf"^Trial\.{field}: expected no .* in a new .*, got .*: "):
        new_trial(trial)
    with pytest.raises(InvalidValue, match=rf"^Trial\.{field}: expected no .* in a new .*, got .*: "):
        new_trial(dataclasses.replace(Trial(name="t"), **{field: REFUSED[field]}))


@pytest.mark.parametrize(
    ("given", "field"),
    [
        pytest.param(Project(name="p", groups=["g"]), "Project.groups", id="groups of a project"),
        pytest.param(Project(name="p", trials=["t"]), "Project.trials", id="trials of a project"),
        pytest.param(TrialGroup(name="g", trials=["t"]), "TrialGroup.trials", id="trials of a group"),
        pytest.param(TrialGroup(name="g", state_version=1), "TrialGroup.state_version", id="version of a group"),
        pytest.param(TrialGroup(name="g", writers={"w": 1}), "TrialGroup.writers", id="writers of a group"),
        pytest.param(TrialGroup(name="g", lost_events=1), "TrialGroup.lost_events", id="lost events of a group"),
    ],
)
def test_a_value_that_a_creation_of_a_group_or_project_does_not_carry(given, field):
    """A value that the log decides is refused in a new group or project; the message names the field."""
    check = new_project if isinstance(given, Project) else new_group

    with pytest.raises(InvalidValue, match=rf"^{field}: expected no value in a new .*, got .*: leave it out"):
        check(given)
    fetched = dataclasses.replace(given, created=NOON)
    assert check(fetched) == type(given)(name=given.name)


@pytest.mark.parametrize("field", ["metrics", "errors", "starts", "writers", "size"])
def test_none_is_no_value(field):
    """None in a field that a creation does not carry means that no value is given."""
    assert new_trial(Trial(name="t", **{field: None})) == Trial(name="t")


@pytest.mark.parametrize(
    ("field", "method"),
    [("metrics", "log_trial_metrics"), ("errors", "set_trial_status"), ("started", "log_trial_start")],
)
def test_the_message_names_the_method_that_logs_a_value(field, method):
    """The message about a value that can be logged names the method."""
    with pytest.raises(InvalidValue, match=f"log it with {method} after the creation$"):
        new_trial(Trial(name="t", **{field: REFUSED[field]}))


@pytest.mark.parametrize("status", ["Running", 101, ("Running", 101)])
def test_a_status_of_another_type(status):
    """A status that is neither a Status nor a CustomStatus is refused, when the trial is made and at its creation."""
    with pytest.raises(InvalidType, match=r"^Trial\.status: expected a Status or a CustomStatus, got "):
        Trial(name="t", status=status)
    trial = Trial(name="t")
    trial.status = status
    with pytest.raises(InvalidType, match=r"^Trial\.status: "):
        new_trial(trial)


def test_a_returned_trial_is_created_again():
    """A trial that a call has returned gives its definition to the next revision, and nothing that was logged."""
    first = Trial(
        **{**CARRIED, "metadata": {"a": 1, "b": StatAggregator()}, "hash": "0" * 32, "created": NOON},
        **{field: REFUSED[field] for field in REFUSED.keys() - {"hash", "created"}},
    )
    again = new_trial(first)

    assert again == Trial(**{**CARRIED, "status": None, "hash": "0" * 32})
    assert new_trial(pickle.loads(pickle.dumps(first))) == again


def test_the_values_of_a_returned_trial_are_checked():
    """A value that was put into a returned trial is checked like that of a new one."""
    first = Trial(name="t", hash="0" * 32, created=NOON, tags={"a": object()})

    with pytest.raises(InvalidType, match=r"^Trial\.tags\.a: "):
        new_trial(first)


# --- The hash of a new trial


def test_a_changed_trial_is_hashed_again():
    """A new trial may be changed before its creation, in place and by `replace`."""
    wanted = Trial(name="t", parameters={"lr": 0.2}).hash
    trial = Trial(name="t", parameters={"lr": 0.1})
    replaced = dataclasses.replace(trial, parameters={"lr": 0.2})
    trial.parameters["lr"] = 0.2

    for each in (trial, replaced, copy.deepcopy(trial), pickle.loads(pickle.dumps(trial))):
        assert new_trial(each).hash == definition(each).hash == wanted


def test_a_hash_that_was_passed():
    """A hash that is passed to a new trial must be that of its definition, in creations and in `get_trial`."""
    trial = Trial(name="t")
    same = Trial(name="t", hash=str(trial.hash))
    other = Trial(name="u", hash=str(trial.hash))

    assert new_trial(same) == definition(same) == trial
    for check in (new_trial, definition):
        with pytest.raises(InvalidValue, match=r"^Trial\.hash: expected no hash in a new trial, got .*leave it out"):
            check(other)


def test_the_hash_of_a_new_trial_is_a_text():
    """The hash that a trial computes is a text in every respect, and `str` returns it as a plain one."""
    found = Trial(name="t").hash

    assert type(found) is OwnHash
    assert type(str(found)) is str
    assert (found, hash(found), repr(found)) == (str(found), hash(str(found)), repr(str(found)))


def test_a_run_has_one_request_for_each_definition():
    """The request of a run depends on the id of the run and on the definition, and on nothing else."""
    one, same, other = Trial(name="t"), Trial(name="t", tags={"rank": 1}), Trial(name="t", version="2")
    requests = [request_of_run(*each) for each in (("r", one), ("r", same), ("r", other), ("s", one))]

    assert requests[0] == requests[1]
    assert len(set(requests)) == 3
    assert all(len(each) == 32 and int(each, 16) for each in requests)


@pytest.mark.parametrize(
    ("run_id", "error", "message"),
    [
        ("", InvalidValue, "run_id: expected 1 to 200 characters, got 0"),
        ("x" * 201, InvalidValue, "run_id: expected 1 to 200 characters, got 201"),
        ("\ud800", InvalidValue, "run_id: .*surrogate"),
        (7, InvalidType, "run_id: expected a str or None, got int"),
    ],
    ids=["empty", "too long", "surrogate", "int"],
)
def test_a_wrong_run_id_is_refused(run_id, error, message):
    """The id of a run is a text of 1 to 200 characters."""
    with pytest.raises(error, match=message):
        request_of_run(run_id, Trial(name="t"))
