"""Identity of a log: the `LogCreated` event at offset 0 of its registry topic.

The event holds a random id and the partition count of the trials topic. If several callers find the registry empty at
the same time, each appends such an event; only the one at offset 0 counts.
"""

from __future__ import annotations

import secrets
import time

import anyio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from trialstream_schemas.errors import KafkaUnavailable, LogMismatch
from trialstream_schemas.wire.codec import SchemaStore, encode
from trialstream_schemas.wire.events import LogCreated

from trialstream.config import Config
from trialstream.log.clients import open_consumer

__all__ = ["ensure_identity", "read_identity"]

_READ_SECONDS = 10.0


async def ensure_identity(config: Config, producer: AIOKafkaProducer, partitions: int) -> LogCreated:
    """Return the identity of the log, and write it first if the registry is empty.

    Args:
        config: Where Kafka is.
        producer: A started producer.
        partitions: Partition count of the trials topic, recorded if the identity is written.

    Raises:
        KafkaUnavailable: No broker answered.
        LogMismatch: The beginning of the registry was deleted, or is not the identity of a log.
    """
    registry = TopicPartition(config.registry_topic, 0)
    async with open_consumer(config) as consumer:
        consumer.assign([registry])
        if begin := (await consumer.beginning_offsets([registry]))[registry]:
            raise LogMismatch(
                f"{config.registry_topic} begins at offset {begin} and not at 0: its beginning was deleted, and "
                "with it the identity of the log; set another TRIALSTREAM_PREFIX to begin a new log"
            )
        if not (await consumer.end_offsets([registry]))[registry]:
            created = LogCreated(time=time.time_ns() // 1000, log=secrets.token_hex(8), partitions=partitions)
            await producer.send_and_wait(config.registry_topic, value=encode(created), partition=0)
        return await _first_record(config, consumer)


async def read_identity(config: Config) -> LogCreated:
    """Read the identity of the log that the topics hold now. Creates nothing.

    Args:
        config: Where Kafka is.

    Raises:
        KafkaUnavailable: No broker answered, or the registry has had no record for 10 seconds.
        LogMismatch: The first record of the registry is not the identity of a log.
    """
    async with open_consumer(config) as consumer:
        with anyio.move_on_after(_READ_SECONDS):
            return await _first_record(config, consumer)
    raise KafkaUnavailable(
        f"{config.registry_topic}: expected a record at offset 0, got none from Kafka at {config.kafka} in "
        f"{_READ_SECONDS:g} s; check that the topic was not deleted"
    )


async def _first_record(config: Config, consumer: AIOKafkaConsumer) -> LogCreated:
    registry = TopicPartition(config.registry_topic, 0)
    consumer.assign([registry])
    consumer.seek(registry, 0)
    record = await consumer.getone(registry)
    event = SchemaStore().decode(record.value or b"")
    if not isinstance(event, LogCreated):
        raise LogMismatch(
            f"{config.registry_topic}: expected LogCreated at offset 0, got {type(event).__name__}; it is not a "
            "registry of trialstream: set another TRIALSTREAM_PREFIX"
        )
    return event
