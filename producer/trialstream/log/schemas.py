"""Reads the schemas that the log carries in its schemas topic."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import Self

import anyio
from aiokafka import AIOKafkaConsumer, TopicPartition
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.codec import SchemaStore

from trialstream.config import Config
from trialstream.log.clients import kafka_errors, open_consumer

__all__ = ["SchemaTopic"]

logger = logging.getLogger("trialstream")


class SchemaTopic:
    """The schemas of `<prefix>.schemas`, read to the end of the topic on entry; an async context manager.

    Args:
        config: Where Kafka is.

    Attributes:
        schemas: Decodes events with this version's schemas and those read so far.
        texts: The schemas read so far, fingerprint → JSON; this version's only if they are published.
    """

    def __init__(self, config: Config) -> None:
        self.schemas = SchemaStore()
        self.texts: dict[bytes, bytes] = {}
        self._config = config
        self._partition = TopicPartition(config.schemas_topic, 0)
        self._consumer: AIOKafkaConsumer
        self._lock = anyio.Lock()
        self._position = 0

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            self._consumer = await opening.enter_async_context(open_consumer(self._config))
            self._consumer.assign([self._partition])
            await self.refresh()
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def refresh(self) -> None:
        """Read the schemas that were published since the last call, to the end of the topic.

        Raises:
            KafkaUnavailable: No broker answered.
        """
        async with self._lock, kafka_errors(self._config):
            end = (await self._consumer.end_offsets([self._partition]))[self._partition]
            if end < self._position:  # the topic was recreated
                self._consumer.seek(self._partition, 0)
                self._position = 0
            while self._position < end:
                for records in (await self._consumer.getmany(self._partition, timeout_ms=1000)).values():
                    for record in records:
                        self._add(record.value)
                # The position shows the progress; the number of records does not, since compaction removes records.
                self._position = await self._consumer.position(self._partition)

    def _add(self, text: bytes | None) -> None:
        if text is None:  # a tombstone
            return
        try:
            self.texts[self.schemas.add(text)] = text
        except SchemaError as error:
            logger.warning("skipped a schema of %s that cannot be read: %s", self._config.schemas_topic, error)
