"""The events of the log that an export keeps."""

from __future__ import annotations

from trialstream_consumer.archive import Members, Selection
from trialstream_schemas.wire.events import (
    GroupCreated,
    GroupMetadataSet,
    LogCreated,
    MetadataLogged,
    ProjectCreated,
    TrialAttached,
    TrialCreated,
    TrialStarted,
    TrialUpdated,
)

A, B = "a" * 32, "b" * 32


def created(hash_, request, **given):
    """Return the creation of a trial by a request."""
    return TrialCreated(
        trial=hash_, writer="w", time=0, request=request, name="t", parameters={}, auto_increment=True, **given
    )


def started(address, seq=1, attempt=None):
    """Return the start of a trial, or of an attempt of it."""
    return TrialStarted(trial=address, writer="w", time=0, seq=seq, attempt=attempt)


def updated(address, *updates):
    """Return the claim of a trial, with updates."""
    return TrialUpdated(trial=address, writer="w", time=0, request=f"claim {len(updates)}", updates=list(updates))


def attached(address, seq=1, **given):
    """Return the attachment of a trial to a project or group."""
    return TrialAttached(trial=address, writer="w", time=0, seq=seq, **given)


def project(name):
    """Return the creation of a project."""
    return ProjectCreated(project=name, writer="w", time=0, request=f"project {name}", name=name)


def group(uid, project_id=None):
    """Return the creation of a group."""
    return GroupCreated(group=uid, writer="w", time=0, request=f"group {uid}", name=uid, project_id=project_id)


def metadata(uid):
    """Return metadata of a group."""
    return GroupMetadataSet(group=uid, writer="w", time=0, seq=1, values={})


def kept(log, **given):
    """Return the events that a selection keeps of a log whose events have the timestamps 0, 1, 2 … ms."""
    members = Members(Selection(**given))
    for time, event in enumerate(log):
        members.add(event, time)
    members.settle()
    return [event for time, event in enumerate(log) if members.keeps(event, time)]


def test_a_project_keeps_its_registry_and_all_of_its_trials_from_before_they_were_attached():
    """A project is kept with its registry events and all events of its trials, also those before they were attached."""
    log = [
        begin := LogCreated(time=0, log="l", partitions=1),
        p := project("p"),
        project("q"),
        g := group("g", "p"),
        group("h", "q"),
        note := metadata("g"),
        metadata("h"),
        a := created(A, "1"),
        a1 := started(f"{A}_0"),
        a2 := attached(f"{A}_0", seq=2, project_id="p"),
        created(B, "2", project_id="q"),
        started(f"{B}_0"),
    ]

    assert kept(log, project="p") == [begin, p, g, note, a, a1, a2]


def test_a_trial_of_a_group_belongs_to_the_groups_project():
    """A trial of a group belongs to the group's project, even if the trial does not name the project itself."""
    log = [p := project("p"), g := group("g", "p"), a := created(A, "1", group_id="g"), created(B, "2")]

    assert kept(log, project="p") == [p, g, a]


def test_a_trial_keeps_its_project_and_group_and_the_groups_project():
    """A trial is kept with its project, its group and the group's project, so that an empty log can import it."""
    log = [
        p := project("p"),
        q := project("q"),
        project("r"),
        g := group("g", "q"),
        group("h", "p"),
        a := created(A, "1", project_id="p"),
        a1 := attached(f"{A}_0", group_id="g"),
        created(B, "2"),
    ]

    assert kept(log, trial=f"{A}_0") == [p, q, g, a, a1]


def test_a_uid_keeps_one_revision_and_every_creation_of_its_hash():
    """A uid keeps one revision and all creations of its hash, since the fold numbers revisions by creations."""
    log = [
        first := created(A, "1"),
        second := created(A, "2"),
        of_first := started(f"{A}_0"),
        of_second := started(f"{A}_1"),
    ]

    assert kept(log, trial=f"{A}_1") == [first, second, of_second]
    assert kept(log, trial=A) == [first, second, of_first, of_second]


def test_an_event_addressed_by_a_request_belongs_to_the_trial_that_the_request_created():
    """An event addressed by a request belongs to the trial that the request created, as in the fold."""
    log = [first := created(A, "1"), second := created(A, "2"), event := started(f"{A}~2"), started(f"{A}~1")]

    assert kept(log, trial=f"{A}_1") == [first, second, event]


def test_a_window_keeps_the_creation_and_attachments_of_the_trials_that_have_events_in_it():
    """A time window keeps creation, attachments and attempts of trials with events in it, and no events after it."""
    log = [
        p := project("p"),
        a := created(A, "1"),
        created(B, "2"),
        a1 := attached(f"{A}_0", project_id="p"),
        started(f"{A}_0", seq=2),
        a3 := started(f"{A}_0", seq=3, attempt="job"),
        a4 := updated(f"{A}_0", started(f"{A}_0", seq=0, attempt="job/1")),
        updated(f"{A}_0", started(f"{A}_0", seq=0)),
        started(f"{B}_0", attempt="job"),
        a5 := started(f"{A}_0", seq=4),
        None,
        started(f"{A}_0", seq=5, attempt="job"),
    ]

    assert kept(log, since=9, until=11) == [p, a, a1, a3, a4, a5, None]


def test_an_undecodable_record_belongs_to_no_project_and_no_trial():
    """A record that cannot be decoded is kept by an export by time alone, not by one of a project or trial."""
    log = [created(A, "1", project_id="p"), None]

    assert None not in kept(log, project="p")
    assert None not in kept(log, trial=A)
    assert None in kept(log, since=0)


def test_an_event_of_a_trial_that_was_never_created_belongs_to_no_project():
    """An event of a trial without a creation is kept by an export by time alone, not by one of a project."""
    log = [event := MetadataLogged(trial=f"{A}~1", writer="w", time=0, seq=1, values={}, aggregator=None)]

    assert kept(log, since=0) == [event]
    assert kept(log, project="p") == []
