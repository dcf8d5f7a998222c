"""Kafka and MongoDB of different logs: refused at connect, at reconnect and at each wait, and never answered stale."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from pymongo import MongoClient
from service_support import caught_up, cli, delete_topics, live, until
from trialstream.event_log.topics import ensure_topics

OTHER = r"was folded from log [0-9a-f]{16}, but .* is log [0-9a-f]{16}"


async def fold_trial(config, consumer, name="a", events=20):
    """Fold a log with one trial, and stop the consumer; return the trial."""
    service = consumer(config)
    async with ts.KafkaProtocol(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name=name))
        for i in range(events):
            await protocol.add_trial_tags(trial, i=i)
        await protocol.commit("folded")
    await caught_up(config)
    service.stop()
    return trial


def replace_database(config, other):
    """Replace the database of a log by that of another one, as if TRIALSTREAM_MONGO named another server."""
    with MongoClient(config.mongo) as client:
        client.drop_database(config.database)
        for name in client[other.database].list_collection_names():
            documents = list(client[other.database][name].find())
            for each in documents:  # the ids of checkpoints, and the pointer, name the prefix
                if name == "checkpoints":
                    each["_id"] = each["_id"].replace(other.prefix, config.prefix)
                if each.get("database") == other.database:
                    each["database"] = config.database
            if documents:
                client[config.database][name].insert_many(documents)


@pytest.fixture
async def other(config, consumer):
    """Settings of another log, which is folded further than that of `config`."""
    other = replace(config, prefix=f"test-{uuid.uuid4().hex[:12]}")
    await fold_trial(other, consumer, "another", 60)
    return other


async def test_servers_of_different_logs_are_refused_at_connect(config, consumer, other):
    """The error names both logs and both servers; it is raised before anything is logged."""
    await fold_trial(config, consumer)
    replace_database(config, other)

    with pytest.raises(ts.LogMismatch, match=OTHER) as raised:
        await ts.KafkaProtocol(config).__aenter__()
    for word in (config.database, config.kafka, "TRIALSTREAM_MONGO", "TRIALSTREAM_KAFKA"):
        assert word in str(raised.value)


async def test_a_database_replaced_in_mid_run_is_refused_by_every_wait(config, consumer, other):
    """Reads that wait for nothing, commits, creations and claims raise; log calls and sending go on."""
    service = consumer(config)
    async with ts.KafkaProtocol(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
        await protocol.add_trial_tags(trial, a=1)
        await protocol.commit("folded")
        [before] = await protocol.fetch_trials()
        await run_sync(service.stop)
        replace_database(config, other)

        with pytest.raises(ts.LogMismatch, match=OTHER):
            await protocol.fetch_trials()
        await protocol.add_trial_tags(trial, a=2)
        await protocol.log_trial_metrics(trial, step=1, loss=0.5)
        with pytest.raises(ts.LogMismatch, match=OTHER):
            await protocol.commit("folded")
        with pytest.raises(ts.LogMismatch, match=OTHER):
            await protocol.new_trial(ts.Trial(name="b"))
        with pytest.raises(ts.LogMismatch, match=OTHER):
            await protocol.fetch_and_update_trial({"name": "another"}, "set_trial_status", ts.Status.Running)
        await protocol.commit("acked")
        assert protocol.statistics().queued == 0
    assert before.tags == {"a": 1}


async def test_topics_recreated_in_mid_run_are_refused_by_the_next_wait(config, consumer):
    """The new topics take events at offsets that the former projection has long reached: no answer is stale."""
    service = consumer(config)
    protocol = await ts.KafkaProtocol(config).__aenter__()
    trial = await protocol.new_trial(ts.Trial(name="a"))
    for i in range(20):
        await protocol.add_trial_tags(trial, i=i)
    await protocol.commit("folded")
    await run_sync(service.stop)
    await delete_topics(config)
    await ensure_topics(config)
    await protocol.add_trial_tags(trial, i=20)

    with pytest.raises(ts.LogMismatch, match="topics were recreated"):
        await protocol.commit("folded")
    with pytest.raises(ts.LogMismatch, match="topics were recreated"):
        await protocol.fetch_trials()
    await protocol.add_trial_tags(trial, i=21)
    with pytest.raises(ts.LogMismatch, match="topics were recreated"):
        await protocol.commit("acked", timeout=5)
    with pytest.warns(RuntimeWarning, match=r"1 event waits in .*trialstream push.*topics were recreated"):
        await protocol.__aexit__(None, None, None)
    pushed = cli(config, "push", config.spool_dir)
    assert pushed.returncode == 1
    assert "belongs to log" in pushed.stderr


async def test_topics_recreated_while_the_sender_reconnects_get_no_event(config, consumer):
    """The check precedes the first batch over the new connection, also without a wait."""
    service = consumer(config)
    protocol = await ts.KafkaProtocol(config).__aenter__()
    trial = await protocol.new_trial(ts.Trial(name="a"))
    await protocol.commit("folded")
    await run_sync(service.stop)
    await delete_topics(config)
    await protocol.add_trial_tags(trial, i=1)
    sender = protocol._session._pipeline._sender
    await until(lambda: sender._producer is None, 30)  # the attempt has failed
    await ensure_topics(config)

    with pytest.raises(ts.LogMismatch, match="topics were recreated"):
        await protocol.commit("acked")
    with pytest.warns(RuntimeWarning, match="1 event waits in"):
        await protocol.__aexit__(None, None, None)


async def test_servers_of_different_logs_are_refused_when_kafka_is_reached_late(config, consumer, other, stack):
    """A protocol that began without Kafka sends nothing to a log that the projection does not belong to."""
    await fold_trial(config, consumer)
    replace_database(config, other)
    await run_sync(stack.kafka.stop)
    try:
        with pytest.warns(RuntimeWarning, match="until Kafka answers"):
            protocol = await ts.KafkaProtocol(config, timeout=5.0).__aenter__()
        await protocol.new_trial(ts.Trial(name="late"), auto_increment=True)
    finally:
        await run_sync(stack.kafka.start)
    session = protocol._session
    await until(lambda: bool(session._pipeline._sender._mismatch))

    with pytest.raises(ts.LogMismatch, match=OTHER):
        await protocol.commit("acked")
    with pytest.warns(RuntimeWarning, match=r"1 event waits in"):
        await protocol.__aexit__(None, None, None)


async def test_a_fresh_database_is_behind_and_not_mismatched(config):
    """Without an id of its log, the projection has no consumer yet."""
    async with ts.KafkaProtocol(config, timeout=5.0) as protocol:
        assert await protocol.fetch_trials() == []
        with pytest.raises(ts.ProjectionBehind):
            await protocol.new_project(ts.Project(name="p"))


async def test_documents_of_earlier_versions_are_read(config, consumer, other):
    """Their pointer names no log; waits still compare the id at the checkpoints, if there is one."""
    trial = await fold_trial(config, consumer)
    with MongoClient(config.mongo) as client:
        client[config.database].drop_collection("projection")
        async with ts.KafkaProtocol(config) as protocol:
            assert [each.uid for each in await protocol.fetch_trials()] == [trial.uid]
        client[config.database].checkpoints.delete_one({"_id": "log"})
        async with ts.KafkaProtocol(config) as protocol:
            assert [each.uid for each in await protocol.fetch_trials()] == [trial.uid]

            replace_database(config, other)
            client[config.database].drop_collection("projection")
            await protocol.add_trial_tags(trial, i=30)
            with pytest.raises(ts.LogMismatch, match=OTHER):
                await protocol.commit("folded")


async def test_a_rebuilt_projection_names_its_log(config, consumer):
    """After the switch the pointer still names the log, and readers accept the new projection."""
    consumer(config)
    async with ts.KafkaProtocol(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
        assert (await run_sync(lambda: cli(config, "rebuild"))).returncode == 0
        await protocol.add_trial_tags(trial, i=1)
        [found] = await protocol.fetch_trials()
        log = protocol._session._pipeline.log_id
    with MongoClient(config.mongo) as client:
        pointer = client[config.database].projection.find_one({"_id": "live"})

    assert found.tags == {"i": 1}
    assert pointer["database"] == str(live(config)) == f"{config.prefix}.~1"
    assert pointer["log"] == log
