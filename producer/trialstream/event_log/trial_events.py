"""The events of one trial, read from the log itself: in the order that the log has decided, without a consumer."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Self

import anyio
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from trialstream_schemas.errors import KafkaUnavailable, SchemaError, UnknownSchema
from trialstream_schemas.model.identity import hash_of
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.events import TrialEvent

from trialstream.config import Config
from trialstream.event_log.clients import kafka_errors, open_client, open_consumer
from trialstream.event_log.ends import held_up
from trialstream.event_log.fetch import Fetched, fetch
from trialstream.event_log.schemas import SchemaTopic
from trialstream.event_log.topics import ensure_topics, partition_of

__all__ = ["TrialEvents"]

_FETCH_BYTES = 1024 * 1024
_RETRY_SECONDS = 0.05
# Difference of the clocks of a writer and of the broker up to which no event is missed.
_CLOCK_DIFFERENCE = timedelta(hours=1)


class TrialEvents:
    """Reads the events of a trial, in the order of the log and without repetitions; an async context manager.

    As in the fold, an event counts where the log has it first, and an event of a writer after a later one of the same
    writer is a repetition.

    Args:
        config: Where Kafka is.
        address: Uid of the trial, or `<hash>~<request>`: events that address it otherwise are left out.
        created: When the trial was created; None to read the partition from its beginning.
        timeout: Maximum duration of a read without an answer of the broker, seconds.
    """

    def __init__(self, config: Config, address: str, created: datetime | None, timeout: float) -> None:
        self._config = config
        self._address = address
        self._key = hash_of(address).encode()
        self._created = created
        self._timeout = timeout
        self._schemas = SchemaStore()
        # Whether the schemas topic was read during the present read: records of unknown schemas may be many.
        self._has_refreshed = False
        self._client: AIOKafkaClient
        self._partition: TopicPartition
        self._start = 0
        self._offset = 0
        # By writer, the `seq` of its last event.
        self._marks: dict[str, int] = {}
        # Events of reads that failed or were cancelled later on.
        self._pending: list[TrialEvent] = []

    async def __aenter__(self) -> Self:
        partitions = (await ensure_topics(self._config)).partitions
        self._partition = TopicPartition(self._config.trials_topic, partition_of(self._key, partitions))
        if self._created is not None:
            self._start = self._offset = await self._offset_at(self._created - _CLOCK_DIFFERENCE)
        async with AsyncExitStack() as opening:
            self._client = await opening.enter_async_context(open_client(self._config))
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    def rewind(self) -> None:
        """Read all events again."""
        self._offset = self._start
        self._marks = {}
        self._pending = []

    async def read(self) -> list[TrialEvent]:
        """Read the events that the log has got since the last call; those of a call that failed come with the next one.

        Returns:
            The events that the log held at some time during the call, such as all that were acknowledged before it.

        Raises:
            KafkaUnavailable: The broker did not answer in time, or a transaction of another program has been open for
                that time.
        """
        self._has_refreshed = False
        async with kafka_errors(self._config):
            end = self._offset + 1
            while self._offset < end:
                fetched = await self._fetch()
                for record in fetched.records:
                    if record.key == self._key and record.value is not None:
                        event = await self._decoded(record.value)
                        if isinstance(event, TrialEvent) and event.trial == self._address and self._is_new(event):
                            self._pending.append(event)
                self._offset, end = fetched.position, fetched.end
        found, self._pending = self._pending, []
        return found

    async def _fetch(self) -> Fetched:
        """Fetch once; again while the partition has no leader, or the next event cannot be read yet."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                fetched = await fetch(self._client, self._partition, self._offset, _FETCH_BYTES)
            except KafkaError as error:
                if not error.retriable or time.monotonic() > deadline:
                    raise
                await self._client.force_metadata_update()
            else:
                if fetched.position > self._offset or self._offset >= fetched.end:
                    return fetched
                if time.monotonic() > deadline:
                    raise KafkaUnavailable(
                        held_up(f"{self._partition.topic}/{self._partition.partition}", self._offset)
                    )
            await anyio.sleep(_RETRY_SECONDS)

    async def _decoded(self, data: bytes) -> object:
        """Decode a record; None for one that is no event, which the fold makes a dead letter and anybody may write."""
        try:
            return self._schemas.decode(data)
        except UnknownSchema:
            if not self._has_refreshed:
                self._has_refreshed = True
                async with SchemaTopic(self._config) as topic:  # of a newer version
                    self._schemas = topic.schemas
                return await self._decoded(data)
        except SchemaError:
            pass
        return None

    def _is_new(self, event: TrialEvent) -> bool:
        if event.request is not None:  # has no number
            return True
        is_new = event.seq > self._marks.get(event.writer, 0)
        if is_new:
            self._marks[event.writer] = event.seq
        return is_new

    async def _offset_at(self, at: datetime) -> int:
        """The offset of the first event that was appended at a time or later; 0 if there is none."""
        async with open_consumer(self._config) as consumer:
            found = await consumer.offsets_for_times({self._partition: int(at.timestamp() * 1000)})
        first = found[self._partition]
        return 0 if first is None else int(first.offset)
