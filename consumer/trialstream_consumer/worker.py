"""The worker of a partition: folds its records into a projection, batch by batch.

The service and the replays use the same worker, so that they make the same documents.

- A batch is decoded and folded in memory, and written in one transaction (`projection/store.py`).
- After any failure the worker drops its state and reads the checkpoint: only the checkpoint records what was folded.
- Every record is folded or becomes a dead letter: a batch that fails is divided until the failing record is alone.
"""

from __future__ import annotations

import gc
import time
from bisect import bisect_left
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import anyio
import anyio.lowlevel
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from trialstream.config import Config
from trialstream.event_log.fetch import fetch
from trialstream.event_log.notes import notes_of
from trialstream.event_log.schemas import SchemaTopic
from trialstream_schemas.errors import LogMismatch, MongoUnavailable, SchemaError, UnknownSchema
from trialstream_schemas.messages import shortened
from trialstream_schemas.wire.events import Event
from trialstream_schemas.wire.limits import MAX_RECORD_BYTES
from trialstream_schemas.wire.rows import RowRun, apart

from trialstream_consumer.fold import (
    Changes,
    Decoded,
    FoldFault,
    State,
    first_events,
    fold_in_steps,
    footprint,
    needs,
    row_groups,
    single_groups,
)
from trialstream_consumer.projection.client import Unwritable
from trialstream_consumer.projection.dead_letters import DeadLetter
from trialstream_consumer.projection.ownership import Checkpoint
from trialstream_consumer.projection.store import Oversized, Store
from trialstream_consumer.routing import misplacement

__all__ = ["FETCH_SETTINGS", "RETRY_SECONDS", "PartitionWorker", "check_range", "raise_gc_threshold"]

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"

# Settings of a Kafka consumer that folds. aiokafka has one fetch in flight per broker, and new records of a partition
# whose records are being folded wait until that fetch returns, here 25 ms at most. At 10 ms an idle broker used a
# quarter of a core. The fetches of an idle consumer service are longer (`trialstream.event_log.idling`).
FETCH_SETTINGS = {"fetch_max_wait_ms": 25, "max_partition_fetch_bytes": 3 * 1024 * 1024}
RETRY_SECONDS = 1.0
# Maximum number of records of a batch, which is one transaction. Rows of few trials are folded in few groups, and the
# more of them are in a batch, the fewer documents are written again: measured, rows of 1,000 trials are folded at twice
# the rate. A transaction of many other events could exceed its time limit.
_BATCH_RECORDS = 4000
_ROWS_RECORDS = 16_000
# Number of groups up to which a batch counts as one of rows.
_ROWS_GROUPS = 2000
# Bytes of the records of a batch: what is decoded from them, and a transaction of their dead letters, stay bounded too.
# A fetch is smaller unless it is compressed.
_BATCH_BYTES = 8 * 1024 * 1024
# Bounds of the state, which is a cache of the documents: beyond them, the state is dropped and read again as needed.
# The bytes are those of the documents in MongoDB: of a partition, and of all partitions of a process together.
_CACHED_ITEMS = 8192
_CACHED_BYTES = 128 * 1024 * 1024
_ALL_CACHED_BYTES = 1024 * 1024 * 1024
# Maximum bytes of the documents that are loaded for a batch of several records.
_LOADED_BYTES = 64 * 1024 * 1024
# Number of records, and bytes of loaded documents, between two checks of these bounds: with thousands of trials a check
# takes milliseconds, a fifth of the time of a batch without frames.
_CHECKED_RECORDS = 1000
_CHECKED_BYTES = 32 * 1024 * 1024
# How long the fold of a batch holds the event loop, seconds; one event may take longer.
_HELD_SECONDS = 0.05
# Number of dead letters of a batch that are logged one by one: `trialstream dead-letters` lists all.
_LOGGED_DEAD_LETTERS = 100
# Above the number of objects that a batch of frames allocates.
_GC_THRESHOLD = 200_000


def raise_gc_threshold() -> None:
    """Raise the threshold of this process's garbage collector, for a process that folds.

    A batch allocates some ten thousand objects that live until its end, and no cycles. At the default threshold of 700
    there are many collections in a batch, and each visits these objects again. Measured: with the higher threshold,
    decoding frames of one row takes a third less time.
    """
    gc.set_threshold(_GC_THRESHOLD)


