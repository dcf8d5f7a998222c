"""Screening of fetched batches: what is handed on is plain, whole, committed, and of bounded size.

aiokafka unpacks a batch whole before its first record is seen (48 KB of zstd become 1.5 GB), stops for ever at a batch
that it cannot parse, and returns nothing for the offsets of markers. So batches are screened before aiokafka sees them:

- A plain batch that can be parsed stays as it is.
- A compressed batch is unpacked within a limit, and replaced by a plain one with as many of its records as fit a part.
  The others follow with the next fetch, at which the batch is unpacked again.
- What cannot be read, or holds no events, is replaced by a note (`notes.py`).

The same batch gives the same records and notes wherever a fetch begins, and so the same dead letters at each replay.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from trialstream_schemas.wire.limits import MAX_RECORD_BYTES

from trialstream.event_log.checksums import crc32c
from trialstream.event_log.notes import Header, Note, header_of, note_batch, rebased
from trialstream.event_log.unpacking import CODECS, NotUnpacked, unpack

__all__ = ["MAX_BATCH_RECORDS", "MAX_UNPACKED_BYTES", "UNREADABLE", "DamagedBatch", "Piece", "screened"]

MAX_UNPACKED_BYTES = 16 * 1024 * 1024
"""Maximum size of an unpacked batch, bytes: 16 times the largest that the writers of trialstream send, because a tool
that copies a log may compress larger ones."""

MAX_BATCH_RECORDS = 131_072
"""Maximum number of records in a batch, each of which may become a dead letter: 13 times what trialstream sends."""

UNREADABLE = struct.pack(">qi", 0, 0)
"""Stands for a batch whose offsets are unknown. It is shorter than any batch, so aiokafka raises an error for it."""

# Bytes of unpacked batches that one fetch hands on for a partition, but for one record.
_PART_BYTES = 4 * 1024 * 1024
# Unpacked bytes after which the rest of a fetch is left to the next one: 3 MiB may hold 10,000 batches that unpack to
# the limit each.
_WORK_BYTES = 4 * MAX_UNPACKED_BYTES

# Header of a batch: https://kafka.apache.org/documentation/#recordbatch
_HEADER = struct.Struct(">qiibIhiqqqhii")
_OFFSET_END, _LENGTH_END, _CRC_END = 8, 12, 21
_MIN_LENGTH = _HEADER.size - _LENGTH_END
_MAGIC = 2
_CODEC, _TRANSACTIONAL, _CONTROL = 0x07, 0x10, 0x20


class DamagedBatch(Exception):
    """A batch has another checksum than when the broker took it."""


class Piece(NamedTuple):
    """A piece of what is handed on.

    Attributes:
        data: Whole batches; a view of the fetched ones if they are unchanged.
        work: Number of bytes that were unpacked to make it.
    """

    data: bytes | memoryview
    work: int = 0


class _Unreadable(Exception):
    """A batch cannot be read; the message says why."""


class _Batch(NamedTuple):
    """A batch: all its bytes, and the fields of its header."""

    view: memoryview
    first: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_delta: int
    first_time: int
    time: int
    producer: int
    producer_epoch: int
    sequence: int
    records: int

    @property
    def last(self) -> int:
        """Offset of the last record."""
        return self.first + self.last_delta

    def is_intact(self) -> bool:
        """Whether the checksum is right, which covers all that follows it."""
        return self.magic == _MAGIC and self.length >= _MIN_LENGTH and crc32c(self.view[_CRC_END:]) == self.crc

    def has_place(self, position: int, following: memoryview) -> bool:
        """Whether the offsets of a damaged batch can be its own.

        Args:
            position: The offset that was expected: one of this batch, or of an earlier one.
            following: The bytes after the batch, which begin with the offset of the next one.
        """
        limit = self.first + MAX_BATCH_RECORDS
        if len(following) >= _OFFSET_END:
            limit = min(limit, int.from_bytes(following[:_OFFSET_END], "big", signed=True))
        return self.magic == _MAGIC and self.length >= _MIN_LENGTH and position <= self.last < limit


class _Aborted:
    """The transactions that were aborted in a part of a partition.

    Args:
        transactions: The id of the producer, and the first offset of each.
    """

    def __init__(self, transactions: Iterable[tuple[int, int]]) -> None:
        self._waiting = sorted(((first, producer) for producer, first in transactions), reverse=True)
        self._producers: set[int] = set()

    def has(self, batch: _Batch) -> bool:
        """Whether a batch holds no events: it is aborted, or the marker at the end of a transaction.

        Args:
            batch: A later batch than that of the last call.
        """
        while self._waiting and self._waiting[-1][0] <= batch.first:
            self._producers.add(self._waiting.pop()[1])
        if batch.attributes & _CONTROL:
            self._producers.discard(batch.producer)
            return True
        return bool(batch.attributes & _TRANSACTIONAL) and batch.producer in self._producers


def screened(data: bytes, position: int, aborted: Iterable[tuple[int, int]], *, damaged: bool) -> Iterator[Piece]:
    """Screen the batches of a partition that a broker has returned.

    Args:
        data: The batches. The last one may be cut off, and is ignored then.
        position: The offset from which on they were requested.
        aborted: The transactions that were aborted: the id of the producer, and the first offset of each.
        damaged: Whether a batch with a wrong checksum is replaced by a note.

    Yields:
        The pieces to hand on, in the order of their offsets.

    Raises:
        DamagedBatch: A batch has a wrong checksum, and `damaged` is false.
    """
    transactions = _Aborted(aborted)
    parts = work = 0
    view = memoryview(data)
    start = unchanged = 0
    is_whole = True
    while is_whole and parts < _PART_BYTES and work < _WORK_BYTES and len(view) - start >= _HEADER.size:
        fields = _HEADER.unpack_from(view, start)
        end = start + _LENGTH_END + fields[1]
        if end > len(view):
            break
        batch = _Batch(view[start:end], *fields)
        is_intact = batch.is_intact()
        if not is_intact and not damaged:
            raise DamagedBatch
        piece: Piece | None
        if not is_intact and not batch.has_place(position, view[end:]):
            piece, is_whole = Piece(UNREADABLE), False
        elif is_intact and batch.attributes & (_TRANSACTIONAL | _CONTROL) and transactions.has(batch):
            piece = Piece(note_batch(Note(batch.first, None), batch.last, batch.time))
        else:
            piece, is_whole = _readable(batch, position, is_intact=is_intact)
        if piece is not None:
            if unchanged < start:
                yield Piece(view[unchanged:start])
            yield piece
            work += piece.work
            parts += len(piece.data)
            unchanged = end
        position = max(position, batch.last + 1)
        start = end
    if unchanged < start:
        yield Piece(view[unchanged:start])


def _readable(batch: _Batch, position: int, *, is_intact: bool) -> tuple[Piece | None, bool]:
    """Return what replaces a batch, None for nothing, and whether that is all of it."""
    work = 0
    try:
        if not is_intact:
            raise _Unreadable("its checksum is wrong")
        if batch.records > MAX_BATCH_RECORDS:
            raise _Unreadable(f"expected at most {MAX_BATCH_RECORDS} records, got {batch.records}")
        if not batch.attributes & _CODEC:
            deque(_records(batch.view), maxlen=0)
            return None, True
        work = MAX_UNPACKED_BYTES
        plain = _unpacked(batch)
        work = len(plain)
        data, is_whole = _part(batch, plain, position)
        return Piece(data, work), is_whole
    except (_Unreadable, NotUnpacked) as error:
        place = f"batch of offsets {batch.first} to {batch.last} ({len(batch.view)} bytes)"
        return Piece(note_batch(Note(batch.first, f"{place}: {error}"), batch.last, batch.time), work), True


def _unpacked(batch: _Batch) -> bytes:
    """Return a plain batch with the same records."""
    if (codec := CODECS.get(batch.attributes & _CODEC)) is None:
        raise _Unreadable(f"there is no codec {batch.attributes & _CODEC}")
    records = unpack(codec, batch.view[_HEADER.size :], MAX_UNPACKED_BYTES)
    plain = batch._replace(length=_MIN_LENGTH + len(records), attributes=batch.attributes & ~_CODEC)
    return _HEADER.pack(*plain[1:]) + records


def _part(batch: _Batch, plain: bytes, position: int) -> tuple[bytes, bool]:
    """Return a batch of the records from a position on, as far as they fit a part, and whether those are all."""
    builder = DefaultRecordBatchBuilder(_MAGIC, 0, 0, -1, -1, -1, _PART_BYTES)
    following = max(batch.first, position)
    is_whole = True
    for record in _records(plain):
        if not is_whole or record.offset < following:
            continue
        key, value, headers = record.key, record.value, list[Header]()
        if (size := len(key or b"") + len(value or b"")) > MAX_RECORD_BYTES:
            reason = f"a record of {size} bytes, and an event can have at most {MAX_RECORD_BYTES}"
            key, value = None, (value or b"")[:MAX_RECORD_BYTES]
            headers = [header_of(Note(record.offset, reason))]
        if builder.append(record.offset - batch.first, record.timestamp, key, value, headers) is None:
            is_whole = False
        else:
            following = record.offset + 1
    if is_whole and following <= batch.last:  # compaction removed the last records
        builder.append(batch.last - batch.first, batch.time, None, None, [header_of(Note(following, None))])
    return rebased(builder.build(), batch.first), is_whole


def _records(data: bytes | memoryview) -> Iterator[Any]:
    try:
        yield from DefaultRecordBatch(data)
    except Exception as error:  # aiokafka lets errors of Python out, such as that of a header whose name is not UTF-8
        raise _Unreadable(f"its records cannot be parsed: {error}") from error
