"""Projects, groups and trials: creation, look-up and membership."""

from __future__ import annotations

import asyncio

import pytest
import trialstream as ts
from contract import again, connected

# --- Projects


async def test_a_missing_project(protocol, name):
    """`get_project` returns None for a project that does not exist."""
    assert await protocol.get_project(ts.Project(name=name)) is None


async def test_a_new_project(protocol, name):
    """A project is created as given, and found by its name."""
    given = ts.Project(name=name, description="digits\n", metadata={"a.b": 1}, tags={"good": True})
    project = await protocol.new_project(given)
    found = await protocol.get_project(ts.Project(name=name))

    assert project.uid == name
    assert (project.description, project.metadata, project.tags) == ("digits\n", {"a.b": 1}, {"good": True})
    assert (project.groups, project.trials) == ([], [])
    assert project.created is not None
    assert found == project


async def test_an_existing_project(protocol, name):
    """`new_project` returns an existing project as it is."""
    first = await protocol.new_project(ts.Project(name=name, description="first"))
    second = await protocol.new_project(ts.Project(name=name, description="second"))

    assert second == first


async def test_concurrent_creations_of_a_project(served, name):
    """All concurrent creators of a project get the same one."""

    async def create(i):
        async with connected(served) as protocol:
            return await protocol.new_project(ts.Project(name=name, description=str(i)))

    created = await asyncio.gather(*map(create, range(5)))

    assert all(each == created[0] for each in created)


# --- Groups


async def test_a_missing_group(protocol, name):
    """`get_trial_group` returns None for a group that does not exist."""
    assert await protocol.get_trial_group(ts.TrialGroup(name=name)) is None


async def test_a_new_group(protocol, name):
    """A group is created as given, found by name and project, and listed in its project."""
    project = await protocol.new_project(ts.Project(name=name))
    given = ts.TrialGroup(name="search", project_id=project.uid, description="d", metadata={"n": 8}, tags={"$": 1})
    group = await protocol.new_trial_group(given)
    found = await protocol.get_trial_group(ts.TrialGroup(name="search", project_id=project.uid))
    elsewhere = await protocol.get_trial_group(ts.TrialGroup(name="search", project_id=project.uid + "2"))

    assert group.uid == given.uid
    assert (group.description, group.metadata, group.tags, group.trials) == ("d", {"n": 8}, {"$": 1}, [])
    assert found == group
    assert elsewhere is None
    assert (await protocol.get_project(project)).groups == [group.uid]


async def test_an_existing_group(protocol, name):
    """`new_trial_group` returns None for an existing group, which stays as it is."""
    first = await protocol.new_trial_group(ts.TrialGroup(name=name, description="first"))
    second = await protocol.new_trial_group(ts.TrialGroup(name=name, description="second"))

    assert second is None
    assert await protocol.get_trial_group(first) == first


async def test_concurrent_creations_of_a_group(protocol, name):
    """Exactly one of several concurrent creators creates the group."""
    created = await asyncio.gather(*(protocol.new_trial_group(ts.TrialGroup(name=name)) for _ in range(10)))

    assert sum(each is not None for each in created) == 1


async def test_groups_of_one_name_in_two_projects(protocol, name):
    """Groups of one name in two projects are different groups."""
    projects = [await protocol.new_project(ts.Project(name=f"{name} {i}")) for i in range(2)]
    groups = [await protocol.new_trial_group(ts.TrialGroup(name=name, project_id=each.uid)) for each in projects]
    alone = await protocol.new_trial_group(ts.TrialGroup(name=name))

    assert len({*(each.uid for each in groups), alone.uid}) == 3


async def test_a_group_in_a_missing_project(protocol, name):
    """Creating a group in a missing project raises ItemNotFound with the project's name."""
    with pytest.raises(ts.ItemNotFound, match=name):
        await protocol.new_trial_group(ts.TrialGroup(name="search", project_id=name))

    assert await protocol.get_trial_group(ts.TrialGroup(name="search", project_id=name)) is None


async def test_the_metadata_of_a_group(protocol, name):
    """A group's metadata is merged by key, and its uid stays."""
    group = await protocol.new_trial_group(ts.TrialGroup(name=name, metadata={"space": "grid", "n": 8}))
    await protocol.set_group_metadata(group, n=16, best=None)
    [found] = await protocol.fetch_groups({"uid": group.uid})

    assert found.metadata == {"space": "grid", "n": 16, "best": None}
    assert found.lost_events == 0


async def test_the_metadata_of_a_missing_group(protocol, name):
    """Setting the metadata of a missing group raises ItemNotFound with the group's name."""
    with pytest.raises(ts.ItemNotFound, match=name):
        await protocol.set_group_metadata(ts.TrialGroup(name=name), n=1)


