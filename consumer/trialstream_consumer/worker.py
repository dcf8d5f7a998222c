"""Folds one partition into a projection: the service and a rebuild share it, so that they make the same documents.

A batch is decoded and folded in memory and written in one transaction (`store.py`). Where anything goes wrong the state
is dropped and the checkpoint is asked: that alone says what has been folded.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import anyio
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from trialstream.config import Config
from trialstream.log.schemas import SchemaTopic
from trialstream_schemas.errors import LogMismatch, MongoUnavailable, SchemaError, UnknownSchema
from trialstream_schemas.wire.events import Event
from trialstream_schemas.wire.limits import MAX_RECORD_BYTES

from trialstream_consumer.fold import Changes, FoldFault, State, fold_groups, needs, row_groups, single_groups
from trialstream_consumer.projection.store import Checkpoint, DeadLetter, Store, Unwritable
from trialstream_consumer.routing import misplaced

__all__ = ["FETCHING", "RETRY_SECONDS", "Folding", "check_range", "collect_rarely"]

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"

# What a consumer that folds is made with. aiokafka has one fetch in flight per broker, and what arrives for a partition
# that was being drained waits until that one returns: 25 ms bound how long an event can lie unseen. At 10 ms an idle
# broker took a quarter of a core for it.
FETCHING = {"fetch_max_wait_ms": 25, "max_partition_fetch_bytes": 4 * 1024 * 1024}
RETRY_SECONDS = 1.0
# A batch is one transaction; measured, 4,000 events over 100 trials fold at 130,000 events/s.
_BATCH_RECORDS = 4000
# State is a cache of the documents: past these bounds it is dropped and read again as needed.
_CACHED_ITEMS = 8192
_CACHED_BYTES = 128 * 1024 * 1024
# How often to look: with thousands of trials that takes a millisecond, a fifth of what a batch of commands takes.
_CHECKED_RECORDS = 500
# A reason may quote the event, all of it. Of a record that is larger than any event may be, its dead letter keeps as
# much as an event may have: a document holds 16 MiB, and a compressed batch records of any size.
_REASON_CHARACTERS = 2000
# More than a batch of frames makes.
_COLLECT_OBJECTS = 200_000


def collect_rarely() -> None:
    """Let the interpreter look for cycles of garbage less often, in a process that folds.

    A batch makes some ten thousand objects that live until its end, and no cycles; at the default of 700 each look
    walks over them again. Measured: decoding frames of one row takes a third less.
    """
    gc.set_threshold(_COLLECT_OBJECTS)


@dataclass
class _Batch:
    """Records of a partition, decoded: an event or the reason why there is none."""

    records: list[Record]
    decoded: list[Event | str]
    poisoned: dict[int, str] = field(default_factory=dict)
    # A run of events brought out a fault: by themselves they show which it is.
    singly: bool = False

    @property
    def start(self) -> int:
        return int(self.records[0].offset)

    @property
    def end(self) -> int:
        return int(self.records[-1].offset) + 1

    def behind(self, offset: int) -> _Batch:
        """The part from an offset on."""
        done = offset - self.start
        return replace(self, records=self.records[done:], decoded=self.decoded[done:])

    def half(self) -> _Batch:
        """The first half, or the one record that it holds."""
        size = (len(self.records) + 1) // 2
        return replace(self, records=self.records[:size], decoded=self.decoded[:size])


class Folding:
    """One partition that was taken over, and how far it is folded.

    Args:
        consumer: Has the partition assigned, and was made with `FETCHING`.
        schemas: The schemas of the log.
        store: Of the projection.
        checkpoint: Where to go on, as `Store.acquire` returned it.
        log: Where dead letters and failures are told.
        config: Names the topics.
        partitions: How many the trials topic has.

    Attributes:
        checkpoint: How far it is folded now.
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
        # Records folded since its size was looked at.
        self._unchecked = 0

    async def begin(self) -> None:
        """Check that the log still has what comes next, and go there.

        Raises:
            LogMismatch: it has not; the message names the topic and the offsets.
        """
        await check_range(self._consumer, [self.checkpoint])
        self._consumer.seek(self._partition, self.checkpoint.offset)

    async def step(self, seconds: float, end: int | None = None) -> int:
        """Fold the next batch; return how many records it had, 0 if none came in that many seconds.

        Args:
            seconds: How long to wait for records.
            end: Fold none from this offset on.

        Raises:
            Fenced: somebody else has taken the partition over.
            LogMismatch: the log lacks the offset that is next.
            MongoUnavailable: MongoDB does not say whether the batch was written: take the partition over again.
        """
        fetched = await self._consumer.getmany(
            self._partition, timeout_ms=int(1000 * seconds), max_records=_BATCH_RECORDS
        )
        records = fetched.get(self._partition)
        if not records:
            return 0
        following = self.checkpoint.offset
        if records[0].offset != following or records[-1].offset - records[0].offset != len(records) - 1:
            raise LogMismatch(
                f"{self.checkpoint.id}: offset {following} is next, and the log goes on with "
                f"{records[0].offset} to {records[-1].offset} in {len(records)} records"
            )
        if end is not None and records[-1].offset >= end:
            records = records[: end - following]
            self._consumer.seek(self._partition, end)
        batch = _Batch(records, await self._decode(records))
        while self.checkpoint.offset < batch.end:
            await self._write(batch.behind(self.checkpoint.offset))
        self._unchecked += len(records)
        if self._unchecked >= _CHECKED_RECORDS:
            self._unchecked = 0
            if _too_large(self._state):
                self._state = State()
        return len(records)

    async def _decode(self, records: list[Record]) -> list[Event | str]:
        schemas = self._schemas.schemas
        decoded: list[Event | str] = []
        refreshed = False
        for record in records:
            value = record.value or b""
            try:
                try:
                    event = schemas.decode(value)
                except UnknownSchema:
                    # A schema is published before it is used: one look covers all that the batch holds.
                    if not refreshed:
                        await self._schemas.refresh()
                        refreshed = True
                    event = schemas.decode(value)
            except SchemaError as error:
                decoded.append(str(error))
            else:
                reason = misplaced(
                    event, record.topic, record.partition, config=self._config, partitions=self._partitions
                )
                decoded.append(reason or event)
        return decoded

    async def _write(self, batch: _Batch) -> None:
        """Fold a batch and write it, or the first part of it; the checkpoint then stands behind that.

        What cannot be written is tried again with fresh state, as long as the checkpoint still is ours, and each time
        with half as much: what takes too long would take too long for ever.
        """
        while True:
            try:
                dead_letters = await self._fold(batch)
                # A transaction that has begun is finished; the driver's own time-outs bound it.
                with anyio.CancelScope(shield=True):
                    written = await self._store.write(self.checkpoint, batch.end, self._state, dead_letters)
            except FoldFault as fault:
                offset = batch.start + fault.group[0]
                self._log.exception("fold_failed", offset=offset, events=len(fault.group), reason=str(fault))
                if len(fault.group) == 1:
                    batch.poisoned[offset] = str(fault)
                batch.singly, self._state = True, State()
            except Unwritable as error:
                self._log.error("unwritable", offset=batch.start, events=len(batch.records), reason=str(error))
                if len(batch.records) == 1:
                    batch.poisoned[batch.start] = str(error)
                batch, self._state = batch.half(), State()
            except MongoUnavailable as error:
                self._log.warning("write_failed", offset=batch.start, events=len(batch.records), reason=str(error))
                await anyio.sleep(RETRY_SECONDS)
                self._state = State()
                current = await self._store.current(self.checkpoint)
                if current.offset == batch.end:  # it was written after all
                    self.checkpoint = current
                    return
                batch = batch.half()
            else:
                self._state.changes = Changes()
                self.checkpoint = written
                for each in dead_letters:
                    self._log.warning("dead_letter", offset=each.offset, reason=each.reason)
                self._log.debug("folded", offset=written.offset, events=len(batch.records))
                return

    async def _fold(self, batch: _Batch) -> list[DeadLetter]:
        dead: dict[int, str] = {}
        events: list[Event | None] = []
        for record, decoded in zip(batch.records, batch.decoded, strict=True):
            reason = decoded if isinstance(decoded, str) else batch.poisoned.get(record.offset)
            if reason is not None:
                dead[len(events)] = reason
            events.append(decoded if reason is None and isinstance(decoded, Event) else None)
        groups = single_groups(events) if batch.singly else row_groups(events)
        await self._store.load(self._state, needs(event for group in groups if (event := events[group[0]]) is not None))
        dead |= fold_groups(self._state, events, groups)
        return [_dead_letter(batch.records[position], reason) for position, reason in sorted(dead.items())]


