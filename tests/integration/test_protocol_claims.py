"""Claims: each trial goes to exactly one worker."""

from __future__ import annotations

import asyncio
import collections

import pytest
import trialstream as ts
from contract import again, connected
from workers import claim_all, in_processes

WAITING = {"status": ts.Status.CreatedGroup}


async def test_a_claim_applies_the_update_and_returns_the_trial(protocol, trial):
    """A claim applies the update and returns the trial as it is after the update."""
    claimed = await protocol.fetch_and_update_trial({"uid": trial.uid}, "set_trial_status", ts.Status.Running)

    assert claimed.uid == trial.uid
    assert claimed.status is ts.Status.Running
    assert await again(protocol, trial) == claimed


@pytest.mark.parametrize(
    ("attr", "args", "kwargs", "check"),
    [
        pytest.param("log_trial_start", (), {}, lambda each: each.starts == 1, id="log_trial_start"),
        pytest.param(
            *("log_trial_finish", (), {"exc_type": ValueError, "exc_val": None}),
            lambda each: each.errors[0].type == "ValueError",
            id="log_trial_finish",
        ),
        pytest.param(
            "log_trial_arguments", (), {"a": 1}, lambda each: each.parameters == {"a": 1}, id="log_trial_arguments"
        ),
        pytest.param(
            *("log_trial_metadata", (ts.RingAggregator.lazy(2),), {"a": 1}),
            lambda each: each.metadata["a"].values == [1],
            id="log_trial_metadata",
        ),
        pytest.param(
            *("log_trial_metrics", ({"step": 2}, 1), {"a": 1}),
            lambda each: {key: x.last for key, x in each.metrics.items()} == {"step": 2, "a": 1},
            id="log_trial_metrics",
        ),
        pytest.param("add_trial_tags", (), {"a": 1}, lambda each: each.tags == {"a": 1}, id="add_trial_tags"),
        pytest.param(
            *("set_trial_status", (ts.CustomStatus("Queued", 1), "why"), {}),
            lambda each: (each.status.name, each.errors[0].message) == ("Queued", "why"),
            id="set_trial_status",
        ),
    ],
)
async def test_every_update_of_a_trial_can_claim(protocol, trial, attr, args, kwargs, check):
    """Every method that updates a trial can claim one, with the arguments that follow the trial."""
    claimed = await protocol.fetch_and_update_trial({"uid": trial.uid}, attr, *args, **kwargs)

    assert check(claimed)
    assert claimed.state_version == 1


async def test_a_trial_that_was_claimed_by_its_start_has_a_runtime(protocol, trial):
    """The runtime of a trial claimed by its start counts from the claim."""
    claimed = await protocol.fetch_and_update_trial({"uid": trial.uid}, "log_trial_start")
    await protocol.log_trial_finish(claimed)
    found = await again(protocol, trial)

    assert found.status is ts.Status.Completed
    assert found.chronos["runtime"].count == 1


async def test_a_trial_can_be_claimed_by_its_finish(protocol, trial):
    """A claim by `log_trial_finish` stops the clock of the worker that started the trial."""
    await protocol.log_trial_start(trial)
    claimed = await protocol.fetch_and_update_trial({"uid": trial.uid}, "log_trial_finish", KeyboardInterrupt)

    assert claimed.status is ts.Status.Interrupted
    assert claimed.chronos["runtime"].count == 1


async def test_exactly_one_is_claimed(protocol, name):
    """A claim takes the oldest matching trial, and the others stay as they are."""
    trials = [await protocol.new_trial(ts.Trial(name=name), auto_increment=True) for _ in range(3)]
    claimed = [await protocol.fetch_and_update_trial({"name": name} | WAITING, "log_trial_start") for _ in range(2)]

    assert [each.uid for each in claimed] == [each.uid for each in trials[:2]]
    assert [each.starts for each in await protocol.get_trial(trials[0])] == [1, 1, 0]


