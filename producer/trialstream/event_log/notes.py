"""Notes: records that stand for offsets without a readable event, made by this process and never sent.

Not each offset of a log holds an event: Kafka counts the markers of transactions, an aborted record stays in its place,
and a batch may be unreadable. In place of each such part of a partition, fetches of this process return one record with
a note (`screening.py`). Its offset is the last one of the part, so a reader that handles one record after the other
reaches the end of what can be read, and sees that nothing is missing between two records.

A note is the only header of its record. Its name holds a random number of this process, so no record of a topic looks
like one.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from trialstream_schemas.errors import LogMismatch

__all__ = ["Header", "Note", "NotedRecord", "header_of", "note_batch", "note_of", "notes_of", "rebased"]

Header: TypeAlias = tuple[str, bytes | None]

_NAME = f"trialstream.note.{secrets.token_hex(16)}"
_FIRST = struct.Struct(">q")
# Above the size of any note: aiokafka refuses a record that does not fit, unless its offset is that of the batch.
_BATCH_BYTES = 65_536


class NotedRecord(Protocol):
    """A record that may have a note."""

    @property
    def offset(self) -> int:
        """Offset of the record."""

    @property
    def headers(self) -> Sequence[Header]:
        """Headers of the record."""


class Note(NamedTuple):
    """Description of the offsets that a record stands for.

    Attributes:
        first: The first of the offsets; the last one is that of the record.
        reason: Why their records cannot be read, for a dead letter; None if there are no records to read, as in an
            aborted transaction.
    """

    first: int
    reason: str | None


def header_of(note: Note) -> Header:
    """The header that holds a note."""
    reason = b"" if note.reason is None else note.reason.encode(errors="backslashreplace")
    return _NAME, _FIRST.pack(note.first) + reason


def note_of(record: NotedRecord) -> Note | None:
    """The note of a record; None for a record of the topic.

    Args:
        record: A record that aiokafka or `fetch` returned.
    """
    if len(record.headers) != 1:
        return None
    [(name, value)] = record.headers
    if name != _NAME or value is None:
        return None
    [first] = _FIRST.unpack_from(value)
    return Note(first, value[_FIRST.size :].decode() or None)


def notes_of(records: Sequence[NotedRecord], following: int, partition: TopicPartition) -> dict[int, Note]:
    """The notes of the records of a partition, after a check that nothing is missing before or between the records.

    Args:
        records: The records, in the order of their offsets; at least one.
        following: The offset that is expected first.
        partition: The partition, for messages.

    Returns:
        The notes of the records that have one, by their position.

    Raises:
        LogMismatch: An offset is missing, and no note stands for it: the log was compacted; the message names the topic
            and the offsets.
    """
    notes: dict[int, Note] = {}
    if records[-1].offset - following == len(records) - 1 and not any([record.headers for record in records]):
        return notes
    for position, record in enumerate(records):
        note = note_of(record)
        if note is not None:
            notes[position] = note
        if (record.offset if note is None else note.first) > following:
            raise LogMismatch(
                f"{partition.topic}/{partition.partition}: expected offset {following}, got {record.offset}: records "
                "of the log are lost"
            )
        following = record.offset + 1
    return notes


def note_batch(note: Note, last: int, timestamp: int) -> bytes:
    """A batch with one record, which has a note.

    Args:
        note: The note.
        last: Offset of the record.
        timestamp: Append time of the record, milliseconds since 1970 UTC.
    """
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, _BATCH_BYTES)
    builder.append(last - note.first, timestamp, None, None, [header_of(note)])
    return rebased(builder.build(), note.first)


def rebased(batch: bytearray, base: int) -> bytes:
    """Set the first offset of a batch, which its checksum does not cover.

    Args:
        batch: A batch that aiokafka has built.
        base: The offset.
    """
    struct.pack_into(">q", batch, 0, base)
    return bytes(batch)
