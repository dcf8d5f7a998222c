"""The topics of a log: their settings, their creation, and the partition of each key.

All events with the same trial hash lie in one partition for as long as the log lives. A changed partition count would
spread the events of a trial over two partitions, so the count is recorded when the log is created and compared at each
start; a different count raises `LogMismatch`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import anyio
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.partitioner import murmur2
from trialstream_schemas.errors import LogMismatch, TrialStreamError
from trialstream_schemas.wire.events import LogCreated
from trialstream_schemas.wire.schemas import SCHEMAS, check_fingerprint

from trialstream.config import Config
from trialstream.event_log.clients import open_admin, open_client, open_consumer, open_producer, waits_for_kafka
from trialstream.event_log.identity import append_identity, find_identity, read_identity, way_on
from trialstream.event_log.schemas import missing_schemas

__all__ = ["Route", "ensure_topics", "partition_of", "publish_schemas", "trial_ends"]

# The log is the source of all documents, so no record of it ever expires. The broker's clock gives the timestamps, so
# that those of a partition never decrease and a replay up to a time is well defined.
_LOG_SETTINGS = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "message.timestamp.type": "LogAppendTime",
}
_SCHEMAS_SETTINGS = {"cleanup.policy": "compact"}
_METADATA_SECONDS = 10.0
_RETRY_SECONDS = 0.05

T = TypeVar("T")


class Route(NamedTuple):
    """Topic and partition of an event."""

    topic: str
    partition: int


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key by murmur2, the default partitioner of Kafka's clients.

    Args:
        key: Key of a record.
        partitions: Partition count of its topic.
    """
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


@waits_for_kafka
async def ensure_topics(config: Config) -> LogCreated:
    """Create the topics that are missing, and publish this version's schemas as far as the log lacks them.

    Usually nothing is missing, and one client with a few requests finds that.

    Args:
        config: Where Kafka is, and the names of the topics.

    Returns:
        The identity of the log.

    Raises:
        KafkaUnavailable: No broker answered.
        LogMismatch: The partition count of the trials topic is not the recorded one, or the registry has no valid
            beginning.
        TrialStreamError: The broker refused to create a topic.
    """
    async with open_client(config) as client:
        partitions = await _find_topics(client, config)
        log, missing = await asyncio.gather(
            _retried(lambda: find_identity(config, client)),
            _retried(lambda: missing_schemas(config, client, SCHEMAS)),
        )
        if missing or log is None:
            async with open_producer(config) as producer:
                await _publish(producer, config, missing)
                if log is None:
                    await append_identity(config, producer, partitions)
        if log is None:
            log = await read_identity(config)  # the record of another process may have come first
    if log.partitions != partitions:
        raise LogMismatch(
            f"{config.trials_topic} has {partitions} partitions and was created with {log.partitions}, says "
            f"{config.registry_topic}/0, offset 0: events of one trial would lie in two partitions, and Kafka cannot "
            f"remove partitions: {way_on(config)}"
        )
    return log


@waits_for_kafka
async def publish_schemas(config: Config, schemas: Mapping[bytes, bytes]) -> None:
    """Publish schemas of any version to the schemas topic, as far as the log lacks them.

    Args:
        config: Where Kafka is.
        schemas: Fingerprint → JSON of the schema.

    Raises:
        KafkaUnavailable: No broker answered.
        SchemaError: A schema cannot be read, or stands under another fingerprint than its own.
    """
    for key, text in schemas.items():
        check_fingerprint(key, text)
    async with open_client(config) as client:
        missing = await _retried(lambda: missing_schemas(config, client, schemas))
    if missing:
        async with open_producer(config) as producer:
            await _publish(producer, config, missing)


@waits_for_kafka
async def trial_ends(config: Config) -> dict[Route, int]:
    """The offset after the last event of each partition of the trials topic, also of one that cannot be read yet.

    Args:
        config: Where Kafka is.

    Returns:
        Offsets by partition.

    Raises:
        KafkaUnavailable: No broker answered.
        LogMismatch: The partition count of the trials topic is not the recorded one.
    """
    partitions = (await ensure_topics(config)).partitions
    async with open_consumer(config, isolation_level="read_uncommitted") as consumer:
        ends = await consumer.end_offsets([TopicPartition(config.trials_topic, i) for i in range(partitions)])
    return {Route(each.topic, each.partition): offset for each, offset in ends.items()}


async def _publish(producer: AIOKafkaProducer, config: Config, schemas: Mapping[bytes, bytes]) -> None:
    for sent in [await producer.send(config.schemas_topic, key=key, value=text) for key, text in schemas.items()]:
        await sent


async def _find_topics(client: AIOKafkaClient, config: Config) -> int:
    """Create the topics that are missing; return the partition count of the trials topic."""
    names = (config.schemas_topic, config.trials_topic, config.registry_topic)
    deadline = time.monotonic() + _METADATA_SECONDS
    created = False
    while True:
        counts = {name: len(client.cluster.partitions_for_topic(name) or ()) for name in names}
        missing = [name for name, count in counts.items() if not count]
        if not missing:
            return counts[config.trials_topic]
        if not created:
            async with open_admin(config) as admin:
                await _create(admin, config, missing)
            created = True
        # The metadata of a topic that was just created reach the brokers one after the other.
        if time.monotonic() > deadline:
            raise UnknownTopicOrPartitionError(missing[0])
        await anyio.sleep(_RETRY_SECONDS)
        # The client tracks no topic, so this is a request for all topics: one that names topics would create them on
        # brokers that do so automatically.
        if not await client.force_metadata_update():
            raise KafkaConnectionError("no broker returned the metadata of the cluster")


async def _create(admin: AIOKafkaAdminClient, config: Config, names: Sequence[str]) -> None:
    wanted = {
        config.schemas_topic: (1, _SCHEMAS_SETTINGS),
        config.trials_topic: (config.partitions, _LOG_SETTINGS),
        config.registry_topic: (1, _LOG_SETTINGS),
    }
    response: Any = await admin.create_topics(
        [NewTopic(name, wanted[name][0], config.replication, topic_configs=wanted[name][1]) for name in sorted(names)]
    )
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise TrialStreamError(
                f"topic {name} could not be created: {error.__name__}: {' '.join(map(str, message))}"
            )


async def _retried(request: Callable[[], Awaitable[T]]) -> T:
    """Repeat a request while a topic that was just created has no leader yet."""
    deadline = time.monotonic() + _METADATA_SECONDS
    while True:
        try:
            return await request()
        except KafkaError as error:
            if not error.retriable or time.monotonic() > deadline:
                raise
        await anyio.sleep(_RETRY_SECONDS)
