"""The topics of a log: made when they are missing, checked each time.

The first record of the registry says which log this is and over how many partitions its trials are spread. A hash
belongs to one partition for as long as the log lives, so a changed partition count is refused: it would tear the
events of a trial apart.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import anyio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code
from aiokafka.partitioner import murmur2
from trialstream_schemas.errors import KafkaUnavailable, LogMismatch, TrialStreamError
from trialstream_schemas.wire.codec import SchemaStore, encode
from trialstream_schemas.wire.events import LogCreated
from trialstream_schemas.wire.schemas import SCHEMAS

from trialstream.config import Config
from trialstream.log.clients import open_admin, open_consumer, open_producer

__all__ = ["Route", "ensure_topics", "log_of", "partition_of", "publish_schemas", "trial_ends"]

# The log is the only truth: nothing in it ever expires. The broker's clock orders it, so that replay to a time is well
# defined.
_LOG_SETTINGS = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "message.timestamp.type": "LogAppendTime",
}
_SCHEMAS_SETTINGS = {"cleanup.policy": "compact"}
_CREATE_SECONDS = 10.0


class Route(NamedTuple):
    """Where an event goes."""

    topic: str
    partition: int


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's own partitioner (murmur2) gives to a key, so that any client finds what it keys."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


async def ensure_topics(config: Config) -> LogCreated:
    """Create the topics that are missing, publish this version's schemas, and return which log this is.

    Raises:
        KafkaUnavailable: no broker answers.
        LogMismatch: the partition count of the trials topic is not the recorded one.
    """
    async with open_admin(config) as admin:
        await _create(admin, config)
        partitions = await _partitions(admin, config)
    log = await _log(config, partitions)
    if log.partitions != partitions:
        raise LogMismatch(
            f"{config.trials_topic} has {partitions} partitions and was created with {log.partitions}: events of one "
            f"trial would lie in two partitions; go back to {log.partitions}, or copy the log into new topics"
        )
    return log


async def publish_schemas(config: Config, schemas: Mapping[bytes, bytes]) -> None:
    """Put schemas of another version into the log's topic (this one's are there): fingerprint → JSON.

    Raises:
        KafkaUnavailable: no broker answers.
    """
    async with open_producer(config) as producer:
        await _publish(producer, config, {key: text for key, text in schemas.items() if key not in SCHEMAS})


async def _publish(producer: AIOKafkaProducer, config: Config, schemas: Mapping[bytes, bytes]) -> None:
    for each in [await producer.send(config.schemas_topic, key=key, value=text) for key, text in schemas.items()]:
        await each


async def _create(admin: AIOKafkaAdminClient, config: Config) -> None:
    wanted = {
        config.schemas_topic: (1, _SCHEMAS_SETTINGS),
        config.trials_topic: (config.partitions, _LOG_SETTINGS),
        config.registry_topic: (1, _LOG_SETTINGS),
    }
    missing = wanted.keys() - set(await admin.list_topics())
    if not missing:
        return
    response: Any = await admin.create_topics(
        [NewTopic(name, wanted[name][0], config.replication, topic_configs=wanted[name][1]) for name in sorted(missing)]
    )
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise TrialStreamError(
                f"topic {name} could not be created: {error.__name__}: {' '.join(map(str, message))}"
            )


async def _partitions(admin: AIOKafkaAdminClient, config: Config) -> int:
    deadline = time.monotonic() + _CREATE_SECONDS
    while True:
        [described] = await admin.describe_topics([config.trials_topic])
        if not described["error_code"] and described["partitions"]:
            return len(described["partitions"])
        # A broker may not know yet what another caller has just created.
        if time.monotonic() > deadline:
            raise for_code(described["error_code"])(config.trials_topic)
        await anyio.sleep(0.05)


async def _log(config: Config, partitions: int) -> LogCreated:
    """The first record of the registry, written by whoever comes first."""
    registry = TopicPartition(config.registry_topic, 0)
    async with open_producer(config) as producer:
        await _publish(producer, config, SCHEMAS)
        async with open_consumer(config) as consumer:
            consumer.assign([registry])
            if begin := (await consumer.beginning_offsets([registry]))[registry]:
                raise LogMismatch(
                    f"{config.registry_topic} begins at offset {begin} and not at 0: its beginning was deleted, "
                    "and with it which log this is"
                )
            if not (await consumer.end_offsets([registry]))[registry]:
                mine = LogCreated(time=time.time_ns() // 1000, log=secrets.token_hex(8), partitions=partitions)
                await producer.send_and_wait(config.registry_topic, value=encode(mine), partition=0)
            return await _first(config, consumer)


async def log_of(config: Config) -> LogCreated:
    """Which log the topics are that there are now; none is created.

    Raises:
        KafkaUnavailable: no broker answers, or none says which log this is in time.
        LogMismatch: the registry is not one of trialstream.
    """
    async with open_consumer(config) as consumer:
        with anyio.move_on_after(_CREATE_SECONDS):
            return await _first(config, consumer)
    raise KafkaUnavailable(f"Kafka at {config.kafka} has no record of {config.registry_topic}: was the topic deleted?")


async def trial_ends(config: Config) -> dict[Route, int]:
    """The offset behind the last event of each partition of the trials topic.

    Args:
        config: Where Kafka is.

    Returns:
        Offsets by partition.

    Raises:
        KafkaUnavailable: No broker answers.
        LogMismatch: The partition count of the trials topic is not the recorded one.
    """
    partitions = (await ensure_topics(config)).partitions
    async with open_consumer(config) as consumer:
        ends = await consumer.end_offsets([TopicPartition(config.trials_topic, i) for i in range(partitions)])
    return {Route(each.topic, each.partition): offset for each, offset in ends.items()}


async def _first(config: Config, consumer: AIOKafkaConsumer) -> LogCreated:
    registry = TopicPartition(config.registry_topic, 0)
    consumer.assign([registry])
    consumer.seek(registry, 0)
    first = await consumer.getone(registry)
    log = SchemaStore().decode(first.value or b"")
    if not isinstance(log, LogCreated):
        raise LogMismatch(
            f"{config.registry_topic} begins with {type(log).__name__} and not with LogCreated: it is not a "
            "registry of trialstream"
        )
    return log
