"""Ends of a log: the offset after the last event of each partition."""

from __future__ import annotations

import anyio
from aiokafka import AIOKafkaConsumer, TopicPartition
from trialstream_schemas.errors import KafkaUnavailable

from trialstream.config import Config
from trialstream.event_log.clients import close_consumer, kafka_errors, lone_consumer
from trialstream.event_log.identity import check_identity
from trialstream.event_log.topics import Route

__all__ = ["LogEnds"]

# aiokafka looks up each topic after an attempt that failed for lack of it, and pauses: measured, the first call would
# take 220 ms at its default of 100 ms.
_RETRY_MS = 10


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

        An event counts once all in-sync replicas have it: all events that Kafka has acknowledged to their writers.

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
                consumer = lone_consumer(self._config, retry_backoff_ms=_RETRY_MS)
                try:
                    await consumer.start()
                except BaseException:
                    await close_consumer(consumer)
                    raise
                self._consumer = consumer
            return self._consumer
