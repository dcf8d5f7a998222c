"""Export: copies the log, or a selected part of it, into an archive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

import anyio
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError
from trialstream.config import Config
from trialstream.event_log.clients import open_client, open_consumer
from trialstream.event_log.ends import readable_ends
from trialstream.event_log.notes import note_of, notes_of
from trialstream.event_log.schemas import SchemaTopic
from trialstream.event_log.topics import find_partitions
from trialstream.waiting import waiting_for
from trialstream_schemas.errors import KafkaUnavailable, LogMismatch, SchemaError
from trialstream_schemas.wire import events
from trialstream_schemas.wire.codec import SchemaStore

from trialstream_consumer.archive.file import ArchiveError, new_archive
from trialstream_consumer.archive.records import LoggedRecord, fits_batch
from trialstream_consumer.archive.selection import Members, Selection
from trialstream_consumer.progress import Progress

__all__ = ["Exported", "export_log"]

_Record: TypeAlias = "ConsumerRecord[bytes, bytes]"

# Maximum wait for the next record of a partition whose end is not reached.
_WAIT_SECONDS = 30.0
_FETCHED_RECORDS = 2000


@dataclass
class Exported:
    """Result of an export.

    Attributes:
        records: Number of records written, by topic: `registry` and `trials`.
        schemas: Number of schemas written.
        unreadable: Number of records left out because they cannot be decoded: their trial or project is unknown.
        damaged: Number of batches and records left out because they cannot be read at all; in the log that is exported,
            they are dead letters.
        too_large: Number of records left out because they fit no batch of Kafka.
    """

    records: dict[str, int] = field(default_factory=lambda: {"registry": 0, "trials": 0})
    schemas: int = 0
    unreadable: int = 0
    damaged: int = 0
    too_large: int = 0


async def export_log(
    config: Config, file: Path, selection: Selection, progress: Progress, *, force: bool = False
) -> Exported:
    """Write the log up to its present end, or a selected part of it, to a file.

    Args:
        config: Settings with the address of Kafka and the names of the topics.
        file: Path of the file.
        selection: The part to write; a `Selection` without conditions selects all.
        progress: Called after each record.
        force: Whether to replace an existing file.

    Returns:
        The numbers of records and schemas that were written or left out.

    Raises:
        ArchiveError: The file exists already or cannot be written, or there is nothing to write.
        KafkaUnavailable: No broker answered, or a transaction of another program holds a part of the log up.
        LogMismatch: A part of the log is missing.
    """
    _refuse_existing(file, force=force)
    exported = Exported()
    async with open_consumer(config) as consumer:
        ends = await _ends(consumer, config)
        # After the ends: a schema is published before the first event that is written with it.
        schemas, texts = await _schemas(config)
        members = None
        if selection != Selection():
            members = await _members(consumer, ends, selection, schemas, progress)
        source = {"prefix": config.prefix, "partitions": len(ends) - 1, "selection": asdict(selection)}
        exported.schemas = len(texts)
        total, done = sum(ends.values()), 0
        with new_archive(file, texts, source) as write:
            async for record in _records(consumer, ends):
                progress("writing", done := done + 1, total)
                if (note := note_of(record)) is not None:
                    exported.damaged += note.reason is not None
                    continue
                if not fits_batch(record.key, record.value):
                    exported.too_large += 1
                    continue
                if members is not None:
                    event = _decoded(schemas, record)
                    if not members.keeps(event, record.timestamp):
                        exported.unreadable += event is None and members.of_subjects
                        continue
                topic = "registry" if record.topic == config.registry_topic else "trials"
                write(_logged_record(topic, record))
                exported.records[topic] += 1
            if members is not None:
                _check_found(selection, members, exported)
    return exported


def _refuse_existing(file: Path, *, force: bool) -> None:
    if file.exists() and not force:
        raise ArchiveError(f"{file} exists already: give another file, or --force to replace this file")
    if file.exists() and not file.is_file():
        raise ArchiveError(f"{file}: expected a file to replace, got a folder, a FIFO or a device")


async def _members(
    consumer: AIOKafkaConsumer,
    ends: dict[TopicPartition, int],
    selection: Selection,
    schemas: SchemaStore,
    progress: Progress,
) -> Members:
    """Read the log once, to find the trials, groups and projects that the selection keeps."""
    members = Members(selection)
    total, done = sum(ends.values()), 0
    async for record in _records(consumer, ends):
        if note_of(record) is None:
            members.add(_decoded(schemas, record), record.timestamp)
        progress("selecting", done := done + 1, total)
    members.settle()
    return members


def _check_found(selection: Selection, members: Members, exported: Exported) -> None:
    """Refuse an export that has no event of the selected trial or project."""
    if selection.trial is not None and not members.trials:
        raise ArchiveError(f"nothing to export: the log has no events of trial {selection.trial} in the selected time")
    # The first record of the registry is always kept.
    if selection.project is not None and sum(exported.records.values()) <= 1:
        raise ArchiveError(f"nothing to export: the log has no project {selection.project!r} in the selected time")


def _decoded(schemas: SchemaStore, record: _Record) -> events.Event | None:
    """The event of a record; None if the record cannot be decoded."""
    try:
        return schemas.decode(record.value or b"")
    except SchemaError:
        return None


def _logged_record(topic: str, record: _Record) -> LoggedRecord:
    place = {"topic": topic, "partition": record.partition, "offset": record.offset}
    return {**place, "timestamp": record.timestamp, "key": record.key, "value": record.value or b""}


async def _ends(consumer: AIOKafkaConsumer, config: Config) -> dict[TopicPartition, int]:
    """The offset after the last record of each partition, the registry first."""
    topics = [config.registry_topic, config.trials_topic]
    async with open_client(config) as client:
        counts = await find_partitions(client, [*topics, config.schemas_topic])
        for name, count in counts.items():
            if count is None:
                raise TopicAuthorizationFailedError(name)
            if not count:
                raise ArchiveError(f"there is no log to export: Kafka at {config.kafka} has no topic {name}")
    partitions = [TopicPartition(topic, number) for topic in topics for number in range(counts[topic] or 0)]
    for partition, begin in (await consumer.beginning_offsets(partitions)).items():
        if begin:
            raise LogMismatch(
                f"{partition.topic}/{partition.partition}: expected 0 as the first offset, got {begin}: the first "
                "records are lost"
            )
    ends = await readable_ends(config, consumer, partitions, _WAIT_SECONDS)
    if not ends[partitions[0]]:
        raise ArchiveError(f"there is no log to export: {config.registry_topic} is empty")
    return {each: ends[each] for each in partitions}


async def _schemas(config: Config) -> tuple[SchemaStore, dict[bytes, bytes]]:
    """The schemas of the log: a store that decodes events with them, and fingerprint → JSON."""
    with anyio.move_on_after(_WAIT_SECONDS):
        async with SchemaTopic(config) as topic:
            return topic.schemas, topic.texts
    raise KafkaUnavailable(_silent(config.schemas_topic))


async def _records(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> AsyncIterator[_Record]:
    """All records before the ends, also those with notes, partition by partition, in the order of their offsets."""
    for partition, end in ends.items():
        consumer.assign([partition])
        consumer.seek(partition, 0)
        expected = 0
        while expected < end:
            with waiting_for(f"records of {partition.topic} from Kafka"):
                fetched = await consumer.getmany(
                    partition, timeout_ms=int(_WAIT_SECONDS * 1000), max_records=_FETCHED_RECORDS
                )
            if partition not in fetched:
                raise KafkaUnavailable(_silent(partition.topic))
            notes_of(fetched[partition], expected, partition)
            for record in fetched[partition]:
                expected = record.offset + 1
                if expected > end:
                    break
                yield record


def _silent(topic: str) -> str:
    return f"Kafka has sent no record of {topic} for {_WAIT_SECONDS:g} s: check that Kafka runs"
