"""Single fetches of records by the connections of any client.

A consumer needs connections of its own and fetches ahead. What is read here is a few records, at a connection's start
or beside a wait, so one request over a connection that exists is enough.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import LeaderNotAvailableError, OffsetOutOfRangeError, TopicAuthorizationFailedError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from trialstream.event_log.notes import note_of
from trialstream.event_log.screening import screen_fetches

__all__ = ["Fetched", "StoredRecord", "check_readable", "fetch"]

_READ_UNCOMMITTED, _READ_COMMITTED = 0, 1


class StoredRecord(NamedTuple):
    """A record of a partition.

    Attributes:
        offset: Its offset.
        key: Its key.
        value: Its value.
        fault: Why it, or the batch that ends at its offset, cannot be read; None if it can.
    """

    offset: int
    key: bytes | None
    value: bytes | None
    fault: str | None = None


class Fetched(NamedTuple):
    """Result of a fetch.

    Attributes:
        records: The records, in the order of their offsets.
        position: The offset from which on to fetch next: that of the request if nothing can be read there.
        stable: The offset up to which the partition can be read: that of the first record of the first transaction
            that is open, or `end`.
        end: The offset after the last record of the partition.
    """

    records: list[StoredRecord]
    position: int
    stable: int
    end: int


async def fetch(
    client: AIOKafkaClient, partition: TopicPartition, offset: int, max_bytes: int, *, committed: bool = True
) -> Fetched:
    """Fetch records that the partition holds now, without waiting for more.

    Args:
        client: A started client.
        partition: The partition.
        offset: Offset of the first record.
        max_bytes: Maximum size of the records. The first batch is returned whole, however large it is.
        committed: Whether to leave out the records of transactions that are open or aborted.

    Raises:
        KafkaError: The leader of the partition is unknown, or did not answer, or answered with an error.
    """
    screen_fetches(client)
    leader = client.cluster.leader_for_partition(partition)
    if leader is None or leader < 0:
        client.add_topic(partition.topic)
        await client.force_metadata_update()
        leader = client.cluster.leader_for_partition(partition)
        if partition.topic in client.cluster.unauthorized_topics:
            raise TopicAuthorizationFailedError(partition.topic)
        if leader is None or leader < 0:
            raise LeaderNotAvailableError(f"{partition.topic}/{partition.partition}")
    wanted = [(partition.topic, [(partition.partition, offset, max_bytes)])]
    isolation = _READ_COMMITTED if committed else _READ_UNCOMMITTED
    response = await client.send(leader, FetchRequest(0, 0, max_bytes, isolation, wanted))
    [(_, [(_, code, end, stable, *_, data)])] = response.topics
    if code:
        client.force_metadata_update()  # the leader may have changed
        error = for_code(code)
        if error is TopicAuthorizationFailedError:
            raise error(partition.topic)
        raise error(f"{partition.topic}/{partition.partition} at offset {offset}")
    records: list[StoredRecord] = []
    position = offset
    batches = MemoryRecords(data or b"")
    while batches.has_next():
        batch = batches.next_batch()
        assert batch is not None
        for each in batch:
            # A batch is stored whole, so the first one may begin before the offset.
            if each.offset < offset:
                continue
            note = note_of(each)
            if note is None:
                records.append(StoredRecord(each.offset, each.key, each.value))
            elif note.reason is not None:
                records.append(StoredRecord(each.offset, None, None, note.reason))
        position = max(position, batch.next_offset)
    return Fetched(records, position, min(stable, end) if committed else end, end)


async def check_readable(client: AIOKafkaClient, topic: str) -> None:
    """Check the right to read a topic. A consumer without it would retry until a timeout.

    Args:
        client: A started client.
        topic: Name of the topic.

    Raises:
        KafkaError: The right is missing, or the broker did not answer.
    """
    with suppress(OffsetOutOfRangeError):
        await fetch(client, TopicPartition(topic, 0), 0, 1)