async def test_many_tasks_claim_different_trials(protocol, name):
    """Concurrent tasks claim different trials; a task that comes too late gets an ItemNotFound."""
    trials = [await protocol.new_trial(ts.Trial(name=name), auto_increment=True) for _ in range(10)]
    claims = (protocol.fetch_and_update_trial({"name": name} | WAITING, "log_trial_start") for _ in range(15))
    claimed = await asyncio.gather(*claims, return_exceptions=True)

    won = [each for each in claimed if isinstance(each, ts.Trial)]
    assert sorted(each.uid for each in won) == sorted(each.uid for each in trials)
    assert all(isinstance(each, ts.ItemNotFound) for each in claimed if each not in won)
    assert {each.starts for each in await protocol.get_trial(trials[0])} == {1}


async def test_twelve_processes_claim_each_trial_once(served, protocol, name):
    """Twelve processes claim 200 trials: none is claimed twice, and none is left."""
    group = await protocol.new_trial_group(ts.TrialGroup(name=name))
    given = [ts.Trial(name=name, parameters={"i": i}, group_id=group.uid) for i in range(200)]
    trials = await asyncio.gather(*map(protocol.new_trial, given))
    shares = await in_processes(claim_all, [(served, group.uid)] * 12)
    found = await protocol.fetch_trials({"group_id": group.uid})

    claimed = collections.Counter(uid for share in shares for uid in share)
    assert claimed == dict.fromkeys((each.uid for each in trials), 1)
    assert {(each.starts, each.state_version, each.lost_events) for each in found} == {(1, 1, 0)}
    assert {each.uid: list(each.tags) for each in found} == {each.uid: [] for each in trials}


async def test_no_trial_matches(protocol, trial):
    """A claim without a matching trial raises ItemNotFound and changes nothing."""
    with pytest.raises(ts.ItemNotFound, match="no trial matches"):
        await protocol.fetch_and_update_trial({"uid": trial.uid, "starts": 1}, "log_trial_start")

    assert await again(protocol, trial) == trial


@pytest.mark.parametrize(
    "attr",
    [
        *("log_trial_metrics_nowait", "log_trial_chrono_start", "add_project_trial", "new_trial", "fetch_trials"),
        *("set_group_metadata", "commit", "__init__", "nothing", "", None, 1, ["log_trial_start"]),
    ],
    ids=repr,
)
async def test_a_method_that_cannot_claim(protocol, trial, attr):
    """A claim by another method raises a QueryError with its name and the valid ones, and changes nothing."""
    with pytest.raises(ts.QueryError, match="log_trial_start") as caught:
        await protocol.fetch_and_update_trial({"uid": trial.uid}, attr)

    assert repr(attr) in str(caught.value)
    assert await again(protocol, trial) == trial


@pytest.mark.parametrize(
    ("attr", "args", "kwargs"),
    [
        pytest.param("log_trial_start", (1,), {}, id="one too many"),
        pytest.param("log_trial_start", (), {"step": 1}, id="an unknown name"),
        pytest.param("set_trial_status", (), {}, id="one missing"),
        pytest.param("set_trial_status", ("Running",), {}, id="one of the wrong type"),
        pytest.param("add_trial_tags", (1,), {}, id="a value without a key"),
        pytest.param("add_trial_tags", (), {"a": object()}, id="a value that cannot be logged"),
    ],
)
async def test_a_claim_with_wrong_arguments(protocol, trial, attr, args, kwargs):
    """A claim with wrong arguments raises the method's own TypeError and changes nothing."""
    with pytest.raises(TypeError):
        await protocol.fetch_and_update_trial({"uid": trial.uid}, attr, *args, **kwargs)

    assert await again(protocol, trial) == trial


async def test_a_claim_with_a_query_that_is_not_supported(protocol, trial):
    """A claim with an unsupported query raises a QueryError with the operator and changes nothing."""
    with pytest.raises(ts.QueryError, match=r"\$where"):
        await protocol.fetch_and_update_trial({"uid": trial.uid, "$where": "1"}, "log_trial_start")

    assert await again(protocol, trial) == trial


async def test_a_claim_that_would_exceed_the_size_of_a_trial(protocol, trial):
    """A claim that the fold refuses raises the reason at the caller."""
    for i in range(31):
        await protocol.log_trial_metadata(trial, **{f"k{i}": "x" * 400_000})

    with pytest.raises(ts.InvalidValue, match="would exceed"):
        await protocol.fetch_and_update_trial({"uid": trial.uid}, "add_trial_tags", big="x" * 500_000)


# --- Several updates


