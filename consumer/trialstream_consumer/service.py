"""The consumer service: shares the partitions with its kind, one worker for each, until it is told to stop.

A worker takes a batch, decodes and folds it in memory and writes it in one transaction (`store.py`). Where anything
goes wrong it drops its state and asks the checkpoint: that alone says what has been folded. The group's committed
offsets are written for tools that show the lag; nothing here reads them.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import anyio
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from anyio.abc import TaskGroup
from trialstream.config import Config
from trialstream.topics import ensure_topics, kafka_errors
from trialstream_schemas.bounds import MAX_RECORD_BYTES
from trialstream_schemas.errors import (
    Fenced,
    LogMismatch,
    MongoUnavailable,
    SchemaError,
    ServerUnavailable,
    TrialStreamError,
    UnknownSchema,
)
from trialstream_schemas.events import Event

from trialstream_consumer.fold import Changes, Refused, State, fold, needs
from trialstream_consumer.placement import misplaced
from trialstream_consumer.schema_topic import SchemaTopic
from trialstream_consumer.store import Checkpoint, DeadLetter, Store, Unwritable, ensure_indexes

__all__ = ["Service"]

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"

# A batch is one transaction; measured, 4,000 events over 100 trials fold at 130,000 events/s.
_BATCH_RECORDS = 4000
# aiokafka has one fetch in flight per broker, and what arrives for a partition that was being drained waits until that
# one returns: this bounds how long an event can lie unseen. At 10 ms an idle broker took a quarter of a core for it.
_FETCH_WAIT_MS = 25
# State is a cache of the documents: past these bounds it is dropped and read again as needed.
_CACHED_ITEMS = 8192
_CACHED_BYTES = 128 * 1024 * 1024
# aiokafka leaves the group when nobody reads for so long, and joins again only when somebody reads. Nobody does while
# the partitions are revoked: with its 5 minutes, a longer outage of MongoDB ended the folding for ever.
_READ_INTERVAL_MS = 2**31 - 1
_RETRY_SECONDS = 1.0
_STOP_SECONDS = 10.0
_REVOKE_SECONDS = 5.0
# aiokafka tries to commit for as long as no broker answers.
_COMMIT_SECONDS = 2.0
_LAG_SECONDS = 1.0
# A reason may quote the event, all of it. Of a record that is larger than any event may be, its dead letter keeps as
# much as an event may have: a document holds 16 MiB, and a compressed batch records of any size.
_REASON_CHARACTERS = 2000


@dataclass
class _Batch:
    """Records of a partition, decoded: an event or the reason why there is none."""

    records: list[Record]
    decoded: list[Event | str]
    poisoned: dict[int, str] = field(default_factory=dict)

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


class Service(ConsumerRebalanceListener):
    """One member of the consumer group.

    Args:
        config: Where the servers are.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._log = structlog.get_logger(__name__)
        self._store = Store(config)
        self._schema_topic = SchemaTopic(config)
        self._consumer: AIOKafkaConsumer
        self._partitions: int
        self._workers: dict[TopicPartition, tuple[anyio.CancelScope, anyio.Event]] = {}
        self._folded: dict[TopicPartition, int] = {}
        self._tasks: TaskGroup | None = None
        self._fatal: Exception | None = None

    async def run(self) -> None:
        """Fold until SIGTERM or SIGINT, or until cancelled; a batch that is being written is finished.

        Raises:
            KafkaUnavailable: Kafka does not answer at start.
            MongoUnavailable: MongoDB does not answer at start.
            LogMismatch: the log is not the one that the projection was folded from.
        """
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                tasks.start_soon(self._stop_on_signal)
                try:
                    await self._run()
                except TrialStreamError as error:  # raised below: here it would come out as a group of one
                    self._fatal = error
                    tasks.cancel_scope.cancel()
        finally:
            self._store.close()
        if self._fatal is not None:
            raise self._fatal
        self._log.info("stopped")

    async def _run(self) -> None:
        log = await ensure_topics(self._config)
        self._partitions = log.partitions
        await ensure_indexes(self._config)
        await self._store.check_log(log)
        async with self._schema_topic:
            self._consumer = AIOKafkaConsumer(
                **self._config.kafka_client(),
                group_id=self._config.consumer_group,
                enable_auto_commit=False,
                # A worker seeks to its checkpoint before it reads, and refuses every offset but the next one.
                auto_offset_reset="earliest",
                fetch_max_wait_ms=_FETCH_WAIT_MS,
                max_partition_fetch_bytes=4 * 1024 * 1024,
                max_poll_interval_ms=_READ_INTERVAL_MS,
            )
            try:
                async with kafka_errors(self._config):
                    await self._consumer.start()
                self._consumer.subscribe([self._config.trials_topic, self._config.registry_topic], listener=self)
                await self._report_lag()
            finally:
                await self._stop()

    async def _stop_on_signal(self) -> None:
        assert self._tasks is not None
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                self._log.info("stopping", signal=signal.Signals(number).name)
                self._tasks.cancel_scope.cancel()
                return

    async def _stop(self) -> None:
        with anyio.move_on_after(_STOP_SECONDS, shield=True) as deadline:
            await self.on_partitions_revoked(list(self._workers))
            with anyio.move_on_after(_COMMIT_SECONDS):
                await self._commit()
            await self._consumer.stop()
        if deadline.cancelled_caught:
            self._log.warning("stop_timed_out", seconds=_STOP_SECONDS)

    # --- Assignment

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Stop the workers of partitions; each finishes the transaction it is in."""
        stopping = [self._workers.pop(partition) for partition in list(revoked) if partition in self._workers]
        for scope, _ in stopping:
            scope.cancel()
        # One that takes longer is fenced by the next owner's epoch; waiting for it would hold up the whole group.
        with anyio.move_on_after(_REVOKE_SECONDS):
            for _, done in stopping:
                await done.wait()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Start a worker for each partition."""
        assert self._tasks is not None
        partitions = sorted(assigned)
        for partition in partitions:
            self._workers[partition] = scope, done = anyio.CancelScope(), anyio.Event()
            self._tasks.start_soon(self._work, partition, scope, done, name=f"fold {partition}")
        self._log.info("ready", partitions=[f"{each.topic}/{each.partition}" for each in partitions])

    async def _report_lag(self) -> None:
        while True:
            await anyio.sleep(_LAG_SECONDS)
            await self._commit()

    async def _commit(self) -> None:
        offsets = {each: offset for each, offset in self._folded.items() if each in self._consumer.assignment()}
        self._folded.clear()
        if offsets:
            try:
                await self._consumer.commit(offsets)
            except KafkaError as error:
                self._log.debug("commit_failed", reason=str(error))

    # --- Workers

    async def _work(self, partition: TopicPartition, scope: anyio.CancelScope, done: anyio.Event) -> None:
        log = self._log.bind(topic=partition.topic, partition=partition.partition)
        try:
            with scope:
                while True:
                    try:
                        await self._fold_partition(partition, log)
                    except Fenced as error:
                        log.warning("fenced", reason=str(error))
                    except (ServerUnavailable, KafkaError) as error:
                        log.warning("retrying", reason=str(error), seconds=_RETRY_SECONDS)
                    await anyio.sleep(_RETRY_SECONDS)
        except LogMismatch as error:
            log.error("log_mismatch", reason=str(error))
            self._fatal = error
            assert self._tasks is not None
            self._tasks.cancel_scope.cancel()
        finally:
            done.set()

    async def _fold_partition(self, partition: TopicPartition, log: structlog.BoundLogger) -> None:
        """Take the partition over and fold it from its checkpoint, until something goes wrong."""
        checkpoint = await self._store.acquire(partition.topic, partition.partition)
        await self._check_range(partition, checkpoint)
        self._consumer.seek(partition, checkpoint.offset)
        log.info("folding", offset=checkpoint.offset, epoch=checkpoint.epoch)
        state = State()
        while True:
            records = (await self._consumer.getmany(partition, timeout_ms=60_000, max_records=_BATCH_RECORDS)).get(
                partition
            )
            if not records:
                continue
            if records[0].offset != checkpoint.offset or records[-1].offset - records[0].offset != len(records) - 1:
                raise LogMismatch(
                    f"{checkpoint.id}: offset {checkpoint.offset} is next, and the log goes on with "
                    f"{records[0].offset} to {records[-1].offset} in {len(records)} records"
                )
            batch = _Batch(records, await self._decode(records))
            while checkpoint.offset < batch.end:
                checkpoint, state = await self._write(checkpoint, batch.behind(checkpoint.offset), state, log)
                self._folded[partition] = checkpoint.offset
            if _too_large(state):
                state = State()

    async def _check_range(self, partition: TopicPartition, checkpoint: Checkpoint) -> None:
        begin = (await self._consumer.beginning_offsets([partition]))[partition]
        end = (await self._consumer.end_offsets([partition]))[partition]
        if not begin <= checkpoint.offset <= end:
            raise LogMismatch(
                f"{checkpoint.id} is folded up to offset {checkpoint.offset}, and the log reaches from {begin} to {end}"
            )

    async def _decode(self, records: list[Record]) -> list[Event | str]:
        schemas = self._schema_topic.schemas
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
                        await self._schema_topic.refresh()
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

    async def _write(
        self, checkpoint: Checkpoint, batch: _Batch, state: State, log: structlog.BoundLogger
    ) -> tuple[Checkpoint, State]:
        """Fold a batch and write it, or the first part of it; return the checkpoint behind that.

        What cannot be written is tried again with fresh state, as long as the checkpoint still is ours, and each time
        with half as much: what takes too long would take too long for ever.
        """
        while True:
            try:
                dead_letters = await self._fold(batch, state)
                # A transaction that has begun is finished; the driver's own time-outs bound it.
                with anyio.CancelScope(shield=True):
                    written = await self._store.write(checkpoint, batch.end, state, dead_letters)
            except _Poisoned as poison:
                log.exception("fold_failed", offset=poison.offset, reason=poison.reason)
                batch.poisoned[poison.offset] = poison.reason
                state = State()
            except Unwritable as error:
                log.error("unwritable", offset=batch.start, events=len(batch.records), reason=str(error))
                if len(batch.records) == 1:
                    batch.poisoned[batch.start] = str(error)
                batch, state = batch.half(), State()
            except MongoUnavailable as error:
                log.warning("write_failed", offset=batch.start, events=len(batch.records), reason=str(error))
                await anyio.sleep(_RETRY_SECONDS)
                state = State()
                current = await self._store.current(checkpoint)
                if current.offset == batch.end:  # it was written after all
                    return current, state
                batch = batch.half()
            else:
                state.changes = Changes()
                for each in dead_letters:
                    log.warning("dead_letter", offset=each.offset, reason=each.reason)
                log.debug("folded", offset=written.offset, events=len(batch.records))
                return written, state

    async def _fold(self, batch: _Batch, state: State) -> list[DeadLetter]:
        await self._store.load(state, needs(each for each in batch.decoded if isinstance(each, Event)))
        dead_letters = []
        for record, event in zip(batch.records, batch.decoded, strict=True):
            reason = batch.poisoned.get(record.offset) or (event if isinstance(event, str) else None)
            if reason is None:
                assert isinstance(event, Event)
                try:
                    fold(state, event)
                except Refused as refused:
                    reason = str(refused)
                except Exception as error:
                    # A fault of the fold: half of the event may be in the state, so it starts over without the event.
                    raise _Poisoned(record.offset, f"the fold failed: {error!r}") from error
            if reason is not None:
                dead_letters.append(_dead_letter(record, reason))
        return dead_letters


class _Poisoned(Exception):
    """The fold has a fault that this event brings out; it becomes a dead letter."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


def _dead_letter(record: Record, reason: str) -> DeadLetter:
    value = (record.value or b"")[:MAX_RECORD_BYTES]
    return DeadLetter(
        record.topic, record.partition, record.offset, reason[:_REASON_CHARACTERS], record.timestamp, value
    )


def _too_large(state: State) -> bool:
    items = len(state.trials) + len(state.buckets) + len(state.outcomes) + len(state.groups) + len(state.revisions)
    if items > _CACHED_ITEMS:
        return True
    trials = sum(each.size for each in state.trials.values() if each)
    # 8 bytes for each value, step and time.
    buckets = sum(8 * len(each) * (len(each.columns) + 2) for each in state.buckets.values() if each is not None)
    return trials + buckets > _CACHED_BYTES
