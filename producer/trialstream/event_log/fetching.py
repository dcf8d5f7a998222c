"""Fetches of several partitions, one after the other: for readers of the log that take all that there is.

A consumer of aiokafka makes a Python object for each record, which takes as long as the rest of reading it, and a
partition of which all fetched records were taken waits until the fetch in flight returns, also where that one waits for
new records of other partitions. Here batches are parsed to columns, and only partitions that are wanted are fetched.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple, cast

import anyio
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import CorruptRecordException, KafkaError, TopicAuthorizationFailedError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from trialstream.event_log.notes import Note, notes_of
from trialstream.event_log.records import Records
from trialstream.event_log.screening import screen_fetches

__all__ = ["FetchedRecords", "Fetcher"]

_PARTITION_BYTES = 1024 * 1024
# Records that are objects at once: fewer than those after which Python collects garbage.
_PARSED_RECORDS = 256
_RESPONSE_BYTES = 16 * 1024 * 1024
# Time for which a broker waits for new records before it answers, milliseconds: while the caller waits for records of
# these partitions, and while it handles others, as other partitions of the broker are requested only after the answer.
_WAIT_MS, _AHEAD_MS = 500, 100
_RETRY_SECONDS = 0.1
_READ_COMMITTED = 1


class FetchedRecords(NamedTuple):
    """The next records of a partition.

    Attributes:
        first: The offset that was requested.
        records: The records; at least one.
        has_more: Whether the broker has records after them.
    """

    first: int
    records: Records
    has_more: bool


class Fetcher:
    """Fetches the records of partitions in the order of their offsets, with one request in flight to each broker.

    While a caller handles the records of partitions, the next ones of these are requested, if the broker has some.

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
            self._check_leaders(partitions)
            self._request(partitions, _WAIT_MS)
            left = max(0.0, deadline - time.monotonic())
            if self._running:
                await asyncio.wait(self._running.values(), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(min(_RETRY_SECONDS, left))
            found = self._taken()
            if found or time.monotonic() >= deadline:
                self._request([each for each in partitions if each in found and found[each].has_more], _AHEAD_MS)
                return found

    def _leader(self, partition: TopicPartition) -> int | None:
        leader = self._client.cluster.leader_for_partition(partition)
        return None if leader is None or leader < 0 else leader

    def _check_leaders(self, partitions: Collection[TopicPartition]) -> None:
        """Look for the leaders of partitions that have none now."""
        for each in partitions:
            if self._leader(each) is None:
                self._client.add_topic(each.topic)
                self._client.force_metadata_update()
                if each.topic in self._client.cluster.unauthorized_topics:
                    raise TopicAuthorizationFailedError(each.topic)

    def _request(self, partitions: Collection[TopicPartition], wait_ms: int) -> None:
        """Request partitions from their leaders, unless a request to the leader is in flight."""
        wanted = set(partitions)
        places: dict[int, list[TopicPartition]] = {}
        for each in self._following:
            if each in wanted and (broker := self._leader(each)) is not None and broker not in self._running:
                places.setdefault(broker, []).append(each)
        for broker, some in places.items():
            self._running[broker] = asyncio.create_task(self._requested(broker, some, wait_ms))

    async def _requested(
        self, broker: int, partitions: Sequence[TopicPartition], wait_ms: int
    ) -> dict[TopicPartition, FetchedRecords]:
        places: dict[str, list[tuple[int, int, int]]] = {}
        for each in partitions:
            places.setdefault(each.topic, []).append((each.partition, self._following[each], _PARTITION_BYTES))
        request = FetchRequest(wait_ms, 1, _RESPONSE_BYTES, _READ_COMMITTED, [*places.items()])
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
            for number, code, end, stable, *_, data in answers:
                place = TopicPartition(topic, number)
                if code:
                    kind = for_code(code)
                    if not kind.retriable:
                        raise kind(topic if kind is TopicAuthorizationFailedError else {place: self._following[place]})
                    has_failed = True
                else:
                    first = self._following[place]
                    records = _records(data or b"", first, place)
                    if records.offsets:
                        has_more = records.offsets[-1] + 1 < min(end, stable)
                        found[place] = FetchedRecords(first, records, has_more)
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
                    self._following[place] = each.records.offsets[-1] + 1
                    found[place] = each
        return found


def _records(data: bytes, first: int, partition: TopicPartition) -> Records:
    """Parse batches to their records from an offset on."""
    offsets: list[int] = []
    times: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes] = []
    notes: dict[int, Note] = {}
    batches = MemoryRecords(data)
    following = first
    try:
        while batches.has_next() and (batch := batches.next_batch()) is not None:
            records = chain(cast("Iterable[Any]", batch))
            while some := [*islice(records, _PARSED_RECORDS)]:
                if some[0].offset < first:  # a batch is stored whole, so it may begin before the offset
                    some = [each for each in some if each.offset >= first]
                    if not some:
                        continue
                found = notes_of(some, following, partition)
                following = some[-1].offset + 1
                keys += [each.key for each in some]
                values += [each.value or b"" for each in some]
                for position, note in found.items():
                    notes[len(offsets) + position] = note
                    values[len(offsets) + position] = b""
                offsets += [each.offset for each in some]
                times += [each.timestamp for each in some]
                del some  # before there are others
    except CorruptRecordException:
        if not offsets:
            raise
    return Records(offsets, times, keys, values, notes)
