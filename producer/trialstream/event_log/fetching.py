"""Fetches of several partitions, one after the other: for readers of the log that take all that there is.

A consumer of aiokafka makes a Python object for each record, which takes as long as the rest of reading it, and a
partition of which all fetched records were taken waits until the fetch in flight returns, also where that one waits for
new records of other partitions. Here the records are those that the batches are parsed to, and only the partitions that
are wanted are fetched.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, cast

import anyio
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import CorruptRecordException, KafkaError, TopicAuthorizationFailedError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from trialstream.event_log.notes import Header, Note, notes_of
from trialstream.event_log.screening import screen_fetches

__all__ = ["FetchedRecord", "FetchedRecords", "Fetcher"]

_PARTITION_BYTES = 1024 * 1024
_RESPONSE_BYTES = 16 * 1024 * 1024
# Time that a broker waits for new records before it answers, milliseconds.
_WAIT_MS = 100
_RETRY_SECONDS = 0.1
_READ_COMMITTED = 1


class FetchedRecord(Protocol):
    """A record of a fetch."""

    @property
    def offset(self) -> int:
        """Its offset."""

    @property
    def timestamp(self) -> int:
        """When it was appended, milliseconds since 1970 UTC."""

    @property
    def key(self) -> bytes | None:
        """Its key."""

    @property
    def value(self) -> bytes | None:
        """Its value."""

    @property
    def headers(self) -> Sequence[Header]:
        """Its headers."""


class FetchedRecords(NamedTuple):
    """The next records of a partition.

    Attributes:
        first: The offset that was requested.
        records: The records, in the order of their offsets; at least one.
        notes: The notes of those that stand for other offsets, by position.
    """

    first: int
    records: Sequence[FetchedRecord]
    notes: Mapping[int, Note]


class Fetcher:
    """Fetches the records of partitions in the order of their offsets, with one request in flight to each broker.

    Args:
        client: A started client.
    """

    def __init__(self, client: AIOKafkaClient) -> None:
        screen_fetches(client)
        self._client = client
        # The next offset of each partition; the partition that was answered last is the last one.
        self._following: dict[TopicPartition, int] = {}
        # The requests in flight, by broker. They go on if a call of `fetch` is cancelled.
        self._running: dict[int, asyncio.Task[dict[TopicPartition, FetchedRecords]]] = {}

    async def begin(self, following: Mapping[TopicPartition, int]) -> None:
        """Choose the partitions, and the offset of the first record of each."""
        await self.stop()
        self._following = dict(following)

    async def stop(self) -> None:
        """End the requests in flight."""
        running, self._running = self._running, {}
        for each in running.values():
            each.cancel()
        # Else a cancellation by anyio would be raised as that of these tasks, which anyio does not take for its own.
        with anyio.CancelScope(shield=True):
            await asyncio.gather(*running.values(), return_exceptions=True)

    async def fetch(
        self, partitions: Collection[TopicPartition], seconds: float
    ) -> dict[TopicPartition, FetchedRecords]:
        """Return the next records of some partitions.

        Args:
            partitions: The partitions.
            seconds: Maximum time to wait for a record.

        Returns:
            The records of those that have some, and of others that were requested by an earlier call; empty if none
            came in time, also if no broker answered. A cancelled call takes no records.

        Raises:
            LogMismatch: A part of the log is lost.
            KafkaError: A partition has no such offset, or may not be read, or a batch is damaged.
        """
        deadline = time.monotonic() + seconds
        while True:
            for broker, places in self._by_broker(set(partitions)).items():
                if broker not in self._running:
                    self._running[broker] = asyncio.create_task(self._requested(broker, places))
            left = max(0.0, deadline - time.monotonic())
            if self._running:
                await asyncio.wait(self._running.values(), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(min(_RETRY_SECONDS, left))
            found = self._taken()
            if found or time.monotonic() >= deadline:
                return found

    def _by_broker(self, wanted: Collection[TopicPartition]) -> dict[int, list[TopicPartition]]:
        """Group partitions by their leaders; those that have none now are left out."""
        found: dict[int, list[TopicPartition]] = {}
        for each in self._following:
            if each in wanted:
                broker = self._client.cluster.leader_for_partition(each)
                if broker is None or broker < 0:
                    self._client.add_topic(each.topic)
                    self._client.force_metadata_update()
                    if each.topic in self._client.cluster.unauthorized_topics:
                        raise TopicAuthorizationFailedError(each.topic)
                else:
                    found.setdefault(broker, []).append(each)
        return found

    async def _requested(
        self, broker: int, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, FetchedRecords]:
        places: dict[str, list[tuple[int, int, int]]] = {}
        for each in partitions:
            places.setdefault(each.topic, []).append((each.partition, self._following[each], _PARTITION_BYTES))
        request = FetchRequest(_WAIT_MS, 1, _RESPONSE_BYTES, _READ_COMMITTED, [*places.items()])
        try:
            response = await self._client.send(broker, request)
        except KafkaError as error:
            if not error.retriable:
                raise
            await self._fail(pause=True)
            return {}
        has_failed = False
        found: dict[TopicPartition, FetchedRecords] = {}
        for topic, answers in response.topics:
            for number, code, *_, data in answers:
                place = TopicPartition(topic, number)
                if code:
                    kind = for_code(code)
                    if not kind.retriable:
                        raise kind(topic if kind is TopicAuthorizationFailedError else {place: self._following[place]})
                    has_failed = True
                elif records := _records(data or b"", self._following[place]):
                    notes = notes_of(records, self._following[place], place)
                    found[place] = FetchedRecords(self._following[place], records, notes)
        if has_failed:
            await self._fail(pause=not found)
        return found

    async def _fail(self, *, pause: bool) -> None:
        """Look for leaders that have changed, after a pause if nothing was fetched."""
        self._client.force_metadata_update()
        if pause:
            await asyncio.sleep(_RETRY_SECONDS)

    def _taken(self) -> dict[TopicPartition, FetchedRecords]:
        """Take the results of the requests that have ended; an error is raised once all records before it are taken."""
        found: dict[TopicPartition, FetchedRecords] = {}
        for broker, task in [*self._running.items()]:
            if not task.done() or (found and task.exception()):
                continue
            del self._running[broker]
            for place, each in task.result().items():
                # Another broker may have answered, too, if the leader has changed.
                if self._following[place] == each.first:
                    del self._following[place]
                    self._following[place] = each.records[-1].offset + 1
                    found[place] = each
        return found


def _records(data: bytes, first: int) -> list[FetchedRecord]:
    """Parse batches to their records from an offset on."""
    found: list[FetchedRecord] = []
    batches = MemoryRecords(data)
    try:
        while batches.has_next() and (batch := batches.next_batch()) is not None:
            records = [*cast("Iterable[FetchedRecord]", batch)]
            if not found:  # a batch is stored whole, so the first ones may begin before the offset
                records = [each for each in records if each.offset >= first]
            found += records
    except CorruptRecordException:
        if not found:
            raise
    return found