def _dead_letter(record: Record, reason: str) -> DeadLetter:
    value = (record.value or b"")[:MAX_RECORD_BYTES]
    return DeadLetter(
        record.topic, record.partition, record.offset, reason[:_REASON_CHARACTERS], record.timestamp, value
    )


async def check_range(consumer: AIOKafkaConsumer, checkpoints: Iterable[Checkpoint]) -> None:
    """Check that the log has neither lost what comes after the checkpoints nor what was folded last.

    Raises:
        LogMismatch: it has; the message names the topic and the offsets.
    """
    found = {TopicPartition(each.topic, each.partition): each for each in checkpoints}
    begins = await consumer.beginning_offsets(list(found))
    ends = await consumer.end_offsets(list(found))
    for partition, checkpoint in found.items():
        if not begins[partition] <= checkpoint.offset <= ends[partition]:
            raise LogMismatch(
                f"{checkpoint.id} is folded up to offset {checkpoint.offset}, and the log reaches from "
                f"{begins[partition]} to {ends[partition]}"
            )


def _too_large(state: State) -> bool:
    items = len(state.trials) + len(state.buckets) + len(state.outcomes) + len(state.groups) + len(state.revisions)
    if items > _CACHED_ITEMS:
        return True
    trials = sum(each.size for each in state.trials.values() if each)
    # 8 bytes for each value, step and time.
    buckets = sum(8 * len(each) * (len(each.columns) + 2) for each in state.buckets.values() if each is not None)
    return trials + buckets > _CACHED_BYTES
