"""The topics: created once with the right settings, and refused when they are not those that were folded."""

from __future__ import annotations

import json
import signal
from collections import Counter
from dataclasses import replace
from functools import partial

import anyio
import pytest
import trialstream as ts
from aiokafka.admin import NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition
from anyio.to_thread import run_sync
from pymongo import MongoClient
from service_load import connected
from service_support import (
    admin,
    caught_up,
    checkpoints,
    cli,
    delete_topics,
    ends_of,
    log_entries,
    records_of,
    send,
    until,
)
from trialstream.event_log.schemas import SchemaTopic
from trialstream.event_log.topics import ensure_topics
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.schemas import SCHEMAS, fingerprint


async def settings_of(config, topic):
    """Return the broker's settings of a topic."""
    async with admin(config) as client:
        [response] = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    [(_, _, _, _, entries)] = response.resources
    return {entry[0]: entry[1] for entry in entries}


async def test_concurrent_callers_create_one_log(config):
    """Concurrent callers create one log; all get the same id and the topic's partition count."""
    logs = []

    async def ensure(wanted):
        logs.append(await ensure_topics(wanted))

    async with anyio.create_task_group() as tasks:
        for i in range(6):
            tasks.start_soon(ensure, replace(config, partitions=3 + i % 2))
    first = (await records_of(config, config.registry_topic))[0]
    partitions = len(await ends_of(config, config.trials_topic))

    assert len({each.log for each in logs}) == 1
    assert {each.partitions for each in logs} == {partitions}
    assert SchemaStore().decode(first.value) == logs[0]
    assert await ensure_topics(config) == logs[0]


async def test_the_log_is_kept_for_ever_and_ordered_by_the_brokers_clock(config):
    """No event is compacted or expires; only the schemas topic is compacted."""
    await ensure_topics(config)
    for topic in (config.trials_topic, config.registry_topic):
        settings = await settings_of(config, topic)

        assert settings["cleanup.policy"] == "delete"
        assert settings["retention.ms"] == settings["retention.bytes"] == "-1"
        assert settings["message.timestamp.type"] == "LogAppendTime"
    assert (await settings_of(config, config.schemas_topic))["cleanup.policy"] == "compact"
    published = Counter(each.key for each in await records_of(config, config.schemas_topic))

    assert published.keys() == SCHEMAS.keys()


