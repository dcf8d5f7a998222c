"""Import: appends the records of an archive to a log."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from trialstream.config import Config
from trialstream.event_log.clients import open_batch_producer
from trialstream.event_log.diagnosis import missing_right
from trialstream.event_log.topics import ensure_topics, partition_of, publish_schemas
from trialstream.waiting import waiting_for
from trialstream_schemas.errors import KafkaUnavailable, SchemaError
from trialstream_schemas.messages import counted
from trialstream_schemas.wire import events
from trialstream_schemas.wire.codec import SchemaStore

from trialstream_consumer.archive.file import Archive
from trialstream_consumer.archive.records import LoggedRecord, fits_batch
from trialstream_consumer.progress import Progress

__all__ = ["import_archive"]

# Bytes of the values in a chunk of records: one chunk is in memory at a time.
_CHUNK_BYTES = 4_000_000
_REQUEST_SECONDS = 30.0
# Maximum length of a key that is hashed, bytes: trialstream writes shorter ones, and the hash takes 0.3 s a megabyte.
_KEY_BYTES = 4096


async def import_archive(config: Config, archive: Archive, progress: Progress) -> dict[str, int]:
    """Append the records of an archive to the log, except the identity of the log from which they were exported.

    An import that is repeated, for example after an interruption, sends records again; the fold skips repetitions.

    Args:
        config: Settings with the address of Kafka and the names of the topics.
        archive: An archive that `Archive.check` returned.
        progress: Called after each chunk of records.

    Returns:
        Number of records sent, by topic: `registry` and `trials`; and of those left out because they are larger than a
        batch of Kafka: `too large`.

    Raises:
        ArchiveError: The file was changed since it was checked.
        KafkaUnavailable: Kafka did not acknowledge all records.
        LogMismatch: The log has lost its first records, or has another partition count than when it was created.
        SchemaError: The archive holds a schema that cannot be read.
    """
    schemas = SchemaStore.of(archive.schemas)
    log = await ensure_topics(config)
    await publish_schemas(config, archive.schemas)
    sent = {"registry": 0, "trials": 0, "too large": 0}
    done = 0
    async with open_batch_producer(config, _REQUEST_SECONDS) as producer:
        for chunk in _chunks(archive.logged_records()):
            waiting: dict[TopicPartition, list[LoggedRecord]] = defaultdict(list)
            for record in chunk:
                if not fits_batch(record["key"], record["value"]):
                    sent["too large"] += 1
                elif record["topic"] == "trials":
                    waiting[TopicPartition(config.trials_topic, _partition(record, log.partitions))].append(record)
                elif not _is_identity(schemas, record["value"]):
                    waiting[TopicPartition(config.registry_topic, 0)].append(record)
            for partition, records in waiting.items():
                sent["registry" if partition.topic == config.registry_topic else "trials"] += len(records)
            # One batch of each partition is in flight at a time, so a failure leaves a prefix of the records there.
            while waiting:
                batches = [await _send(producer, partition, records) for partition, records in waiting.items()]
                await _wait_acked(batches, config, archive, done)
                waiting = {partition: records for partition, records in waiting.items() if records}
            progress("sending", done := done + len(chunk), archive.records)
    return sent


def _partition(record: LoggedRecord, partitions: int) -> int:
    """The partition of a record: by its key, if trialstream may have written it; otherwise the former one, modulo."""
    key = record["key"]
    return record["partition"] % partitions if key is None or len(key) > _KEY_BYTES else partition_of(key, partitions)


def _is_identity(schemas: SchemaStore, value: bytes) -> bool:
    try:
        return isinstance(schemas.decode(value), events.LogCreated)
    except SchemaError:
        return False


def _chunks(records: Iterator[LoggedRecord]) -> Iterator[list[LoggedRecord]]:
    chunk: list[LoggedRecord] = []
    total = 0
    for record in records:
        chunk.append(record)
        total += len(record["value"])
        if total >= _CHUNK_BYTES:
            yield chunk
            chunk, total = [], 0
    if chunk:
        yield chunk


async def _send(
    producer: AIOKafkaProducer, partition: TopicPartition, records: list[LoggedRecord]
) -> asyncio.Future[Any]:
    """Send as many of the first records as fit in one batch, and remove them from the list."""
    batch = producer.create_batch()
    count = 0
    while count < len(records) and batch.append(
        key=records[count]["key"], value=records[count]["value"], timestamp=None
    ):
        count += 1
    del records[:count]
    future: asyncio.Future[Any] = await producer.send_batch(batch, partition.topic, partition=partition.partition)
    return future


async def _wait_acked(sent: list[asyncio.Future[Any]], config: Config, archive: Archive, acked: int) -> None:
    """Wait until Kafka has acknowledged all records that were sent.

    Args:
        sent: Futures of the producer.
        config: Settings with the address of Kafka.
        archive: The archive.
        acked: Number of records acknowledged before, for the error message.

    Raises:
        KafkaUnavailable: Kafka answered with an error, or not in time.
    """
    if not sent:
        return
    with waiting_for(f"Kafka at {config.kafka}"):
        _, missing = await asyncio.wait(sent, timeout=2 * _REQUEST_SECONDS)
    errors = [TimeoutError() if each in missing or each.cancelled() else each.exception() for each in sent]
    for error in filter(None, errors):
        reason = missing_right(error, "Write") or f"{type(error).__name__}: {error}"
        raise KafkaUnavailable(
            f"Kafka at {config.kafka} has not acknowledged all of {archive.file} ({reason}): "
            f"the log has at least {acked} of {counted(archive.records, 'record')}; run the import again, the fold "
            "skips repetitions"
        ) from error
