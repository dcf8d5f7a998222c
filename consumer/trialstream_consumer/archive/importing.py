"""From an archive into a log."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from trialstream.config import Config
from trialstream.log.clients import open_batch_producer
from trialstream.log.topics import ensure_topics, partition_of
from trialstream_schemas.errors import KafkaUnavailable, SchemaError
from trialstream_schemas.wire import events
from trialstream_schemas.wire.codec import SchemaStore

from trialstream_consumer.archive.file import Archive, ArchiveError, Progress, Row, store_of

__all__ = ["import_archive"]

# What an import holds in memory.
_CHUNK_BYTES = 4_000_000
_WAIT_SECONDS = 30.0


async def import_archive(config: Config, archive: Archive, progress: Progress) -> dict[str, int]:
    """Put the records of an archive into the log, and return how many went into which topic.

    Interrupted or run twice, it sends again what is there already, and the fold skips that.

    Raises:
        KafkaUnavailable: Kafka did not take all of them.
        LogMismatch: the log has lost its beginning or another partition count than it was created with.
    """
    log = await ensure_topics(config)
    store = store_of(archive.schemas)
    sent = {"registry": 0, "trials": 0}
    done = 0
    async with open_batch_producer(config, _WAIT_SECONDS) as producer:
        published = [await producer.send(config.schemas_topic, key=k, value=v) for k, v in archive.schemas.items()]
        await _acknowledged(published, config, archive, 0)
        for chunk in _chunks(archive.rows()):
            waiting: dict[TopicPartition, list[Row]] = defaultdict(list)
            for row in chunk:
                if row["topic"] == "trials":
                    waiting[TopicPartition(config.trials_topic, _partition(row, log.partitions))].append(row)
                elif not _names_a_log(store, row["value"]):
                    waiting[TopicPartition(config.registry_topic, 0)].append(row)
            for partition, rows in waiting.items():
                sent["registry" if partition.topic == config.registry_topic else "trials"] += len(rows)
            # One batch of each partition at a time: what a failure leaves is the beginning of what should be there.
            while waiting:
                batches = [await _send(producer, partition, rows) for partition, rows in waiting.items()]
                await _acknowledged(batches, config, archive, done)
                waiting = {partition: rows for partition, rows in waiting.items() if rows}
            progress("sending", done := done + len(chunk), archive.records)
    return sent


def _partition(row: Row, partitions: int) -> int:
    """Kafka's own choice; a record without a key has no better place than the one it had."""
    return row["partition"] % partitions if row["key"] is None else partition_of(row["key"], partitions)


def _names_a_log(store: SchemaStore, value: bytes) -> bool:
    try:
        return isinstance(store.decode(value), events.LogCreated)
    except SchemaError:
        return False


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    total = 0
    for row in rows:
        chunk.append(row)
        total += len(row["value"])
        if total >= _CHUNK_BYTES:
            yield chunk
            chunk, total = [], 0
    if chunk:
        yield chunk


async def _send(producer: AIOKafkaProducer, partition: TopicPartition, rows: list[Row]) -> asyncio.Future[Any]:
    """Send as many rows as a batch takes, and take them off the list."""
    batch = producer.create_batch()
    count = 0
    while count < len(rows) and batch.append(key=rows[count]["key"], value=rows[count]["value"], timestamp=None):
        count += 1
    if not count:
        raise ArchiveError(f"a record of {len(rows[0]['value'])} bytes is larger than Kafka takes")
    del rows[:count]
    future: asyncio.Future[Any] = await producer.send_batch(batch, partition.topic, partition=partition.partition)
    return future


async def _acknowledged(sent: list[asyncio.Future[Any]], config: Config, archive: Archive, before: int) -> None:
    if not sent:
        return
    _, missing = await asyncio.wait(sent, timeout=2 * _WAIT_SECONDS)
    errors = [TimeoutError() if each in missing or each.cancelled() else each.exception() for each in sent]
    for error in filter(None, errors):
        raise KafkaUnavailable(
            f"Kafka at {config.kafka} has not taken all of {archive.file} ({type(error).__name__}: {error}): "
            f"{before} of {archive.records} records are there for sure; run the import again, the fold skips them"
        ) from error
