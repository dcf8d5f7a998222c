"""The records of one trial, read from the log itself."""

from __future__ import annotations

import time
from bisect import bisect_right
from datetime import datetime, timedelta
from typing import NamedTuple

import anyio
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from trialstream.config import Config
from trialstream.event_log.clients import open_client, open_consumer
from trialstream.event_log.fetch import check_readable
from trialstream.event_log.identity import read_identity
from trialstream.event_log.notes import notes_of
from trialstream.event_log.schemas import SchemaTopic
from trialstream.event_log.topics import partition_of
from trialstream_schemas.errors import LogMismatch, TrialStreamError
from trialstream_schemas.messages import counted
from trialstream_schemas.model.identity import hash_of
from trialstream_schemas.wire.codec import SchemaStore

__all__ = ["MAX_BYTES", "LogTooLarge", "NotReadYet", "TrialLog", "TrialRecord"]

MAX_BYTES = 64 * 1024 * 1024
"""Maximum size of the records of a trial, bytes: some hundred thousand of its events."""
# Difference of the clocks of a writer and of the broker up to which no record is missed.
_CLOCK_DIFFERENCE = timedelta(hours=1)
# Memory of a record beside its value, bytes (measured).
_RECORD_BYTES = 215
_FETCHED_RECORDS = 4000
_WAIT_MS = 200


class LogTooLarge(TrialStreamError):
    """The records of a trial are too large to be held; the message says how they can be read."""


class NotReadYet(TrialStreamError):
    """The log could not be read to its end in time; the next read goes on where this one has ended."""


class TrialRecord(NamedTuple):
    """A record of a trial.

    Attributes:
        offset: Its offset.
        timestamp: When it was appended, milliseconds since 1970 UTC.
        value: The event in single-object encoding.
    """

    offset: int
    timestamp: int
    value: bytes


class TrialLog:
    """The records of a trial in the order of the log, read as they come. Belongs to one event loop.

    They are those of all trials with its hash, since the log decides the revision of each by the others.

    Args:
        config: Where Kafka is.
        uid: Uid of the trial.
        created: When the first trial with its hash was created; None to read the partition from its beginning.

    Attributes:
        uid: As the argument.
        records: The records.
        schemas: The schemas of the log.
        topic: Name of their topic.
        partition: Number of their partition; -1 before the first read.
    """

    def __init__(self, config: Config, uid: str, created: datetime | None) -> None:
        self.uid = uid
        self.records: list[TrialRecord] = []
        self.schemas = SchemaStore()
        self.topic = config.trials_topic
        self.partition = -1
        self._config = config
        self._key = hash_of(uid).encode()
        self._created = created
        self._bytes = 0
        self._log = ""  # id of the log, once it is read
        self._next: int | None = None
        self._reading = anyio.Lock()

    @property
    def nbytes(self) -> int:
        """Memory of the records, bytes."""
        return self._bytes + _RECORD_BYTES * len(self.records) if self.records else 0

    async def read(self, seconds: float) -> None:
        """Read the records that the log has got since the last call.

        Args:
            seconds: Maximum duration.

        Raises:
            KafkaUnavailable: No broker answered, or a right is missing.
            LogMismatch: The topics were recreated since the last call.
            LogTooLarge: The records take more than 64 MiB; none are kept.
            NotReadYet: The log was not read to its end in time; what was read is kept.
        """
        deadline = time.monotonic() + seconds
        async with self._reading:
            self._check_size()
            identity = await read_identity(self._config)
            if self._log not in ("", identity.log):
                raise LogMismatch(f"{self.topic} is log {identity.log}, and was log {self._log}: it was recreated")
            self._log = identity.log
            self.partition = partition_of(self._key, identity.partitions)
            async with SchemaTopic(self._config) as topic:
                self.schemas = topic.schemas
            async with open_client(self._config) as client:
                await check_readable(client, self.topic)
            place = TopicPartition(self.topic, self.partition)
            async with open_consumer(self._config) as consumer:
                consumer.assign([place])
                if self._next is None:
                    self._next = await self._first(consumer, place)
                end = (await consumer.end_offsets([place]))[place]
                consumer.seek(place, self._next)
                while self._next < end:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise NotReadYet(
                            f"{self.topic}/{self.partition}: {counted(end - self._next, 'record')} left to read after "
                            f"{seconds:g} s: ask again"
                        )
                    fetched = await consumer.getmany(place, timeout_ms=_WAIT_MS, max_records=_FETCHED_RECORDS)
                    if records := fetched.get(place, []):
                        self._take(records, place)

    async def _first(self, consumer: AIOKafkaConsumer, place: TopicPartition) -> int:
        begin = int((await consumer.beginning_offsets([place]))[place])
        if self._created is None:
            return begin
        least = int((self._created - _CLOCK_DIFFERENCE).timestamp() * 1000)
        found = (await consumer.offsets_for_times({place: max(0, least)}))[place]
        return begin if found is None else max(begin, int(found.offset))

    def _take(self, records: list[ConsumerRecord[bytes, bytes]], place: TopicPartition) -> None:
        assert self._next is not None
        notes = notes_of(records, self._next, place)
        for i, each in enumerate(records):
            if each.key == self._key and each.value is not None and i not in notes:
                self._bytes += len(each.value)
                self._check_size()
                self.records.append(TrialRecord(each.offset, each.timestamp, each.value))
        self._next = records[-1].offset + 1

    def _check_size(self) -> None:
        if self._bytes > MAX_BYTES:
            self.records = []
            raise LogTooLarge(
                f"the events of trial {self.uid} take more than {MAX_BYTES >> 20} MiB: read them with "
                "trialstream.stream, or build a projection with `trialstream rebuild --until TIME`"
            )

    def count_at(self, timestamp: int) -> int:
        """Return the number of records that were appended until a time.

        Args:
            timestamp: Milliseconds since 1970 UTC.
        """
        return bisect_right(self.records, timestamp, key=lambda each: each.timestamp)