@pytest.mark.parametrize(
    ("method", "parameter"),
    [
        ("get_project", "project"),
        ("new_project", "project"),
        ("get_trial_group", "group"),
        ("new_trial_group", "group"),
        ("set_group_metadata", "group"),
        ("add_project_trial", "project"),
        ("add_group_trial", "group"),
    ],
)
async def test_an_argument_that_is_not_a_project_or_a_group(protocol, trial, method, parameter):
    """An argument that is not a project or a group raises TypeError with the parameter's name."""
    more = {"trial": trial} if method.startswith("add") else {}

    with pytest.raises(TypeError, match=parameter):
        await getattr(protocol, method)(**{parameter: trial}, **more)
    with pytest.raises(TypeError, match=parameter):
        await getattr(protocol, method)(**{parameter: "a name"}, **more)


# --- Trials


async def test_a_missing_trial(protocol, name):
    """`get_trial` returns an empty list for a trial that does not exist."""
    assert await protocol.get_trial(ts.Trial(name=name)) == []


async def test_a_new_trial(protocol, name):
    """A trial is created as given, as revision 0."""
    given = ts.Trial(
        name=name,
        version="1.2",
        parameters={"lr": 0.1, "layers": [64, 32]},
        description="d",
        metadata={"host": "a"},
        tags={"user": "ada"},
    )
    trial = await protocol.new_trial(given)

    assert (trial.uid, trial.hash, trial.revision) == (f"{given.hash}_0", given.hash, 0)
    assert (trial.name, trial.version, trial.description) == (name, "1.2", "d")
    assert trial.parameters == {"lr": 0.1, "layers": [64, 32]}
    assert (trial.metadata, trial.tags) == ({"host": "a"}, {"user": "ada"})
    assert trial.status is ts.Status.CreatedGroup
    assert (trial.starts, trial.metrics, trial.chronos, trial.errors) == (0, {}, {}, [])
    assert (trial.project_id, trial.group_id) == (None, None)
    assert await again(protocol, trial) == trial


async def test_an_existing_trial(protocol, name):
    """`new_trial` returns None for an existing trial, which stays as it is."""
    first = await protocol.new_trial(ts.Trial(name=name, parameters={"a": 1, "b": 2}, tags={"n": 1}))
    second = await protocol.new_trial(ts.Trial(name=name, parameters={"b": 2, "a": 1}, tags={"n": 2}))

    assert second is None
    assert await protocol.get_trial(first) == [first]


async def test_the_next_revision_of_a_trial(protocol, name):
    """With `auto_increment` a definition can be run again; its revisions share a hash and are listed in order."""
    given = ts.Trial(name=name)
    trials = [await protocol.new_trial(given, auto_increment=True) for _ in range(12)]

    assert [each.revision for each in trials] == list(range(12))
    assert {each.hash for each in trials} == {given.hash}
    assert await protocol.get_trial(given) == trials
    assert await protocol.get_trial(trials[3]) == trials


async def test_a_fetched_trial_can_be_run_again(protocol, name):
    """A new revision of a fetched trial has the original definition and none of the data logged since."""
    first = await protocol.new_trial(ts.Trial(name=name, parameters={"lr": 0.1}))
    await protocol.log_trial_arguments(first, width=64)
    await protocol.log_trial_metadata(first, ts.RingAggregator.lazy(2), batch=1)
    await protocol.log_trial_metrics(first, loss=1)
    await protocol.log_trial_finish(first)
    second = await protocol.new_trial(await again(protocol, first), auto_increment=True)

    assert (second.hash, second.revision) == (first.hash, 1)
    assert (second.metrics, second.metadata, second.status) == ({}, {}, ts.Status.CreatedGroup)
    assert (second.started, second.finished, second.errors) == (None, None, [])


async def test_definitions_that_differ_are_different_trials(protocol, name):
    """Name, version, parameters, project and group identify a trial; description, metadata and tags do not."""
    project = await protocol.new_project(ts.Project(name=name))
    group = await protocol.new_trial_group(ts.TrialGroup(name=name))
    different = [
        ts.Trial(name=name),
        ts.Trial(name=name + "2"),
        ts.Trial(name=name, version="1"),
        ts.Trial(name=name, parameters={"a": 1}),
        ts.Trial(name=name, parameters={"a": 1.0}),
        ts.Trial(name=name, parameters={"a": None}),
        ts.Trial(name=name, project_id=project.uid),
        ts.Trial(name=name, group_id=group.uid),
    ]
    created = [await protocol.new_trial(each) for each in different]
    same = await protocol.new_trial(ts.Trial(name=name, description="d", metadata={"a": 1}, tags={"a": 1}))

    assert len({each.uid for each in created}) == len(different)
    assert {each.revision for each in created} == {0}
    assert same is None


async def test_concurrent_creations_of_a_trial(served, name):
    """Exactly one concurrent creator creates the trial; with `auto_increment` each gets a revision of its own."""
    given = ts.Trial(name=name)
    async with connected(served) as one, connected(served) as two:
        created = await asyncio.gather(*(each.new_trial(given) for each in (one, two) * 5))
        more = await asyncio.gather(*(each.new_trial(given, auto_increment=True) for each in (one, two) * 10))

    assert sum(each is not None for each in created) == 1
    assert sorted(each.revision for each in more) == list(range(1, 21))


