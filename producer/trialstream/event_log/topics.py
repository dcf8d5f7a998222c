"""The topics of a log: their settings, their creation, and the partition of each key.

All events with the same trial hash lie in one partition for as long as the log lives. A changed partition count would
spread the events of a trial over two partitions, so the count is recorded when the log is created and compared at each
start; a different count raises `LogMismatch`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import anyio
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.partitioner import murmur2
from aiokafka.protocol.metadata import MetadataRequest
from trialstream_schemas.errors import LogMismatch, TrialStreamError
from trialstream_schemas.wire.events import LogCreated
from trialstream_schemas.wire.schemas import SCHEMAS, check_fingerprint

from trialstream.config import Config
from trialstream.event_log.clients import open_admin, open_client, open_consumer, open_producer, waits_for_kafka
from trialstream.event_log.fetch import check_readable
from trialstream.event_log.identity import append_identity, find_identity, read_identity, way_on
from trialstream.event_log.schemas import missing_schemas

__all__ = [
    "Route",
    "ensure_topics",
    "find_partitions",
    "partition_of",
    "publish_schemas",
    "trial_ends",
]

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
U = TypeVar("U")


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
async def ensure_topics(config: Config, *, to_fold: bool = False) -> LogCreated:
    """Create the topics that are missing, and publish this version's schemas as far as the log lacks them.

    Usually nothing is missing, and one client with a few requests finds that.

    A client that writes may lack the right to read. It then publishes all schemas of this version, and does not get
    to know the identity of the log.

    Args:
        config: Where Kafka is, and the names of the topics.
        to_fold: Whether the caller reads events, and writes none. Then the rights to read are checked, and schemas are
            published only in new topics: writers publish those of their events.

    Returns:
        The identity of the log; without an id and a time if this client may not read it.

    Raises:
        KafkaUnavailable: No broker answered, or a right is missing.
        LogMismatch: The partition count of the trials topic is not the recorded one, or the registry has no valid
            beginning.
        TrialStreamError: The broker refused to create a topic.
    """
    async with open_client(config, "Read" if to_fold else "Write") as client:
        partitions, created = await _find_topics(client, config, to_fold=to_fold)
        missing: Mapping[bytes, bytes] = {}
        if to_fold:
            log, _ = await _together(
                _retried(lambda: find_identity(config, client)),
                _retried(lambda: check_readable(client, config.trials_topic)),
            )
            if log is None or created:
                missing = await _retried(lambda: _missing_schemas(config, client, SCHEMAS))
        else:
            log, missing = await _together(
                _retried(lambda: _identity(config, client, partitions)),
                _retried(lambda: _missing_schemas(config, client, SCHEMAS)),
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


async def _together(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """Await both. If one fails, the other is cancelled: it must not open a connection of a client that is closed."""
    tasks = asyncio.ensure_future(first), asyncio.ensure_future(second)
    try:
        return await asyncio.gather(*tasks)
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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
    async with open_client(config, "Write") as client:
        missing = await _retried(lambda: _missing_schemas(config, client, schemas))
    if missing:
        async with open_producer(config) as producer:
            await _publish(producer, config, missing)


@waits_for_kafka
async def trial_ends(config: Config) -> dict[Route, int]:
    """The offset after the last event of each partition of the trials topic, also of one that cannot be read yet.

    Creates nothing.

    Args:
        config: Where Kafka is.

    Returns:
        Offsets by partition; empty if there is no such topic.

    Raises:
        KafkaUnavailable: No broker answered, or a right is missing.
    """
    async with open_client(config, "Describe") as client:
        partitions = (await find_partitions(client, [config.trials_topic]))[config.trials_topic]
        if partitions is None:
            raise TopicAuthorizationFailedError(config.trials_topic)
    if not partitions:
        return {}
    async with open_consumer(config, isolation_level="read_uncommitted") as consumer:
        ends = await consumer.end_offsets([TopicPartition(config.trials_topic, i) for i in range(partitions)])
    return {Route(each.topic, each.partition): offset for each, offset in ends.items()}


async def _publish(producer: AIOKafkaProducer, config: Config, schemas: Mapping[bytes, bytes]) -> None:
    for sent in [await producer.send(config.schemas_topic, key=key, value=text) for key, text in schemas.items()]:
        await sent


async def find_partitions(client: AIOKafkaClient, topics: Sequence[str]) -> dict[str, int | None]:
    """Find the partition counts of topics.

    Args:
        client: A started client that tracks no topic.
        topics: Their names.

    Returns:
        By name, the number of partitions; 0 if there is no such topic, None if this client may not see it.

    Raises:
        KafkaError: The broker did not answer.
    """
    counts: dict[str, int | None] = {each: len(client.cluster.partitions_for_topic(each) or ()) for each in topics}
    unseen = [each for each, count in counts.items() if not count]
    # A cluster without topics may have no brokers yet.
    if unseen and (node := client.get_random_node()) is not None:
        # The metadata of all topics, which the client has, leave out those that it may not see.
        response: Any = await client.send(node, MetadataRequest(unseen, allow_auto_topic_creation=False))
        for code, topic, *_ in response.topics:
            if for_code(code) is TopicAuthorizationFailedError:
                counts[topic] = None
    return counts


async def _identity(config: Config, client: AIOKafkaClient, partitions: int) -> LogCreated | None:
    """Find the identity of the log; one without an id if this client may not read it."""
    try:
        return await find_identity(config, client)
    except TopicAuthorizationFailedError:
        return LogCreated(time=0, log="", partitions=partitions)


async def _missing_schemas(
    config: Config, client: AIOKafkaClient, schemas: Mapping[bytes, bytes]
) -> Mapping[bytes, bytes]:
    """Find the schemas that the log lacks; all if this client may not read them, since repetitions do no harm."""
    try:
        return await missing_schemas(config, client, schemas)
    except TopicAuthorizationFailedError:
        return schemas


async def _find_topics(client: AIOKafkaClient, config: Config, *, to_fold: bool) -> tuple[int, bool]:
    """Create the topics that are missing; return the partition count of the trials topic, and whether any was."""
    names = (config.schemas_topic, config.trials_topic, config.registry_topic)
    deadline = time.monotonic() + _METADATA_SECONDS
    created = False
    while True:
        counts = await find_partitions(client, names)
        # A writer of trials needs no right on the registry.
        required = names if to_fold else names[:2]
        if hidden := [name for name in required if counts[name] is None]:
            raise TopicAuthorizationFailedError(hidden)
        missing = [name for name, count in counts.items() if count == 0]
        if not missing:
            return counts[config.trials_topic] or 0, created
        if not created:
            async with open_admin(config) as admin:
                # A broker that has just started returns no topics and no controller for some moments.
                if admin._client.cluster.controller is not None:  # noqa: SLF001
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
        if error is TopicAuthorizationFailedError:
            raise error(name)
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