async def test_a_claim_with_several_updates(protocol, trial):
    """All updates are applied in their order, in one event; metrics are read back as those of a log call."""
    await protocol.log_trial_metrics(trial, step=1, loss=0.5)
    claimed = await protocol.fetch_and_update_trial(
        {"uid": trial.uid},
        updates=[
            ts.update("set_trial_status", ts.Status.Running),
            ts.update("log_trial_metadata", {"updates": 1}, heartbeat=7),
            ts.update("log_trial_metrics", step=2, loss=0.25),
            ts.update("log_trial_metadata", ts.timeseries_aggregator, power=1.5),
            ts.update("set_trial_status", ts.Status.Suspended, "enough"),
        ],
    )
    await protocol.log_trial_metrics(trial, step=3, loss=0.125)
    found = await again(protocol, trial)
    [loss] = (await protocol.fetch_metrics(trial)).values()
    [power] = (await protocol.fetch_metrics(trial, section="metadata")).values()

    assert (claimed.status, claimed.errors[0].message) == (ts.Status.Suspended, "enough")
    assert (claimed.metadata["updates"], claimed.metadata["heartbeat"], claimed.metadata["power"].last) == (1, 7, 1.5)
    assert (claimed.metrics["loss"].count, claimed.state_version) == (2, 1)
    assert (found.metrics["loss"].count, found.lost_events, found.rows) == (3, 0, 4)
    assert (loss.steps.tolist(), loss.values.tolist(), loss.rows.tolist()) == ([1, 2, 3], [0.5, 0.25, 0.125], [0, 1, 3])
    assert (power.values.tolist(), power.rows.tolist()) == ([1.5], [2])
    assert set(loss.writers) == {protocol.writer}


async def test_a_start_and_a_finish_among_the_updates(protocol, trial):
    """A start starts the clock of the trial and its heartbeats, and a finish stops them, as those calls do alone."""
    query = {"uid": trial.uid}
    tags = ts.update("add_trial_tags", worker=1)
    await protocol.fetch_and_update_trial(query, updates=[tags, ts.update("log_trial_start")])
    ran = trial.uid in protocol._session.started
    ended = await protocol.fetch_and_update_trial(
        query, updates=[ts.update("log_trial_metrics", loss=1.0), ts.update("log_trial_finish", KeyboardInterrupt)]
    )
    runs_on = trial.uid in protocol._session.started
    resumed = await protocol.fetch_and_update_trial(
        query, updates=[ts.update("log_trial_start"), ts.update("log_trial_finish"), ts.update("log_trial_start")]
    )

    assert (ran, runs_on, trial.uid in protocol._session.started) == (True, False, True)
    assert (ended.status, ended.chronos["runtime"].count) == (ts.Status.Interrupted, 1)
    assert 0 < ended.chronos["runtime"].sum < 60
    assert (resumed.status, resumed.starts, resumed.chronos["runtime"].count) == (ts.Status.Running, 3, 2)


async def test_a_wrong_update_logs_nothing(protocol, trial):
    """If one update is wrong, the claim raises the error of that update, and nothing is logged."""
    tags = ts.update("add_trial_tags", a=1)
    for wrong, error in [
        (ts.update("add_trial_tags", a=object()), ts.InvalidType),
        (ts.update("log_trial_metrics", loss="x"), ts.InvalidType),
        (ts.update("add_project_trial"), ts.QueryError),
        (ts.update("set_trial_status"), TypeError),
        ("log_trial_start", ts.InvalidType),
    ]:
        with pytest.raises(error, match=r"^updates\[1\]: "):
            await protocol.fetch_and_update_trial({"uid": trial.uid}, updates=[tags, wrong])
    acked = protocol.statistics().acked
    await protocol.commit()

    assert await again(protocol, trial) == trial
    assert protocol.statistics().acked == acked


async def test_a_refused_update_refuses_the_claim(protocol, trial):
    """If the fold refuses one update, it applies none, and the claim raises the reason with the update's number."""
    await protocol.log_trial_metadata(trial, ts.StatAggregator.lazy(0), memory=1)
    before = await again(protocol, trial)
    updates = [
        ts.update("set_trial_status", ts.Status.Running),
        ts.update("log_trial_metrics", loss=1.0),
        ts.update("log_trial_metadata", memory="much"),
    ]
    with pytest.raises(ts.InvalidValue, match=r"^updates\[2\]: metadata\.memory: expected a number"):
        await protocol.fetch_and_update_trial({"uid": trial.uid}, updates=updates)
    with pytest.raises(ts.ItemNotFound, match="no history"):
        await protocol.fetch_metrics(trial, "loss")

    assert await again(protocol, trial) == before


