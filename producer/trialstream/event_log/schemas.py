"""Reads the schemas that the log carries in its schemas topic, and finds those that it lacks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Self

import anyio
import anyio.lowlevel
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.schema_reader import read_schema
from trialstream_schemas.wire.schemas import check_fingerprint

from trialstream.config import Config
from trialstream.event_log.clients import kafka_errors, open_client, open_consumer
from trialstream.event_log.fetch import check_readable, fetch
from trialstream.event_log.notes import note_of

__all__ = ["SchemaTopic", "missing_schemas"]

logger = logging.getLogger("trialstream")

# Number of records at the end of the schemas topic that are searched. A version adds about 16. Until compaction, the
# topic may also hold thousands of repetitions, of several first processes and of earlier versions, which published all
# schemas at each connection. A schema that is not among the last records is published again, and then is.
_SEARCHED_RECORDS = 256
_FETCH_BYTES = 1024 * 1024
_READING = {"isolation_level": "read_uncommitted", "auto_offset_reset": "earliest"}
# Number of refused records that a warning names.
_NAMED_RECORDS = 3


async def missing_schemas(config: Config, client: AIOKafkaClient, schemas: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Find the schemas that are not among the last records of the schemas topic.

    A record is found only once it is committed, so no schema that is left out here can be lost with a broker.

    Args:
        config: Names the topic.
        client: A started client.
        schemas: Fingerprint → JSON of the schema.

    Returns:
        Those to publish.

    Raises:
        KafkaError: The topic could not be read.
    """
    partition = TopicPartition(config.schemas_topic, 0)
    found: dict[bytes, bytes | None] = {}
    offset, end = 0, 1
    while offset < end:
        try:
            fetched = await fetch(client, partition, offset, _FETCH_BYTES, committed=False)
        except OffsetOutOfRangeError:  # the beginning was deleted; publishing all again does no harm
            return dict(schemas)
        for each in fetched.records:
            if each.key is not None:
                found[each.key] = each.value
        end = fetched.end
        # Compaction may have removed the records up to the end.
        offset = max(fetched.position, end - _SEARCHED_RECORDS) if fetched.position > offset else end
    return {key: text for key, text in schemas.items() if not _is_schema(found.get(key), text)}


def _is_schema(value: bytes | None, text: bytes) -> bool:
    """Whether a published value decodes the events of a schema; its text may differ in documentation and defaults."""
    if value is None or value == text:
        return value is not None
    try:
        # Not by their fingerprints alone: a schema with any fingerprint can be made.
        return read_schema(value).canonical == read_schema(text).canonical
    except SchemaError:
        return False


class SchemaTopic:
    """The schemas of `<prefix>.schemas`, read to the end of the topic on entry; an async context manager.

    Schemas of transactions that are open or aborted are read too: they do no harm, since events name a schema by its
    content, and a transaction that stays open must not hide a schema that was published after it.

    A record whose key is not the fingerprint of its schema is refused, like one that is no schema: a warning names it.
    The schemas take a bounded number of bytes: see `SchemaStore`.

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
        async with open_client(self._config) as client:
            try:
                await check_readable(client, self._config.schemas_topic)
            except KafkaError as error:
                if not error.retriable:  # a topic that was just created has no leader yet
                    raise
        async with AsyncExitStack() as opening:
            self._consumer = await opening.enter_async_context(open_consumer(self._config, **_READING))
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
            refused: Counter[str] = Counter()
            self._consumer.resume(self._partition)
            try:
                await self._read_to(end, refused)
            finally:
                # A consumer fetches ahead, again and again, and the next request for the end would wait for that fetch.
                self._consumer.pause(self._partition)
            if refused:
                topic, count = self._config.schemas_topic, refused.total()
                logger.warning("refused schemas of %s, %d in all: %s", topic, count, "; ".join(filter(None, refused)))

    async def _read_to(self, end: int, refused: Counter[str]) -> None:
        while self._position < end:
            for records in (await self._consumer.getmany(self._partition, timeout_ms=1000)).values():
                for record in records:
                    if (note := note_of(record)) is not None:
                        if note.reason is not None:
                            _refuse(refused, record.offset, note.reason)
                    elif record.value is not None:  # None is a tombstone
                        self._add(record.key, record.value, record.offset, refused)
                    await anyio.lowlevel.checkpoint()  # a record takes up to 50 ms
            # The position shows the progress; the number of records does not, since compaction removes records.
            self._position = await self._consumer.position(self._partition)

    def _add(self, key: bytes | None, text: bytes, offset: int, refused: Counter[str]) -> None:
        try:
            check_fingerprint(key, text)
            self.texts[self.schemas.add(text)] = text
        except SchemaError as error:
            _refuse(refused, offset, str(error))


def _refuse(refused: Counter[str], offset: int, reason: str) -> None:
    """Count a refused record; only the first ones are named, since a topic may have any number of them."""
    refused[f"offset {offset}: {reason}" if len(refused) < _NAMED_RECORDS else ""] += 1