async def fold_on(config, consumer):
    """Fold a log; return the consumer, which goes on, a partition that has records, and its end."""
    service = await run_sync(consumer, config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
        for i in range(20):
            await protocol.add_trial_tags(trial, i=i)
        await protocol.commit("folded")
    await caught_up(config)
    ends = await ends_of(config, config.trials_topic)
    partition = max(ends, key=lambda each: ends[each])
    return service, partition, ends[partition]


async def fold_some(config, consumer):
    """Fold a log and stop the consumer; return a partition that has records, and its end."""
    service, partition, end = await fold_on(config, consumer)
    await run_sync(service.stop)
    return partition, end


def refused(config, *words):
    """Check that `trialstream consume` ends by itself with exit code 1 and one message with these words."""
    found = cli(config, "consume")
    [*_, last] = found.stderr.splitlines()

    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    assert "Unclosed" not in found.stderr
    assert last.startswith("error: ")
    for word in words:
        assert word in last


async def test_recreated_topics_are_refused(config, consumer):
    """Topics that were recreated after folding are refused: the message names both logs, and no document changes."""
    await fold_some(config, consumer)
    before = checkpoints(config)
    await delete_topics(config)
    await ensure_topics(config)

    refused(config, config.registry_topic, config.database, "recreated")
    assert checkpoints(config) == before


# A consumer looks at the topics every ten seconds.
NOTICED_SECONDS = 30


async def ended(service):
    """Wait until a consumer has ended by itself; return its last line, an error."""
    process = service._process
    await until(lambda: process.poll() is not None, NOTICED_SECONDS)
    [*_, last] = service.log.read_text().splitlines()

    assert process.poll() == 1
    assert last.startswith("error: ")
    return last


async def test_topics_that_are_recreated_under_a_running_consumer_are_refused(config, consumer):
    """Topics recreated under a running consumer end it before it folds any of their events, even if they are longer."""
    service, _, end = await fold_on(config, consumer)
    before = checkpoints(config)
    await delete_topics(config)
    await until(lambda: log_entries(service, "ready")[-1]["partitions"] == [])
    await ensure_topics(config)
    for number in range(config.partitions):
        await send(config, [b"no event"] * (end + 50), partition=number)
    last = await ended(service)

    assert checkpoints(config) == before
    for word in (config.registry_topic, config.database, "recreated"):
        assert word in last


async def test_topics_that_are_recreated_while_a_consumer_is_paused_are_refused(config, consumer):
    """A consumer that does not see the topics disappear compares the log's identity by itself."""
    service, _, _ = await fold_on(config, consumer)
    service.signal(signal.SIGSTOP)
    await delete_topics(config)
    await ensure_topics(config)
    service.signal(signal.SIGCONT)

    assert "recreated" in await ended(service)


@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
@pytest.mark.slow
async def test_a_trials_topic_that_is_recreated_alone_is_refused(config, consumer, paused):
    """The identity of the log is the same, but the folded records are missing: the message names the offsets."""
    service, partition, end = await fold_on(config, consumer)
    if paused:
        service.signal(signal.SIGSTOP)
    async with admin(config) as client:
        await client.delete_topics([config.trials_topic])
        await until(partial(_is_gone, client, config.trials_topic))
    await ensure_topics(config)
    service.signal(signal.SIGCONT)
    last = await ended(service)

    assert f"{partition.topic}/{partition.partition} is folded up to offset {end}" in last


async def _is_gone(client, topic):
    return topic not in await client.list_topics()


@pytest.mark.slow
async def test_a_registry_that_is_empty_under_a_running_consumer_is_refused(config, consumer):
    """Topics that were recreated by hand, or by a broker that creates topics by itself, have no identity yet."""
    service, _, _ = await fold_on(config, consumer)
    await delete_topics(config)
    async with admin(config) as client:
        await client.create_topics([NewTopic(name, 1, 1) for name in (config.registry_topic, config.trials_topic)])

    assert f"{config.registry_topic} is empty" in await ended(service)


async def test_a_schemas_topic_that_is_recreated_is_read_from_its_beginning(config):
    """Schemas that are published to a recreated topic are found, though the topic is shorter than before."""
    await ensure_topics(config)
    schema = b'{"type": "record", "name": "Later", "fields": [{"name": "a", "type": "long"}]}'
    async with SchemaTopic(config) as topic:
        async with admin(config) as client:
            await client.delete_topics([config.schemas_topic])
            await until(partial(_is_gone, client, config.schemas_topic))
            await client.create_topics([NewTopic(config.schemas_topic, 1, 1)])
        await send(config, [schema], topic=config.schemas_topic, key=fingerprint(json.loads(schema)))
        await topic.refresh()

    assert schema in topic.texts.values()


@pytest.mark.slow
async def test_deleted_topics_are_waited_for(config, consumer):
    """A consumer whose topics are missing says so once a minute, and goes on waiting for them."""
    service, _, _ = await fold_on(config, consumer)
    await delete_topics(config)
    await until(lambda: bool(log_entries(service, "log_unchecked")), NOTICED_SECONDS)
    missing = log_entries(service, f"Topic {config.registry_topic} not found in cluster metadata")

    assert service.running
    assert len(missing) == 1


async def test_a_log_that_begins_after_the_checkpoint_is_refused(config, consumer):
    """Records were deleted before they were folded: the message names the topic and both offsets."""
    partition, end = await fold_some(config, consumer)
    with MongoClient(config.mongo) as client:
        client[config.database].checkpoints.update_one(
            {"_id": f"{partition.topic}/{partition.partition}"}, {"$set": {"offset": 3}}
        )
    async with admin(config) as client:
        await client.delete_records({partition: RecordsToDelete(10)})

    refused(config, f"{partition.topic}/{partition.partition}", "offset 3", "from 10", f"to {end}")


async def test_a_log_that_ends_before_the_checkpoint_is_refused(config, consumer):
    """Folded records are missing at the end of the log: the message names the topic and both offsets."""
    partition, end = await fold_some(config, consumer)
    with MongoClient(config.mongo) as client:
        client[config.database].checkpoints.update_one(
            {"_id": f"{partition.topic}/{partition.partition}"}, {"$set": {"offset": end + 5}}
        )

    refused(config, f"{partition.topic}/{partition.partition}", f"offset {end + 5}", f"to {end}")


async def test_a_log_that_lost_only_folded_records_is_accepted(config, consumer):
    """The beginning of a partition may be deleted up to its checkpoint."""
    partition, end = await fold_some(config, consumer)
    async with admin(config) as client:
        await client.delete_records({partition: RecordsToDelete(end)})
    consumer(config)
    async with connected(config) as protocol:
        [trial] = await protocol.get_trial(ts.Trial(name="a"))
        await protocol.add_trial_tags(trial, more=True)
        [again] = await protocol.fetch_trials({"uid": trial.uid})

    assert again.tags == {"i": 19, "more": True}


async def test_a_registry_without_its_beginning_is_refused(config):
    """A registry without the record that identifies the log is refused."""
    await ensure_topics(config)
    async with admin(config) as client:
        await client.delete_records({TopicPartition(config.registry_topic, 0): RecordsToDelete(1)})

    with pytest.raises(ts.LogMismatch, match="its beginning was deleted"):
        await ensure_topics(config)


async def test_a_changed_partition_count_is_refused_by_writers_and_consumers(config):
    """A changed partition count is refused with both counts, since it would spread a trial over two partitions."""
    await ensure_topics(config)
    async with admin(config) as client:
        await client.create_partitions({config.trials_topic: NewPartitions(6)})

    refused(config, config.trials_topic, "6 partitions", "created with 4")
    with pytest.raises(ts.LogMismatch, match="has 6 partitions and was created with 4"):
        await connected(config).__aenter__()
