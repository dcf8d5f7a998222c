"""The log in Kafka as a source of streams, which is in no group of consumers and so disturbs none."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError, TopicAuthorizationFailedError
from trialstream_schemas.errors import ItemNotFound, KafkaUnavailable, LogMismatch
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.events import LogCreated

from trialstream.config import Config
from trialstream.event_log.clients import kafka_errors, open_client, open_consumer
from trialstream.event_log.ends import readable_ends
from trialstream.event_log.fetching import Fetcher
from trialstream.event_log.identity import check_identity, read_identity, way_on
from trialstream.event_log.records import Records
from trialstream.event_log.schemas import SchemaTopic
from trialstream.event_log.topics import Route, find_partitions

__all__ = ["KafkaLog"]

# Time between two checks that the topics were not recreated, seconds.
_CHECK_SECONDS = 30.0


class KafkaLog:
    """A log in Kafka; see `LogSource`. It is only read: nothing is created, and no offset is committed.

    Args:
        config: Where Kafka is, and the names of the topics.
        timeout: Maximum time to wait for transactions of other programs at the ends, seconds.
    """

    def __init__(self, config: Config, timeout: float) -> None:
        self.trials_topic = config.trials_topic
        self.registry_topic = config.registry_topic
        self.place = f"Kafka at {config.kafka}"
        self._config = config
        self._timeout = timeout
        self._open = AsyncExitStack()
        self._topic: SchemaTopic
        self._consumer: AIOKafkaConsumer
        self._log: LogCreated
        self._fetcher: Fetcher
        self._partitions: list[TopicPartition] = []
        self._checked = time.monotonic()

    @property
    def schemas(self) -> SchemaStore:
        """See `LogSource.schemas`."""
        return self._topic.schemas

    @property
    def texts(self) -> Mapping[bytes, bytes]:
        """See `LogSource.texts`."""
        return self._topic.texts

    async def open(self) -> LogCreated:
        """See `LogSource.open`.

        Raises:
            ItemNotFound: Kafka has no such log.
            KafkaUnavailable: No broker answered, or a right is missing.
            LogMismatch: The registry has no valid beginning, or the partition count was changed.
        """
        config = self._config
        async with open_client(config) as client:
            counts = await find_partitions(client, [config.trials_topic, config.registry_topic, config.schemas_topic])
            for topic, count in counts.items():
                if count is None:
                    raise TopicAuthorizationFailedError(topic)
                if not count:
                    raise ItemNotFound(
                        f"there is no log to stream: Kafka at {config.kafka} has no topic {topic}; log something "
                        "first, or set TRIALSTREAM_PREFIX to the prefix of another log"
                    )
        self._log = await read_identity(config)
        if self._log.partitions != counts[config.trials_topic]:
            raise LogMismatch(
                f"{config.trials_topic} has {counts[config.trials_topic]} partitions and was created with "
                f"{self._log.partitions}: {way_on(config)}"
            )
        async with AsyncExitStack() as opening:
            self._topic = await opening.enter_async_context(SchemaTopic(config))
            self._consumer = await opening.enter_async_context(open_consumer(config))
            self._fetcher = Fetcher(self._consumer._client)  # noqa: SLF001 (it has no public name)
            opening.push_async_callback(self._fetcher.stop)
            self._open = opening.pop_all()
        return self._log

    async def begin(self, places: Mapping[Route, int]) -> None:
        """See `LogSource.begin`."""
        following = {TopicPartition(*route): offset for route, offset in places.items()}
        self._partitions = [*following]
        await self._fetcher.begin(following)

    async def ends(self, *, settled: bool) -> Mapping[Route, int]:
        """See `LogSource.ends`."""
        if settled:
            found = await readable_ends(self._config, self._consumer, self._partitions, self._timeout)
        else:
            async with kafka_errors(self._config):
                found = await self._consumer.end_offsets(self._partitions)
        return {Route(each.topic, each.partition): offset for each, offset in found.items()}

    async def offsets_at(self, time: int) -> Mapping[Route, int]:
        """See `LogSource.offsets_at`."""
        async with kafka_errors(self._config):
            found = await self._consumer.offsets_for_times(dict.fromkeys(self._partitions, time))
        return {Route(each.topic, each.partition): at.offset for each, at in found.items() if at is not None}

    async def fetch(self, routes: Collection[Route], seconds: float) -> Mapping[Route, Records]:
        """See `LogSource.fetch`."""
        await self._check()
        try:
            async with kafka_errors(self._config):
                fetched = await self._fetcher.fetch([TopicPartition(*each) for each in routes], seconds)
        except KafkaUnavailable as error:
            if isinstance(error.__cause__, OffsetOutOfRangeError):
                raise LogMismatch(
                    f"a part of the log of {self.place} is lost, or its topics were recreated: {error.__cause__}"
                ) from error
            raise
        return {Route(each.topic, each.partition): found.records for each, found in fetched.items()}

    async def _check(self) -> None:
        """Check now and then that the topics still belong to this log."""
        if time.monotonic() - self._checked < _CHECK_SECONDS:
            return
        try:
            await check_identity(self._config, self._consumer._client, self._log.log)  # noqa: SLF001
        except KafkaError:
            return  # the next fetch waits for the broker, and then this is tried again
        self._checked = time.monotonic()

    async def refresh(self) -> None:
        """See `LogSource.refresh`."""
        await self._topic.refresh()

    async def close(self) -> None:
        """See `LogSource.close`."""
        await self._open.aclose()
