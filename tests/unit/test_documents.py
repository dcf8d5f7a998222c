"""Projects, groups and trials as MongoDB documents and back; the property tests have arbitrary ones."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import bson
import pytest
from trialstream_schemas.model.aggregators import RingAggregator, StatAggregator, TimeSeriesAggregator
from trialstream_schemas.model.attempts import FormerParticipant, Participant, TrialAttempt
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.trial import Project, Trial, TrialError, TrialGroup
from trialstream_schemas.storage import documents

NOON = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
MICROS = 1795435200123456


def full_trial():
    """Return a trial with a value in every field."""
    loss, epoch, last = TimeSeriesAggregator(), StatAggregator(1), RingAggregator(2)
    loss.extend([0.5, 0.25], 2)
    epoch.extend([9.0, 1.0])
    last.extend(["a", {"b.c": 1}])
    return Trial(
        name="mlp", version="1", hash="0" * 32, revision=3, description="d", project_id="p", group_id="g",
        parameters={"lr": 0.1, "a.b": {"$x": None}}, metadata={"plain": 1, "last": last}, tags={"": [True]},
        metrics={"loss": loss}, chronos={"epoch": epoch}, open_chronos={"a.b": 1}, failed_chronos={"epoch": 2},
        status=Status.Completed, errors=[TrialError("ValueError", "m", "t", NOON)], errors_dropped=4, starts=2,
        created=NOON, started=NOON, finished=NOON, last_seen=NOON, writers={"w": 5}, lost_events=1, state_version=7,
        rows=2, size=2000, attempts=[TrialAttempt("job", 1, NOON), TrialAttempt("job/2", 2, NOON, 5, 2)],
        participants={"w": Participant(2, 0, "node", NOON, NOON, Status.Exception, "ValueError: m")},
        former_participants={"v": FormerParticipant(1, None)},
    )  # fmt: skip


def test_trial_document():
    """The document of a trial has the names and forms that queries use."""
    document = documents.trial_to_document(full_trial())

    assert document["_id"] == "0" * 32 + "_3"
    assert document["status"] == {"name": "Completed", "code": 302}
    assert document["created"] == document["started"] == document["finished"] == document["last_seen"] == MICROS
    assert document["parameters"] == {"lr": 0.1, "a%2Eb": {"%24x": None}}
    assert document["metadata"]["plain"] == 1
    assert document["metadata"]["last"]["last"] == {"b%2Ec": 1}
    assert document["tags"] == {"%": [True]}
    assert document["metrics"]["loss"]["last"] == 0.25
    assert document["metrics"]["loss"]["last_step"] == 2
    assert document["chronos"]["epoch"]["avg"] == document["chronos"]["epoch"]["last"] == 1.0
    assert document["chronos"]["epoch"]["skipped"] == [9.0]
    assert document["open_chronos"] == {"a%2Eb": 1}
    assert document["errors"] == [{"type": "ValueError", "message": "m", "traceback": "t", "time": MICROS}]
    assert document["attempts"][1] == {"key": "job/2", "started": MICROS, "resume_step": 5, "world_size": 2}
    assert document["participants"]["w"] == {
        "attempt": 2, "rank": 0, "host": "node", "joined": MICROS, "last_seen": MICROS, "status": "Exception",
        "error": "ValueError: m",
    }  # fmt: skip
    assert document["former_participants"] == {"v": [1, None]}


def test_trial_document_has_every_field():
    """Every field of a trial is in its document, except `request`: a stored trial has a revision."""
    fields = set(vars(full_trial())) - {"request"}

    assert set(documents.trial_to_document(full_trial())) == fields | {"_id"}


def test_document_without_attempts_is_that_of_earlier_versions():
    """The document of a trial without attempts has no field of attempts, and is read without them."""
    document = documents.trial_to_document(Trial(name="t"))

    assert not {"attempts", "participants", "former_participants"} & document.keys()
    assert documents.trial_from_document(document).participants == {}


@pytest.mark.parametrize(
    ("structure", "to_document", "from_document"),
    [
        pytest.param(full_trial(), documents.trial_to_document, documents.trial_from_document, id="full trial"),
        pytest.param(
            Trial(name="t", status=Status.CreatedGroup),
            documents.trial_to_document, documents.trial_from_document, id="new trial",
        ),
        pytest.param(
            TrialGroup(name="g", project_id="p", metadata={"a.b": 1}, created=NOON, writers={"w": 1}, state_version=1),
            documents.group_to_document, documents.group_from_document, id="group",
        ),
        pytest.param(
            Project(name="p.$", metadata={"a.b": [b"\0"]}, tags={"": 1}, created=NOON),
            documents.project_to_document, documents.project_from_document, id="project",
        ),
    ],
)  # fmt: skip
def test_structure_comes_back(structure, to_document, from_document):
    """The document of an object restores it, through BSON, and the restored object has the same document."""
    document = bson.decode(bson.encode(to_document(structure)))

    assert from_document(document) == structure
    assert to_document(from_document(document)) == document


@pytest.mark.parametrize(
    "status",
    [
        *(pytest.param(each, id=each.name) for each in Status),
        pytest.param(CustomStatus("Paused", 150), id="custom"),
        pytest.param(CustomStatus("", 0), id="custom without a name"),
        pytest.param(CustomStatus("Large", 2**40), id="custom beyond 32 bits"),
    ],
)
def test_status_comes_back(status):
    """The document of a trial restores every status, also the one whose code is 0."""
    trial = Trial(name="t", status=status)
    document = bson.decode(bson.encode(documents.trial_to_document(trial)))

    assert documents.trial_from_document(document).status == status


def test_document_without_a_status():
    """Null, which earlier versions stored for trials without a status, is CreatedGroup; None is a status not read."""
    document = {**documents.trial_to_document(full_trial()), "status": None}
    unread = {key: each for key, each in document.items() if key != "status"}

    assert documents.trial_from_document(document).status is Status.CreatedGroup
    assert documents.partial_trial_from_document(document).status is Status.CreatedGroup
    assert documents.partial_trial_from_document(unread).status is None


def test_user_dict_is_no_aggregator():
    """Metadata that looks like the document of an aggregator is restored as a dict."""
    trial = Trial(name="t", metadata={"a": {"%kind": "stat", "argument": 0}})

    assert documents.trial_from_document(documents.trial_to_document(trial)).metadata == trial.metadata


DEFAULTS = Trial(name="mlp", hash="0" * 32, revision=3)


@pytest.mark.parametrize(
    "field", sorted(set(documents.trial_to_document(DEFAULTS)) - {"_id", "hash", "revision", "name"})
)
def test_partial_trial(field):
    """A trial of a document that has the identity and one more field has that field and defaults, and its uid."""
    document = documents.trial_to_document(full_trial())
    kept = documents.partial_trial_from_document({key: document[key] for key in ("hash", "revision", "name", field)})

    assert kept == dataclasses.replace(DEFAULTS, **{field: getattr(full_trial(), field)})
    assert kept.uid == full_trial().uid


def test_partial_objects_share_nothing():
    """The defaults of partial objects are objects of their own."""
    identity = {"hash": "0" * 32, "revision": 3, "name": "mlp"}
    documents.partial_trial_from_document(identity).tags["a"] = 1
    documents.partial_trial_from_document(identity).errors.append("a")
    documents.partial_group_from_document({"name": "g", "project_id": None}).writers["a"] = 1
    documents.partial_project_from_document({"name": "p"}).metadata["a"] = 1

    assert documents.partial_trial_from_document(identity) == DEFAULTS
    assert documents.partial_group_from_document({"name": "g", "project_id": None}) == TrialGroup(name="g")
    assert documents.partial_project_from_document({"name": "p"}) == Project(name="p")


def test_partial_groups_and_projects():
    """Groups and projects of documents that lack fields have the defaults of these, and their uids."""
    group = TrialGroup(name="g", project_id="p", description="d", tags={"a": 1}, created=NOON)
    project = Project(name="p", description="d", metadata={"a.b": 1}, created=NOON)

    found = documents.partial_group_from_document({"name": "g", "project_id": "p", "tags": {"a": 1}})
    assert found == TrialGroup(name="g", project_id="p", tags={"a": 1})
    assert found.uid == group.uid
    found = documents.partial_project_from_document({"name": "p", "metadata": {"a%2Eb": 1}})
    assert found == Project(name="p", metadata={"a.b": 1})
    for each, to, partial in (
        (group, documents.group_to_document, documents.partial_group_from_document),
        (project, documents.project_to_document, documents.partial_project_from_document),
        (full_trial(), documents.trial_to_document, documents.partial_trial_from_document),
    ):
        assert partial(to(each)) == each