@dataclass
class _Batch:
    """Successive records of a partition, decoded.

    Attributes:
        records: The records.
        decoded: For each record, its event or the run of its row, or the reason why the record becomes a dead letter,
            or None if its offsets hold no event.
        poisoned: Offset → reason why the event of the record cannot be folded or written.
        singly: True after a row group failed: the events are then folded one by one, to isolate the failing event.
    """

    records: list[Record]
    decoded: Sequence[Event | RowRun | str | None]
    poisoned: dict[int, str] = field(default_factory=dict)
    singly: bool = False

    @property
    def start(self) -> int:
        """Offset of the first record."""
        return int(self.records[0].offset)

    @property
    def end(self) -> int:
        """Offset after the last record."""
        return int(self.records[-1].offset) + 1

    def from_offset(self, offset: int) -> _Batch:
        """Return the part that begins at an offset."""
        done = bisect_left(self.records, offset, key=lambda record: record.offset)
        return replace(self, records=self.records[done:], decoded=apart(self.decoded)[done:] if done else self.decoded)

    def half(self) -> _Batch:
        """Return the first half, of at least one record."""
        return self.first((len(self.records) + 1) // 2)

    def first(self, count: int) -> _Batch:
        """Return the first records."""
        return replace(self, records=self.records[:count], decoded=apart(self.decoded)[:count])


class PartitionWorker:
    """Folds one partition that this process has taken over.

    Args:
        consumer: Kafka consumer that has the partition assigned, made with `FETCH_SETTINGS`. Only this worker reads the
            partition, and if a wait for records ends without any, it waits again at the same offset or ends.
        schemas: Schemas of the log.
        store: Store of the projection.
        checkpoint: Checkpoint from which to continue, as `Ownership.acquire` returned it.
        log: Logger for dead letters and failures.
        config: Settings with the names of the topics.
        partitions: Number of partitions of the trials topic.

    Attributes:
        checkpoint: Checkpoint after the last batch that was written.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        schemas: SchemaTopic,
        store: Store,
        checkpoint: Checkpoint,
        log: structlog.BoundLogger,
        *,
        config: Config,
        partitions: int,
    ) -> None:
        self._consumer = consumer
        self._schemas = schemas
        self._store = store
        self.checkpoint = checkpoint
        self._log = log
        self._config = config
        self._partitions = partitions
        self._partition = TopicPartition(checkpoint.topic, checkpoint.partition)
        self._state = State()
        # Maximum number of records of the next batch.
        self._records = _BATCH_RECORDS
        # The offset, and the bytes loaded since, at the last check of the state's size.
        self._checked, self._loaded = checkpoint.offset, 0
        store.workers.add(self)

    async def begin(self) -> None:
        """Check that the log still contains the next offset, and seek to it.

        Raises:
            LogMismatch: The log does not contain the next offset; the message names the topic and the offsets.
        """
        await check_range(self._consumer, [self.checkpoint])
        self._consumer.seek(self._partition, self.checkpoint.offset)

    async def fold_next(self, seconds: float, end: int | None = None) -> int:
        """Fold the next batch.

        Args:
            seconds: How long to wait for records.
            end: Offset at which to stop: neither this record nor a later one is folded. None for no limit.

        Returns:
            Number of offsets by which the checkpoint was advanced; 0 if no record arrived in time.

        Raises:
            Fenced: Another consumer has taken over the partition.
            LogMismatch: The log lacks an offset after the next one.
            KafkaError: The log lacks the next offset, or its next batch is damaged so that the offsets are unknown.
            MongoUnavailable: MongoDB did not answer, so it is unknown whether the batch was written: take the partition
                over again.
        """
        fetched = await self._consumer.getmany(
            self._partition, timeout_ms=int(1000 * seconds), max_records=self._records
        )
        records = fetched.get(self._partition)
        if not records:
            return 0
        following = self.checkpoint.offset
        notes = notes_of(records, following, self._partition)
        if end is not None and records[-1].offset >= end:
            records = [each for each in records if each.offset < end]
            self._consumer.seek(self._partition, end)
            if not records:  # the offsets up to the end hold no event
                self.checkpoint = await self._store.write(self.checkpoint, end, State(), [])
                return end - following
        reasons = {records[i].offset: each.reason for i, each in notes.items() if i < len(records)}
        async with self._store.turns:
            for some in _cut(records, _BATCH_BYTES):
                async with aclosing(self._decoded(some, reasons)) as batches:
                    async for batch in batches:
                        while self.checkpoint.offset < batch.end:
                            await self._write(batch.from_offset(self.checkpoint.offset))
                            self._bound_state()
        return self.checkpoint.offset - following

    def _bound_state(self) -> None:
        """Drop the state if it is too large; it is measured now and then."""
        if self.checkpoint.offset - self._checked >= _CHECKED_RECORDS or self._loaded >= _CHECKED_BYTES:
            self._checked, self._loaded = self.checkpoint.offset, 0
            entries, size = footprint(self._state)
            if entries > _CACHED_ITEMS or size > min(_CACHED_BYTES, _ALL_CACHED_BYTES // len(self._store.workers)):
                self._state = State()

    async def _decoded(self, records: list[Record], reasons: Mapping[int, str | None]) -> AsyncGenerator[_Batch, None]:
        """Decode records in parts, nearly always one.

        A part is folded before the next one is decoded: no batch holds the event loop, with SIGTERM and heartbeats, or
        takes memory for longer than a part does.

        Args:
            records: The records.
            reasons: For the offset of each record with a note, its reason.
        """
        done, refreshed = 0, False
        while done < len(records):
            for found in self._schemas.schemas.decode_parts([record.value or b"" for record in records[done:]]):
                if not refreshed and any([isinstance(each, UnknownSchema) for each in found]):
                    # A schema is published before it is used: one refresh covers all records of the batch.
                    await self._schemas.refresh()
                    refreshed = True
                    break
                part = records[done : done + len(found)]
                done += len(part)
                decoded: list[Event | RowRun | str | None] = [*self._placed(part, found)]
                if reasons:
                    decoded = [reasons.get(record.offset, x) for record, x in zip(part, decoded, strict=True)]
                yield _Batch(part, decoded)

    def _placed(
        self, records: list[Record], found: Sequence[Event | RowRun | SchemaError]
    ) -> list[Event | RowRun | str]:
        """Replace errors, and events that are in the wrong partition, by the reason of their dead letter."""
        wrong: dict[int, str | None] = {}  # by `id` of the run
        decoded: list[Event | RowRun | str] = []
        for position, (each, record) in enumerate(zip(found, records, strict=True)):
            if isinstance(each, SchemaError):
                decoded.append(str(each))
            elif not isinstance(each, RowRun):
                decoded.append(self._misplacement(each, record) or each)
            else:
                if id(each) not in wrong:
                    wrong[id(each)] = self._misplacement(each.frame_at(position), record)
                decoded.append(wrong[id(each)] or each)
        return decoded

    def _misplacement(self, event: Event, record: Record) -> str | None:
        return misplacement(event, record.topic, record.partition, config=self._config, partitions=self._partitions)

    async def _write(self, batch: _Batch) -> None:
        """Fold and write a batch or its first part, and advance the checkpoint to the end of the written part.

        A failed write is retried with a new state as long as this worker owns the checkpoint. Each attempt writes half
        as many records as the previous one, because a transaction that exceeded its time limit would exceed it again.
        """
        while True:
            try:
                dead_letters = await self._fold(batch)
                # A transaction that has begun is finished even on cancellation; its time limit bounds it.
                with anyio.CancelScope(shield=True):
                    written = await self._store.write(self.checkpoint, batch.end, self._state, dead_letters)
            except FoldFault as fault:
                offset = batch.records[fault.group[0]].offset
                self._log.exception("fold_failed", offset=offset, events=len(fault.group), reason=str(fault))
                if len(fault.group) == 1:
                    batch.poisoned[offset] = str(fault)
                batch.singly, batch.decoded, self._state = True, apart(batch.decoded), State()
            except Oversized as error:
                batch, self._state = batch.first(max(1, int(error.share * (len(batch.records) - 1)))), State()
            except Unwritable as error:
                self._log.error("unwritable", offset=batch.start, events=len(batch.records), reason=str(error))
                if len(batch.records) == 1:
                    batch.poisoned[batch.start] = str(error)
                batch, self._state = batch.half(), State()
            except MongoUnavailable as error:
                self._log.warning("write_failed", offset=batch.start, events=len(batch.records), reason=str(error))
                await anyio.sleep(RETRY_SECONDS)
                self._state = State()
                current = await self._store.ownership.current(self.checkpoint)
                if current.offset == batch.end:  # the transaction was committed after all
                    self.checkpoint = current
                    return
                batch = batch.half()
            else:
                self._state.changes = Changes()
                self.checkpoint = written
                for each in dead_letters[:_LOGGED_DEAD_LETTERS]:
                    self._log.warning("dead_letter", offset=each.offset, reason=each.reason)
                if further := dead_letters[_LOGGED_DEAD_LETTERS:]:
                    self._log.warning("more_dead_letters", offset=further[0].offset, count=len(further))
                self._log.debug("folded", offset=written.offset, events=len(batch.records))
                return

    async def _fold(self, batch: _Batch) -> list[DeadLetter]:
        dead = {position: each for position, each in enumerate(batch.decoded) if isinstance(each, str)}
        if batch.poisoned:
            offsets = {record.offset: position for position, record in enumerate(batch.records)}
            dead |= {offsets[offset]: reason for offset, reason in batch.poisoned.items() if offset in offsets}
        events: list[Decoded] = [None if isinstance(each, str) else each for each in batch.decoded]
        for position in dead:
            events[position] = None
        groups = single_groups(events) if batch.singly else row_groups(events)
        self._records = _ROWS_RECORDS if len(groups) <= _ROWS_GROUPS else _BATCH_RECORDS
        most = _LOADED_BYTES if len(batch.records) > 1 else None
        self._loaded += await self._store.load(self._state, needs(first_events(events, groups)), most)
        refused: list[tuple[int, str]] = []
        state, self._state = self._state, State()  # one that is folded in part is dropped on cancellation
        begun = time.monotonic()
        for _ in fold_in_steps(state, events, groups, refused):
            if time.monotonic() - begun > _HELD_SECONDS:
                await anyio.lowlevel.checkpoint()  # signals, heartbeats and other partitions have their turn
                begun = time.monotonic()
        self._state = state
        dead |= dict(refused)
        return [_dead_letter(batch.records[position], reason) for position, reason in sorted(dead.items())]


def _dead_letter(record: Record, reason: str) -> DeadLetter:
    # Cut, because a document holds 16 MiB, and a compressed batch may contain records of any size.
    value = (record.value or b"")[:MAX_RECORD_BYTES]
    text = shortened(reason.encode(errors="backslashreplace").decode())  # MongoDB stores no lone surrogate
    return DeadLetter(record.topic, record.partition, record.offset, text, record.timestamp, value)


async def check_range(consumer: AIOKafkaConsumer, checkpoints: Iterable[Checkpoint]) -> None:
    """Check that the log contains the offset of each checkpoint, or ends exactly at that offset.

    Args:
        consumer: Any consumer of the log.
        checkpoints: The checkpoints.

    Raises:
        LogMismatch: The log ends before a checkpoint's offset, or begins after it, so records were lost; the message
            names the topic and the offsets.
    """
    found = {TopicPartition(each.topic, each.partition): each for each in checkpoints}
    begins = await consumer.beginning_offsets(list(found))
    ends = await consumer.end_offsets(list(found))
    for partition, checkpoint in found.items():
        end = ends[partition]
        if checkpoint.offset > end:  # an earlier version has folded what a transaction that is open holds up now
            with suppress(OffsetOutOfRangeError):
                end = (await fetch(consumer._client, partition, checkpoint.offset, 1)).end  # noqa: SLF001
        if not begins[partition] <= checkpoint.offset <= end:
            raise LogMismatch(
                f"{checkpoint.id} is folded up to offset {checkpoint.offset}, but the log contains offsets from "
                f"{begins[partition]} to {end}"
            )


def _cut(records: list[Record], most: int) -> Iterator[list[Record]]:
    """Cut records into parts of at most so many bytes, or of one record."""
    start = size = 0
    for position, record in enumerate(records):
        taken = len(record.value or b"")
        if position > start and size + taken > most:
            yield records[start:position]
            start, size = position, 0
        size += taken
    yield records[start:] if start else records
