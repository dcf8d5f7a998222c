"""Schemas that a connection publishes: those that the log lacks, with any past of the topic."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import anyio
import trialstream as ts
from aiokafka.admin import NewTopic, RecordsToDelete
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition
from anyio.to_thread import run_sync
from service_support import admin, caught_up, cli, records_of, send, until
from trialstream.event_log.schemas import SchemaTopic
from trialstream.event_log.topics import ensure_topics, publish_schemas
from trialstream_schemas.wire.schemas import SCHEMAS, fingerprint


async def published(config):
    """Count the records of the schemas topic by key."""
    return Counter(each.key for each in await records_of(config, config.schemas_topic))


async def test_only_the_first_connection_publishes(config):
    """Later connections publish nothing, also those of protocols and of the consumer's commands."""
    await ensure_topics(config)
    await ensure_topics(config)
    async with ts.KafkaProtocol(config):
        pass

    assert await published(config) == dict.fromkeys(SCHEMAS, 1)


async def test_first_connections_at_the_same_time_lose_no_schema(config):
    """Each may publish all schemas; repetitions do no harm."""
    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(ensure_topics, config)
    first = await published(config)
    await ensure_topics(config)

    assert first.keys() == SCHEMAS.keys()
    assert await published(config) == first


async def test_schemas_that_the_topic_lost_are_published_again(config):
    """A topic that was deleted, records that were deleted or replaced by tombstones, and foreign values."""
    await ensure_topics(config)
    async with admin(config) as client:
        await client.delete_topics([config.schemas_topic])

        async def gone():
            return config.schemas_topic not in await client.list_topics()

        await until(gone)
    await ensure_topics(config)
    assert await published(config) == dict.fromkeys(SCHEMAS, 1)

    key, other = list(SCHEMAS)[:2]
    await send(config, [None], topic=config.schemas_topic, key=key)
    await send(config, [b"no schema"], topic=config.schemas_topic, key=other)
    await ensure_topics(config)
    assert await published(config) == {**dict.fromkeys(SCHEMAS, 1), key: 3, other: 3}


async def test_a_topic_without_its_beginning_gets_all_schemas(config):
    """Such a topic also has a retention, against the advice in docs/operations.md; connecting still works."""
    async with admin(config) as client:
        topic = NewTopic(config.schemas_topic, 1, 1, topic_configs={"cleanup.policy": "compact,delete"})
        await client.create_topics([topic])
    await ensure_topics(config)
    async with admin(config) as client:
        await client.delete_records({TopicPartition(config.schemas_topic, 0): RecordsToDelete(5)})
    await ensure_topics(config)

    assert (await published(config)).keys() == SCHEMAS.keys()


async def test_a_topic_with_many_repetitions_is_searched_at_its_ends(config):
    """Of thousands of records of other versions, the first and the last are read; those between are published again."""
    await ensure_topics(config)
    for key in SCHEMAS:
        await send(config, [None], topic=config.schemas_topic, key=key)
    foreign = b"\0" * 8
    for _ in range(2):
        await send(config, [b"x" * 1000] * 1500, topic=config.schemas_topic, key=foreign)
        await ensure_topics(config)
        await ensure_topics(config)

    assert await published(config) == {**dict.fromkeys(SCHEMAS, 4), foreign: 3000}


async def test_a_text_that_differs_in_documentation_only_is_no_other_schema(config):
    """Versions whose schemas have the same fingerprint do not publish in turn."""
    await ensure_topics(config)
    key, text = next(iter(SCHEMAS.items()))
    await send(config, [text.replace(b'"doc": "', b'"doc": "Other words. ', 1)], topic=config.schemas_topic, key=key)
    await ensure_topics(config)

    assert (await published(config))[key] == 2


async def test_a_push_publishes_the_schemas_of_its_spool(config, consumer, tmp_path):
    """A spool may be written offline, before the log exists, and by another version; a repeated push adds nothing."""
    async with ts.KafkaProtocol(replace(config, offline=True)) as protocol:
        await protocol.new_trial(ts.Trial(name="a"), auto_increment=True)
    pushed = await run_sync(lambda: cli(config, "push", str(config.spool_dir)))
    assert pushed.returncode == 0, pushed.stderr
    consumer(config)
    await caught_up(config)
    async with ts.KafkaProtocol(config) as protocol:
        assert len(await protocol.fetch_trials()) == 1
    foreign = {fingerprint("null"): b'"null"'}
    await publish_schemas(config, {**SCHEMAS, **foreign})

    found = await published(config)
    assert found == dict.fromkeys([*SCHEMAS, *foreign], 1)


async def test_a_reader_of_the_schemas_fetches_only_while_it_reads(config):
    """Between two reads no fetch is sent, and a schema that is published later is read all the same."""
    await ensure_topics(config)
    async with SchemaTopic(config) as topic:
        client = topic._consumer._client
        send_first, in_flight, total = client.send, 0, 0

        async def counting(node_id, request, **settings):
            nonlocal in_flight, total
            is_fetch = isinstance(request, FetchRequest)
            in_flight, total = in_flight + is_fetch, total + is_fetch
            try:
                return await send_first(node_id, request, **settings)
            finally:
                in_flight -= is_fetch

        client.send = counting
        await topic.refresh()
        before = total
        await topic.refresh()

        assert total == before

        later = {"type": "record", "name": "Later", "fields": [{"name": "x", "type": "long"}]}
        text = json.dumps(later).encode()
        await send(config, [text], topic=config.schemas_topic, key=fingerprint(later))
        await topic.refresh()

        assert text in topic.texts.values()
        await until(lambda: not in_flight)
        before = total
        await topic.refresh()

        assert total == before