@pytest.mark.parametrize("parameter", ["project_id", "group_id"])
async def test_a_trial_in_a_missing_project_or_group(protocol, name, parameter):
    """Creating a trial in a missing project or group raises ItemNotFound with its name."""
    given = ts.Trial(name=name, **{parameter: name})

    with pytest.raises(ts.ItemNotFound, match=name):
        await protocol.new_trial(given)
    assert await protocol.get_trial(given) == []


# --- Membership


async def test_a_trial_created_in_a_project_and_a_group(protocol, name):
    """A trial created in a project and a group has their uids, and both list the trial."""
    project = await protocol.new_project(ts.Project(name=name))
    group = await protocol.new_trial_group(ts.TrialGroup(name=name, project_id=project.uid))
    given = [ts.Trial(name=f"{name} {i}", project_id=project.uid, group_id=group.uid) for i in range(3)]
    trials = [await protocol.new_trial(each) for each in given]

    uids = [each.uid for each in trials]
    assert {(each.project_id, each.group_id) for each in trials} == {(project.uid, group.uid)}
    assert (await protocol.get_project(project)).trials == uids
    assert (await protocol.get_trial_group(group)).trials == uids
    assert (await protocol.fetch_projects({"uid": project.uid}))[0].trials == uids
    assert (await protocol.fetch_groups({"uid": group.uid}))[0].trials == uids


async def test_a_trial_that_is_attached_later(protocol, trial, name):
    """A trial attached later has the uids of its project and group, both list it, and its own uid stays."""
    project = await protocol.new_project(ts.Project(name=name))
    group = await protocol.new_trial_group(ts.TrialGroup(name=name))
    await protocol.add_project_trial(project, trial)
    await protocol.add_group_trial(group, trial)
    [found] = await protocol.fetch_trials({"project_id": project.uid, "group_id": group.uid})

    assert (found.uid, found.hash) == (trial.uid, trial.hash)
    assert (await protocol.get_project(project)).trials == [trial.uid]
    assert (await protocol.get_trial_group(group)).trials == [trial.uid]
    assert await protocol.get_trial(trial) == [found]


async def test_a_trial_that_moves(protocol, trial, name):
    """A trial belongs to the project to which it was attached last."""
    projects = [await protocol.new_project(ts.Project(name=f"{name} {i}")) for i in range(2)]
    for each in projects:
        await protocol.add_project_trial(each, trial)

    assert (await protocol.get_project(projects[0])).trials == []
    assert (await protocol.get_project(projects[1])).trials == [trial.uid]


async def test_a_trial_attached_to_a_missing_project_or_group(protocol, trial, name):
    """Attaching a trial to a missing project or group raises ItemNotFound with its name and logs nothing."""
    with pytest.raises(ts.ItemNotFound, match=name):
        await protocol.add_project_trial(ts.Project(name=name), trial)
    with pytest.raises(ts.ItemNotFound, match=name):
        await protocol.add_group_trial(ts.TrialGroup(name=name), trial)

    assert await again(protocol, trial) == trial


# --- Creation without waiting


async def test_a_trial_is_created_without_waiting(served, name):
    """The trial can be logged to at once; the log gives it the next revision, also to the trial of another process."""
    definition = ts.Trial(name=name, parameters={"lr": 0.1})
    async with connected(served) as protocol:
        first = await protocol.new_trial(definition)
        trial = await protocol.new_trial(definition, auto_increment=True, wait=False)
        await protocol.log_trial_start(trial)
        await protocol.log_trial_metrics(trial, step=0, loss=0.5)
        history = await protocol.fetch_metrics(trial, "loss")
        found = await protocol.get_trial(trial)
        async with connected(served) as other:
            await other.log_trial_finish(trial)
            await other.commit("folded")
        [_, done] = await protocol.get_trial(first)

    assert (trial.uid, trial.hash) == (f"{first.hash}~{trial.request}", first.hash)
    assert history["loss"].values.tolist() == [0.5]
    assert [(each.revision, each.status) for each in found] == [
        (0, ts.Status.CreatedGroup),
        (1, ts.Status.Running),
    ]
    assert (done.revision, done.status, done.lost_events) == (1, ts.Status.Completed, 0)


async def test_a_creation_without_waiting_increments(protocol, name):
    """Without `auto_increment` the call would have to know whether the trial exists."""
    with pytest.raises(ts.InvalidValue, match=r"^wait: expected True without auto_increment, got False"):
        await protocol.new_trial(ts.Trial(name=name), wait=False)
    assert await protocol.get_trial(ts.Trial(name=name)) == []


async def test_a_creation_without_waiting_checks_its_project(protocol, name):
    """A creation of which nothing could come is an error of the call."""
    with pytest.raises(ts.ItemNotFound, match=name):
        await protocol.new_trial(ts.Trial(name="t", project_id=name), auto_increment=True, wait=False)
