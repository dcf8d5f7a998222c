"""From the log into an archive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from trialstream.config import Config
from trialstream.log.clients import open_admin, open_consumer
from trialstream_schemas.errors import KafkaUnavailable, LogMismatch, SchemaError
from trialstream_schemas.wire import events
from trialstream_schemas.wire.codec import SchemaStore

from trialstream_consumer.archive.file import ArchiveError, Progress, Row, new_archive, store_of
from trialstream_consumer.archive.selection import Members, Selection

__all__ = ["Exported", "export_log"]

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"

_WAIT_SECONDS = 30.0


@dataclass
class Exported:
    """What was written: records by topic, schemas, and records left out because nobody can tell whose they are."""

    records: dict[str, int] = field(default_factory=lambda: {"registry": 0, "trials": 0})
    schemas: int = 0
    unreadable: int = 0


async def export_log(
    config: Config, file: Path, selection: Selection, progress: Progress, *, force: bool = False
) -> Exported:
    """Write the log, as far as it reaches now, or a part of it.

    Raises:
        ArchiveError: the file exists already or cannot be written, or there is nothing to write.
        KafkaUnavailable: Kafka does not answer.
        LogMismatch: a part of the log is missing.
    """
    _refuse_existing(file, force=force)
    exported = Exported()
    async with open_consumer(config) as consumer:
        ends = await _ends(consumer, config)
        texts = await _schemas(consumer, config)  # after the ends: a schema is published before it is used
        store, members = store_of(texts), Members(selection)
        total, done = sum(ends.values()), 0

        def decoded(record: Record) -> events.Event | None:
            try:
                return store.decode(record.value or b"")
            except SchemaError:
                return None

        if selection != Selection():
            async for record in _records(consumer, ends):
                members.add(decoded(record), record.timestamp)
                progress("looking for what to keep", done := done + 1, total)
            members.settle()
            done = 0
        source = {"prefix": config.prefix, "partitions": len(ends) - 1, "selection": asdict(selection)}
        exported.schemas = len(texts)
        with new_archive(file, texts, source) as write:
            async for record in _records(consumer, ends):
                progress("writing", done := done + 1, total)
                if selection != Selection():
                    event = decoded(record)
                    if not members.keeps(event, record.timestamp):
                        exported.unreadable += event is None and members.of_subjects
                        continue
                kind = "registry" if record.topic == config.registry_topic else "trials"
                write(_row(kind, record))
                exported.records[kind] += 1
            if selection.trial is not None and not members.trials:
                raise ArchiveError(f"nothing to export: the log has no events of trial {selection.trial} in that time")
            # The first record of the registry is always kept.
            if selection.project is not None and sum(exported.records.values()) <= 1:
                raise ArchiveError(f"nothing to export: the log has no project {selection.project!r} in that time")
    return exported


def _row(kind: str, record: Record) -> Row:
    place = {"topic": kind, "partition": record.partition, "offset": record.offset}
    return {**place, "timestamp": record.timestamp, "key": record.key, "value": record.value or b""}


def _refuse_existing(file: Path, *, force: bool) -> None:
    if file.exists() and not force:
        raise ArchiveError(f"{file} exists already: name another file, or give --force to replace it")


async def _ends(consumer: AIOKafkaConsumer, config: Config) -> dict[TopicPartition, int]:
    """By partition, registry first, the offset behind its last record."""
    topics = [config.registry_topic, config.trials_topic]
    async with open_admin(config) as admin:
        if missing := {*topics, config.schemas_topic} - set(await admin.list_topics()):
            raise ArchiveError(f"there is no log to export: Kafka at {config.kafka} has no topic {min(missing)}")
        described = {each["topic"]: each["partitions"] for each in await admin.describe_topics(topics)}
    partitions = [TopicPartition(topic, number) for topic in topics for number in range(len(described[topic]))]
    for partition, begin in (await consumer.beginning_offsets(partitions)).items():
        if begin:
            raise LogMismatch(
                f"{partition.topic}/{partition.partition} begins at offset {begin} and not at 0: its beginning is lost"
            )
    ends = await consumer.end_offsets(partitions)
    if not ends[partitions[0]]:
        raise ArchiveError(f"there is no log to export: {config.registry_topic} is empty")
    return {each: ends[each] for each in partitions}


async def _arriving(consumer: AIOKafkaConsumer, partition: TopicPartition) -> list[Record]:
    fetched = await consumer.getmany(partition, timeout_ms=int(_WAIT_SECONDS * 1000), max_records=2000)
    if partition not in fetched:
        raise KafkaUnavailable(f"Kafka has sent nothing of {partition.topic} for {_WAIT_SECONDS:g} s: is it running?")
    return fetched[partition]


async def _records(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> AsyncIterator[Record]:
    for partition, end in ends.items():
        consumer.assign([partition])
        consumer.seek(partition, 0)
        expected = 0
        while expected < end:
            for record in await _arriving(consumer, partition):
                if record.offset != expected:
                    raise LogMismatch(f"{partition.topic}/{partition.partition} lacks offset {expected}")
                expected += 1
                yield record
                if expected == end:
                    break


async def _schemas(consumer: AIOKafkaConsumer, config: Config) -> dict[bytes, bytes]:
    partition = TopicPartition(config.schemas_topic, 0)
    end = (await consumer.end_offsets([partition]))[partition]
    consumer.assign([partition])
    consumer.seek(partition, 0)
    store, found = SchemaStore(), {}
    # Compaction leaves no record for every offset, so the position counts, not the records.
    while await consumer.position(partition) < end:
        for record in await _arriving(consumer, partition):
            try:
                found[store.add(record.value or b"")] = record.value or b""
            except SchemaError:
                continue  # nobody can read it, so nobody could write with it
    return found
