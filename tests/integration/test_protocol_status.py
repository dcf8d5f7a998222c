"""The status of a trial from its creation to its end, and what the creation of an object carries."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
import trialstream as ts
from contract import again, connected

QUEUED = ts.CustomStatus("Queued by ops.", 7)

# --- The status at creation


@pytest.mark.parametrize("status", [*ts.Status, QUEUED], ids=lambda each: each.name)
async def test_a_trial_is_created_with_a_status(protocol, name, status):
    """A trial has its status from the first moment, is found by it, and has neither started nor finished."""
    trial = await protocol.new_trial(ts.Trial(name=name, status=status))
    found = await protocol.fetch_trials({"name": name, "status": status})

    assert found == [trial]
    assert (trial.status, trial.state_version, trial.writers) == (status, 0, {})
    assert (trial.starts, trial.started, trial.finished, trial.chronos) == (0, None, None, {})
    assert trial.last_seen == trial.created


async def test_a_new_trial_has_the_status_created_group(protocol, trial, name):
    """A trial that is created without a status has `CreatedGroup`, and every query for it finds the trial."""
    await protocol.new_trial(ts.Trial(name=name, version="2", status=ts.Status.Running))

    assert trial.status is ts.Status.CreatedGroup
    for status in (ts.Status.CreatedGroup, "CreatedGroup", "createdgroup", None, [ts.Status.CreatedGroup, "Broken"]):
        assert await protocol.fetch_trials({"name": name, "status": status}) == [trial]
    assert await protocol.fetch_trials({"name": name, "status.code": 0}) == [trial]
    assert trial not in await protocol.fetch_trials({"name": name, "status": {"$ne": None}})


@pytest.mark.parametrize("status", [ts.Status.CreatedGroup, None, QUEUED], ids=["its name", "None", "a custom one"])
async def test_a_new_trial_is_claimed_by_its_status(protocol, name, status):
    """A claim takes a trial by the status of its creation, once."""
    trial = await protocol.new_trial(ts.Trial(name=name, status=status))
    claimed = await protocol.fetch_and_update_trial({"name": name, "status": status}, "log_trial_start")

    assert (claimed.uid, claimed.status) == (trial.uid, ts.Status.Running)
    with pytest.raises(ts.ItemNotFound):
        await protocol.fetch_and_update_trial({"name": name, "status": status}, "log_trial_start")


async def test_the_status_of_an_existing_trial(protocol, name):
    """The status is no part of the identity: it changes nothing if the trial exists, and is that of a new revision."""
    first = await protocol.new_trial(ts.Trial(name=name))
    second = await protocol.new_trial(ts.Trial(name=name, status=QUEUED))
    third = await protocol.new_trial(ts.Trial(name=name, status=QUEUED), auto_increment=True)

    assert second is None
    assert (third.hash, third.revision, third.status) == (first.hash, 1, QUEUED)
    assert await protocol.get_trial(first) == [first, third]


async def test_concurrent_creations_with_a_status(served, name):
    """Exactly one of several concurrent creators creates the trial, with its own status."""
    statuses = [ts.CustomStatus(f"by {i}", i) for i in range(8)]
    async with connected(served) as one, connected(served) as two:
        creations = [(one, two)[i % 2].new_trial(ts.Trial(name=name, status=each)) for i, each in enumerate(statuses)]
        created = await asyncio.gather(*creations)
        [found] = await one.get_trial(ts.Trial(name=name))

    [(winner, trial)] = [(i, each) for i, each in enumerate(created) if each is not None]
    assert (trial.status, found) == (statuses[winner], trial)


async def test_a_trial_that_was_created_as_running(protocol, name):
    """It is silent from its creation on, since no heartbeats were started, and its finish gives it no runtime."""
    trial = await protocol.new_trial(ts.Trial(name=name, status=ts.Status.Running))
    running = {"name": name, "status.code": {"$gte": 100, "$lt": 200}}
    silent = await protocol.fetch_trials({**running, "last_seen": {"$lt": datetime.now(UTC)}})
    await protocol.log_trial_finish(trial)
    ended = await again(protocol, trial)

    assert silent == [trial]
    assert (ended.status, ended.started, ended.chronos) == (ts.Status.Completed, None, {})
    assert ended.finished > trial.created


async def test_a_trial_that_was_created_as_completed(protocol, name):
    """It can be started, and then has a start, a finish and a runtime as any other."""
    trial = await protocol.new_trial(ts.Trial(name=name, status=ts.Status.Completed))
    await protocol.log_trial_start(trial)
    running = await again(protocol, trial)
    await protocol.log_trial_finish(trial)
    ended = await again(protocol, trial)

    assert (running.status, running.finished) == (ts.Status.Running, None)
    assert (ended.status, ended.starts, ended.chronos["runtime"].count) == (ts.Status.Completed, 1, 1)


async def test_an_invalid_status_at_creation(protocol, name):
    """A status of another type raises TypeError with the field, and nothing is created."""
    trial = ts.Trial(name=name)
    trial.status = "Running"

    with pytest.raises(ts.InvalidType, match=r"Trial\.status: expected a Status or a CustomStatus, got str"):
        await protocol.new_trial(trial)
    assert await protocol.get_trial(ts.Trial(name=name)) == []


# --- What a creation carries


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("metrics", {"loss": 0.5}),
        ("errors", ["no"]),
        ("hash", "abc"),
        ("revision", 2),
        ("started", datetime(2026, 1, 1, tzinfo=UTC)),
        ("created", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("auto_increment", [False, True])
async def test_a_value_that_a_creation_does_not_carry(protocol, name, field, given, auto_increment):
    """A value that a creation does not carry raises InvalidValue with its field, and nothing is created."""
    with pytest.raises(ts.InvalidValue, match=rf"Trial\.{field}: expected no .* in a new "):
        await protocol.new_trial(ts.Trial(name=name, **{field: given}), auto_increment=auto_increment)

    assert await protocol.get_trial(ts.Trial(name=name)) == []
    with pytest.raises(ts.InvalidValue, match=r"Trial\.hash: expected no hash in a new trial, got 'abc'"):
        await protocol.get_trial(ts.Trial(name=name, hash="abc"))


async def test_members_of_a_new_project_or_group(protocol, name):
    """Members of a new project or group raise InvalidValue; a returned project or group can be created again."""
    with pytest.raises(ts.InvalidValue, match=r"Project\.trials"):
        await protocol.new_project(ts.Project(name=name, trials=["a"]))
    with pytest.raises(ts.InvalidValue, match=r"TrialGroup\.trials"):
        await protocol.new_trial_group(ts.TrialGroup(name=name, trials=["a"]))
    assert await protocol.get_project(ts.Project(name=name)) is None
    assert await protocol.get_trial_group(ts.TrialGroup(name=name)) is None

    project = await protocol.new_project(ts.Project(name=name))
    group = await protocol.new_trial_group(ts.TrialGroup(name=name, project_id=project.uid))
    await protocol.new_trial(ts.Trial(name=name, project_id=project.uid, group_id=group.uid))
    project = await protocol.get_project(project)

    assert len(project.trials) == 1
    assert await protocol.new_project(project) == project
    assert await protocol.new_trial_group(await protocol.get_trial_group(group)) is None


async def test_a_status_is_not_copied_from_a_trial(protocol, name):
    """The next revision of a trial that a call has returned is a new trial, whatever has become of the first."""
    first = await protocol.new_trial(ts.Trial(name=name, status=QUEUED))
    await protocol.log_trial_start(first)
    await protocol.log_trial_metrics(first, loss=1)
    await protocol.log_trial_finish(first, ValueError)
    done = await again(protocol, first)
    second = await protocol.new_trial(done, auto_increment=True)

    assert (done.status, len(done.errors)) == (ts.Status.Exception, 1)
    assert (second.revision, second.status, second.errors, second.metrics) == (1, ts.Status.CreatedGroup, [], {})


# --- Finishes


async def test_a_second_finish_changes_the_status_and_the_errors_only(served, protocol, trial):
    """A second finish, by this process, by another one, or by a claim, leaves the runtime and the time of the first."""
    await protocol.log_trial_start(trial)
    await protocol.log_trial_finish(trial)
    first = await again(protocol, trial)
    await protocol.log_trial_finish(trial, ValueError, ValueError("no"), None)
    second = await again(protocol, trial)
    async with connected(served) as other:
        await other.log_trial_finish(trial, KeyboardInterrupt)
        third = await again(other, trial)
    claimed = await protocol.fetch_and_update_trial({"uid": trial.uid}, "log_trial_finish")

    statuses = [each.status for each in (first, second, third, claimed)]
    assert statuses == [ts.Status.Completed, ts.Status.Exception, ts.Status.Interrupted, ts.Status.Completed]
    assert [len(each.errors) for each in (first, second, third, claimed)] == [0, 1, 1, 1]
    for each in (second, third, claimed):
        assert (each.finished, each.chronos) == (first.finished, first.chronos)
        assert each.last_seen > first.last_seen
    assert first.chronos["runtime"].count == 1


async def test_a_finish_after_another_start_counts_again(protocol, trial):
    """A start between two finishes makes the second one the end of another run, also if both are claims."""
    for attr in ("log_trial_start", "log_trial_finish", "log_trial_finish", "log_trial_start", "log_trial_finish"):
        found = await protocol.fetch_and_update_trial({"uid": trial.uid}, attr)

    assert (found.status, found.starts, found.chronos["runtime"].count) == (ts.Status.Completed, 2, 2)


@pytest.mark.parametrize("status", [ts.Status.Completed, ts.Status.Broken, ts.Status.Running], ids=str)
async def test_a_status_is_no_finish(protocol, trial, status):
    """A status that is set before a finish leaves the runtime to the finish; one that is set after it changes none."""
    await protocol.log_trial_start(trial)
    await protocol.set_trial_status(trial, status)
    before = await again(protocol, trial)
    await protocol.log_trial_finish(trial)
    ended = await again(protocol, trial)
    await protocol.set_trial_status(trial, status)
    await protocol.log_trial_finish(trial)
    after = await again(protocol, trial)

    assert (before.status, before.finished, before.chronos) == (status, None, {})
    assert (ended.status, ended.chronos["runtime"].count) == (ts.Status.Completed, 1)
    assert (after.status, after.finished, after.chronos) == (ts.Status.Completed, ended.finished, ended.chronos)


async def test_two_finishes_without_a_start(protocol, trial):
    """Without a start, the first finish gives the time of the end, and neither gives a runtime."""
    await protocol.log_trial_finish(trial)
    first = await again(protocol, trial)
    await protocol.log_trial_finish(trial, ValueError)
    second = await again(protocol, trial)

    assert (first.status, first.chronos) == (ts.Status.Completed, {})
    assert (second.status, second.chronos, second.finished) == (ts.Status.Exception, {}, first.finished)
