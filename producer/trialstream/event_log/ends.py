"""Ends of a log: the offset after the last event of each partition.

Records of a transaction can be read once it is committed, and so can all records after its first one. An end counts
records that cannot be read yet: they are acknowledged, and a reader that left them out would not show it.
"""

from __future__ import annotations

import time
from collections.abc import Collection

import anyio
from aiokafka import AIOKafkaConsumer, TopicPartition
from trialstream_schemas.errors import KafkaUnavailable

from trialstream.config import Config
from trialstream.event_log.clients import close_consumer, kafka_errors, lone_consumer, open_consumer
from trialstream.event_log.identity import check_identity
from trialstream.event_log.topics import Route

__all__ = ["LogEnds", "held_up", "readable_ends"]

# aiokafka looks up each topic after an attempt that failed for lack of it, and pauses: measured, the first call would
# take 220 ms at its default of 100 ms.
_RETRY_MS = 10
_POLL_SECONDS = 0.1


def held_up(place: str, offset: int) -> str:
    """Return the message that a transaction of another program holds a partition up.

    Args:
        place: `<topic>/<partition>`.
        offset: The first offset that cannot be read.
    """
    return (
        f"{place}: a transaction of another program is open, so offset {offset} and those after it cannot be read yet; "
        "it ends within transaction.max.timeout.ms of the broker (15 minutes by default), or by `kafka-transactions.sh`"
    )


async def readable_ends(
    config: Config, consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition], timeout: float
) -> dict[TopicPartition, int]:
    """Read the ends of partitions as they are now, and wait until all records before them can be read.

    Args:
        config: Where Kafka is.
        consumer: A consumer that reads committed records.
        partitions: The partitions.
        timeout: Maximum time to wait for transactions of other programs, seconds.

    Returns:
        By partition, the offset after its last record.

    Raises:
        KafkaUnavailable: No broker answered, or a transaction is still open after the timeout.
    """
    async with open_consumer(config, isolation_level="read_uncommitted") as other:
        ends = dict(await other.end_offsets(partitions))
    deadline = time.monotonic() + timeout
    async with kafka_errors(config):
        while True:
            stable = await consumer.end_offsets(partitions)
            held = [
                held_up(f"{each.topic}/{each.partition}", stable[each]) for each in ends if stable[each] < ends[each]
            ]
            if not held:
                return ends
            if time.monotonic() > deadline:
                raise KafkaUnavailable(held[0])
            await anyio.sleep(_POLL_SECONDS)


class LogEnds:
    """Reads the ends of a log over one connection, which lasts from the first call to a failure. For one event loop.

    Args:
        config: Where Kafka is, and the names of the topics.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._consumer: AIOKafkaConsumer | None = None
        self._opening = anyio.Lock()

    async def read(self, log: str, partitions: int, timeout: float) -> dict[Route, int]:
        """Read the ends of the trials topic and the registry, as they are during the call.

        An event counts once all in-sync replicas have it: all events that Kafka has acknowledged to their writers, also
        those that cannot be read before a transaction of another program has ended.

        Args:
            log: Id of the log.
            partitions: Partition count of the trials topic.
            timeout: Seconds.

        Returns:
            By partition, the offset after its last event; 0 for an empty one.

        Raises:
            KafkaUnavailable: Kafka has not answered within the timeout.
            LogMismatch: The topics belong to another log.
        """
        topic, registry = self._config.trials_topic, self._config.registry_topic
        places = [TopicPartition(registry, 0), *(TopicPartition(topic, number) for number in range(partitions))]
        try:
            async with kafka_errors(self._config):
                with anyio.move_on_after(timeout):
                    consumer = await self._connected()
                    await check_identity(self._config, consumer._client, log)  # noqa: SLF001 (it has no public name)
                    ends = await consumer.end_offsets(places)
                    return {Route(each.topic, each.partition): offset for each, offset in ends.items()}
            raise KafkaUnavailable(
                f"Kafka at {self._config.kafka} has not returned the end of the log in {timeout:g} s; start one with "
                "`trialstream up`, or set TRIALSTREAM_KAFKA"
            )
        except KafkaUnavailable:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connection, if it is open."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close_consumer(consumer)

    async def _connected(self) -> AIOKafkaConsumer:
        async with self._opening:
            if self._consumer is None:
                settings = {"retry_backoff_ms": _RETRY_MS, "isolation_level": "read_uncommitted"}
                consumer = lone_consumer(self._config, **settings)
                try:
                    await consumer.start()
                except BaseException:
                    await close_consumer(consumer)
                    raise
                self._consumer = consumer
            return self._consumer
