"""Reading only: `connect(read_only=True)` needs MongoDB alone, creates nothing, and refuses to log."""

from __future__ import annotations

import dataclasses
import uuid

import anyio
import pytest
import trialstream as ts
from aiokafka.admin import AIOKafkaAdminClient
from anyio.to_thread import run_sync
from contract import METHODS, arguments_of, connected
from motor.motor_asyncio import AsyncIOMotorClient
from trialstream import sync

# No Kafka listens here: any connection to it would fail.
NO_KAFKA = "127.0.0.1:1"
READS = [
    "get_project",
    "get_trial_group",
    "get_trial",
    "fetch_trials",
    "fetch_values",
    "count_trials",
    "fetch_groups",
    "fetch_projects",
    "fetch_bands",
    "fetch_metrics",
    "fetch_histories",
]


@pytest.fixture
async def logged(protocol, name):
    """A project, a group and a trial with one row, folded."""
    project = await protocol.new_project(ts.Project(name=name))
    group = await protocol.new_trial_group(ts.TrialGroup(name=name, project_id=project.uid))
    trial = await protocol.new_trial(ts.Trial(name=name, project_id=project.uid, group_id=group.uid))
    await protocol.log_trial_metrics(trial, step=1, loss=0.5)
    await protocol.commit("folded")
    return project, group, trial


async def test_everything_can_be_read_without_kafka(served, logged):
    """Projects, groups, trials and histories of the live projection are read without Kafka."""
    project, group, trial = logged
    async with ts.connect(kafka=NO_KAFKA, mongo=served.mongo, prefix=served.prefix, read_only=True) as protocol:
        found = await protocol.fetch_trials({"uid": trial.uid}, sort="-created", limit=1)
        values = await protocol.fetch_values(["uid", "metrics.loss.last"], {"uid": trial.uid})
        history = await protocol.fetch_metrics(trial, "loss")
        projects = [await protocol.get_project(project), *await protocol.fetch_projects({"uid": project.uid})]
        groups = [await protocol.get_trial_group(group), *await protocol.fetch_groups({"uid": group.uid})]
        revisions = await protocol.get_trial(ts.Trial(name=trial.name, project_id=project.uid, group_id=group.uid))

        with pytest.raises(ts.QueryError, match="there is no field 'nmae'"):
            await protocol.fetch_trials({"nmae": 1})
        with pytest.raises(ts.ItemNotFound, match="no history of metrics accuracy"):
            await protocol.fetch_metrics(trial, "accuracy")
        with pytest.raises(ts.ItemNotFound, match="there is no trial 'nobody'"):
            await protocol.fetch_metrics(ts.Trial(name="nobody"))

    assert [each.uid for each in found] == [each.uid for each in revisions] == [trial.uid]
    assert found[0].metrics["loss"].last == 0.5
    assert values == [(trial.uid, 0.5)]
    assert history["loss"].values.tolist() == [0.5]
    assert [each.trials for each in (*projects, *groups)] == [[trial.uid]] * 4


async def test_a_read_shows_what_is_folded_later(served, protocol, logged):
    """Each read shows the live projection at that time."""
    _, _, trial = logged
    async with connected(served, read_only=True) as reader:
        before = await reader.fetch_metrics(trial, "loss")
        await protocol.log_trial_metrics(trial, step=2, loss=0.25)
        await protocol.commit("folded")
        after = await reader.fetch_metrics(trial, "loss")

    assert (before["loss"].steps.tolist(), after["loss"].steps.tolist()) == ([1], [1, 2])


async def test_the_history_of_an_undecided_trial(served, logged):
    """A trial that is addressed by its creation is found once the log has decided; before, the error comes at once."""
    _, _, trial = logged
    client = AsyncIOMotorClient(served.mongo)
    outcome = await client[served.prefix].outcomes.find_one({"uid": trial.uid, "copy_of": None})
    client.close()
    async with connected(served, read_only=True, timeout=60) as protocol:
        history = await protocol.fetch_metrics(
            dataclasses.replace(trial, request=outcome["_id"].partition("~")[2]), "loss"
        )
        with anyio.fail_after(10), pytest.raises(ts.ItemNotFound, match="the creation nobody is not decided yet"):
            await protocol.fetch_metrics(dataclasses.replace(trial, request="nobody"))

    assert history["loss"].values.tolist() == [0.5]


@pytest.mark.parametrize("method", [each for each in METHODS if each not in READS])
async def test_a_method_that_logs_is_refused_by_name(served, method):
    """A method that logs is refused with its name for any arguments, and nothing is created."""
    project, group, trial = ts.Project(name="p"), ts.TrialGroup(name="g"), ts.Trial(name="t")
    arguments = arguments_of(project, group, trial)[method]
    async with ts.connect(kafka=NO_KAFKA, mongo=served.mongo, prefix=served.prefix, read_only=True) as protocol:
        with pytest.raises(
            ts.ProjectionIsReadOnly, match=f"{method}: this protocol is read-only: to log, connect without"
        ):
            await getattr(protocol, method)(**arguments)
        with pytest.raises(ts.ProjectionIsReadOnly, match="statistics"):
            protocol.statistics()
        with pytest.raises(ts.ProjectionIsReadOnly, match="writer"):
            _ = protocol.writer


async def test_nothing_is_created(stack, monkeypatch):
    """For an unused prefix neither topics nor a database are created; the setting may come from the environment."""
    prefix = f"nobody-{uuid.uuid4().hex[:12]}"
    monkeypatch.setenv("TRIALSTREAM_READ_ONLY", "1")
    async with ts.connect(kafka=stack.kafka.address, mongo=stack.mongo.uri, prefix=prefix) as protocol:
        assert isinstance(protocol, ts.ReadOnlyProtocol)
        assert await protocol.fetch_trials({}) == []
        assert await protocol.get_project(ts.Project(name="p")) is None

    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka.address)
    await admin.start()
    topics = await admin.list_topics()
    await admin.close()
    client = AsyncIOMotorClient(stack.mongo.uri)
    databases = await client.list_database_names()
    client.close()
    assert not [each for each in (*topics, *databases) if each.startswith(prefix)]


async def test_the_sync_protocol_is_read_only(served, logged):
    """The protocol of `trialstream.sync` can be read-only, too."""
    _, _, trial = logged

    def read():
        with sync.connect(kafka=NO_KAFKA, mongo=served.mongo, prefix=served.prefix, read_only=True) as protocol:
            with pytest.raises(ts.ProjectionIsReadOnly, match="log_trial_metrics"):
                protocol.log_trial_metrics(trial, step=1, loss=1.0)
            return protocol.fetch_trials({"uid": trial.uid})

    assert [each.uid for each in await run_sync(read)] == [trial.uid]


def test_offline_and_read_only_exclude_each_other():
    """Offline and read-only together are refused, since a protocol without servers can only log."""
    with pytest.raises(ts.ConfigError, match="offline"):
        ts.connect(offline=True, read_only=True)


async def test_a_protocol_outside_its_block_is_closed(served):
    """A read-only protocol is closed before it is entered and after it is left."""
    protocol = ts.connect(kafka=NO_KAFKA, mongo=served.mongo, prefix=served.prefix, read_only=True)
    with pytest.raises(ts.ProtocolClosed):
        await protocol.fetch_trials({})
    async with protocol:
        await protocol.fetch_trials({"name": "nobody"})
    with pytest.raises(ts.ProtocolClosed):
        await protocol.fetch_trials({})
