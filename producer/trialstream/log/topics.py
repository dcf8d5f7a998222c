"""The topics of a log: their settings, their creation, and the partition of each key.

All events with the same trial hash lie in one partition for as long as the log lives. A changed partition count would
spread the events of a trial over two partitions, so the count is recorded when the log is created and compared at each
start; a different count raises `LogMismatch`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import anyio
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code
from aiokafka.partitioner import murmur2
from trialstream_schemas.errors import LogMismatch, TrialStreamError
from trialstream_schemas.wire.events import LogCreated
from trialstream_schemas.wire.schemas import SCHEMAS

from trialstream.config import Config
from trialstream.log.clients import open_admin, open_consumer, open_producer, waits_for_kafka
from trialstream.log.identity import ensure_identity

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
_DESCRIBE_SECONDS = 10.0


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
    """Create the topics that are missing and publish this version's schemas.

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
    async with open_admin(config) as admin:
        await _create_missing(admin, config)
        partitions = await _partition_count(admin, config)
    async with open_producer(config) as producer:
        await _publish(producer, config, SCHEMAS)
        log = await ensure_identity(config, producer, partitions)
    if log.partitions != partitions:
        raise LogMismatch(
            f"{config.trials_topic} has {partitions} partitions and was created with {log.partitions}: events of one "
            "trial would lie in two partitions; copy the log into new topics, since Kafka cannot remove partitions"
        )
    return log


@waits_for_kafka
async def publish_schemas(config: Config, schemas: Mapping[bytes, bytes]) -> None:
    """Publish schemas of other versions to the schemas topic; `ensure_topics` publishes this version's.

    Args:
        config: Where Kafka is.
        schemas: Fingerprint → JSON of the schema. This version's are skipped.

    Raises:
        KafkaUnavailable: No broker answered.
    """
    async with open_producer(config) as producer:
        await _publish(producer, config, {key: text for key, text in schemas.items() if key not in SCHEMAS})


@waits_for_kafka
async def trial_ends(config: Config) -> dict[Route, int]:
    """The offset after the last event of each partition of the trials topic.

    Args:
        config: Where Kafka is.

    Returns:
        Offsets by partition.

    Raises:
        KafkaUnavailable: No broker answered.
        LogMismatch: The partition count of the trials topic is not the recorded one.
    """
    partitions = (await ensure_topics(config)).partitions
    async with open_consumer(config) as consumer:
        ends = await consumer.end_offsets([TopicPartition(config.trials_topic, i) for i in range(partitions)])
    return {Route(each.topic, each.partition): offset for each, offset in ends.items()}


async def _publish(producer: AIOKafkaProducer, config: Config, schemas: Mapping[bytes, bytes]) -> None:
    for sent in [await producer.send(config.schemas_topic, key=key, value=text) for key, text in schemas.items()]:
        await sent


async def _create_missing(admin: AIOKafkaAdminClient, config: Config) -> None:
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


async def _partition_count(admin: AIOKafkaAdminClient, config: Config) -> int:
    deadline = time.monotonic() + _DESCRIBE_SECONDS
    while True:
        [described] = await admin.describe_topics([config.trials_topic])
        if not described["error_code"] and described["partitions"]:
            return len(described["partitions"])
        # The metadata of a topic that was just created reach the brokers one after the other.
        if time.monotonic() > deadline:
            raise for_code(described["error_code"])(config.trials_topic)
        await anyio.sleep(0.05)
