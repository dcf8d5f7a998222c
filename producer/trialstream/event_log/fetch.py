"""Single fetches of records by the connections of any client.

A consumer needs connections of its own and fetches ahead. What is read here is a few records, at a connection's start
or beside a wait, so one request over a connection that exists is enough.
"""

from __future__ import annotations

from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import LeaderNotAvailableError, TopicAuthorizationFailedError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

__all__ = ["Fetched", "StoredRecord", "fetch"]

_READ_UNCOMMITTED = 0


class StoredRecord(NamedTuple):
    """A record of a partition."""

    offset: int
    key: bytes | None
    value: bytes | None


class Fetched(NamedTuple):
    """Result of a fetch.

    Attributes:
        records: The records, in the order of their offsets.
        end: The offset after the last record of the partition.
    """

    records: list[StoredRecord]
    end: int


async def fetch(client: AIOKafkaClient, partition: TopicPartition, offset: int, max_bytes: int) -> Fetched:
    """Fetch records that the partition holds now, without waiting for more.

    Args:
        client: A started client.
        partition: The partition.
        offset: Offset of the first record.
        max_bytes: Maximum size of the records. The first batch is returned whole, however large it is.

    Raises:
        KafkaError: The leader of the partition is unknown, or did not answer, or answered with an error.
    """
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
    response = await client.send(leader, FetchRequest(0, 0, max_bytes, _READ_UNCOMMITTED, wanted))
    [(_, [(_, code, end, *_, data)])] = response.topics
    if code:
        client.force_metadata_update()  # the leader may have changed
        error = for_code(code)
        if error is TopicAuthorizationFailedError:
            raise error(partition.topic)
        raise error(f"{partition.topic}/{partition.partition} at offset {offset}")
    records: list[StoredRecord] = []
    batches = MemoryRecords(data or b"")
    while batches.has_next():
        batch = batches.next_batch()
        assert batch is not None
        # A batch is stored whole, so the first one may begin before the offset.
        records += [StoredRecord(each.offset, each.key, each.value) for each in batch if each.offset >= offset]
    return Fetched(records, end)