async def test_concurrent_claims_with_several_updates(served, name):
    """Of several claims of one trial, exactly one succeeds with all of its updates, even if they are metrics alone."""

    async def claim(i):
        async with connected(served) as protocol:
            return await protocol.fetch_and_update_trial(
                {"name": name, "metrics.worker.count": {"$exists": False}},
                updates=[ts.update("log_trial_metrics", worker=i), ts.update("log_trial_metrics", {"step": i})],
            )

    async with connected(served) as protocol:
        trial = await protocol.new_trial(ts.Trial(name=name))
        claimed = await asyncio.gather(*map(claim, range(6)), return_exceptions=True)
        found = await again(protocol, trial)

    [won] = [each for each in claimed if isinstance(each, ts.Trial)]
    assert sum(isinstance(each, ts.ItemNotFound) for each in claimed) == 5
    assert found == won
    assert (found.metrics["worker"].count, found.rows) == (1, 2)
    assert found.metrics["worker"].last == found.metrics["step"].last


# --- Groups


async def test_a_group_is_claimed(protocol, name):
    """A claim of a group sets its metadata and returns the updated group with its trials."""
    group = await protocol.new_trial_group(ts.TrialGroup(name=name))
    trial = await protocol.new_trial(ts.Trial(name=name, group_id=group.uid))
    claimed = await protocol.fetch_and_update_group({"name": name}, "set_group_metadata", owner="ada")

    assert (claimed.uid, claimed.metadata, claimed.trials) == (group.uid, {"owner": "ada"}, [trial.uid])
    assert await protocol.get_trial_group(group) == claimed


async def test_a_group_is_claimed_with_several_updates(protocol, name):
    """Several updates of a group are applied in their order, and count once."""
    group = await protocol.new_trial_group(ts.TrialGroup(name=name))
    updates = [ts.update("set_group_metadata", {"query": 1}, owner="ada"), ts.update("set_group_metadata", query=2)]
    claimed = await protocol.fetch_and_update_group({"name": name}, updates=updates)

    assert claimed.metadata == {"query": 2, "owner": "ada"}
    assert claimed.state_version == 1
    assert await protocol.get_trial_group(group) == claimed


async def test_concurrent_claims_of_a_group(served, name):
    """Of several concurrent claims of a group, exactly one succeeds."""

    async def claim(i):
        async with connected(served) as protocol:
            query = {"name": name, "metadata.owner": {"$exists": False}}
            return await protocol.fetch_and_update_group(query, "set_group_metadata", owner=i)

    async with connected(served) as protocol:
        group = await protocol.new_trial_group(ts.TrialGroup(name=name))
        claimed = await asyncio.gather(*map(claim, range(6)), return_exceptions=True)
        found = await protocol.get_trial_group(group)

    [won] = [each for each in claimed if isinstance(each, ts.TrialGroup)]
    assert sum(isinstance(each, ts.ItemNotFound) for each in claimed) == 5
    assert found == won


async def test_an_invalid_claim_of_a_group(protocol, name):
    """Invalid claims of groups raise the same errors as claims of trials."""
    await protocol.new_trial_group(ts.TrialGroup(name=name))

    with pytest.raises(ts.ItemNotFound, match="no group matches"):
        await protocol.fetch_and_update_group({"name": name + "2"}, "set_group_metadata", a=1)
    with pytest.raises(ts.QueryError, match=r"attr: expected one of .*, got 'log_trial_start'"):
        await protocol.fetch_and_update_group({"name": name}, "log_trial_start")
    with pytest.raises(TypeError):
        await protocol.fetch_and_update_group({"name": name}, "set_group_metadata", 1)
    with pytest.raises(ts.QueryError, match="parameters"):
        await protocol.fetch_and_update_group({"parameters.lr": 1}, "set_group_metadata", a=1)
    with pytest.raises(ts.InvalidType, match="a"):
        await protocol.fetch_and_update_group({"name": name}, "set_group_metadata", a=object())
