"""A replay: the partitions of the log are folded into a projection that is not the live one.

- A replay is no member of the consumer group.
- One process owns the replay: it has taken over all partitions. Other processes may fold some of them for it
  (`sharing.py`), which they take over from it; the owner takes them back afterwards.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Self

import anyio
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from trialstream.config import Config
from trialstream.event_log.clients import kafka_errors, open_consumer
from trialstream.event_log.ends import held_up, readable_ends
from trialstream.event_log.schemas import SchemaTopic
from trialstream_schemas.errors import Fenced, KafkaUnavailable, TrialStreamError

from trialstream_consumer.progress import Progress
from trialstream_consumer.projection.ownership import Checkpoint
from trialstream_consumer.projection.store import Store
from trialstream_consumer.replay.sharing import Report, Share, divide, fold_in_process
from trialstream_consumer.worker import FETCH_SETTINGS, PartitionWorker, check_range, raise_gc_threshold

__all__ = ["Replay"]

# Maximum wait for the next record of a partition whose end is not reached.
_SILENT_SECONDS = 30.0
# Number of records below which one process folds them all: a process starts in a second, which folds so many frames.
_SHARED_RECORDS = 4000


class Replay:
    """The partitions of a log, taken over in one projection, with one worker each; an async context manager.

    Entering the context takes the partitions over, and raises the same errors as `acquire`.

    Args:
        config: Settings with the addresses of the servers and the names of the topics.
        store: Store of the projection.
        partitions: Number of partitions of the trials topic.
        only: Partitions to take over; all by default.
        processes: Maximum number of processes that fold, with this one.

    Attributes:
        store: Store of the projection.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        partitions: int,
        *,
        only: Collection[TopicPartition] | None = None,
        processes: int = 1,
    ) -> None:
        self.store = store
        self._config = config
        trials = [TopicPartition(config.trials_topic, number) for number in range(partitions)]
        self._registry = TopicPartition(config.registry_topic, 0)
        self._partitions = [each for each in (self._registry, *trials) if only is None or each in only]
        self._count = partitions
        self._processes = processes
        self._workers: dict[TopicPartition, PartitionWorker] = {}
        self._consumer: AIOKafkaConsumer
        self._schemas: SchemaTopic

    async def __aenter__(self) -> Self:
        raise_gc_threshold()
        async with AsyncExitStack() as opening:
            self._schemas = await opening.enter_async_context(SchemaTopic(self._config))
            self._consumer = await opening.enter_async_context(open_consumer(self._config, **FETCH_SETTINGS))
            self._consumer.assign(self._partitions)
            await self.acquire()
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def acquire(self, only: Collection[TopicPartition] | None = None) -> None:
        """Take partitions over: first the registry's, then those of the trials topic in the order of their numbers.

        Args:
            only: The partitions; all of this replay by default.

        Raises:
            Fenced: The projection has become the live one.
            KafkaUnavailable: No broker answered.
            LogMismatch: The log ends before a checkpoint's offset or begins after it.
            MongoUnavailable: MongoDB did not answer.
        """
        log = structlog.get_logger(__name__)
        for each in self._partitions if only is None else only:
            checkpoint = await self.store.ownership.acquire(each.topic, each.partition)
            self._workers[each] = worker = PartitionWorker(
                self._consumer,
                self._schemas,
                self.store,
                checkpoint,
                log.bind(topic=each.topic, partition=each.partition),
                config=self._config,
                partitions=self._count,
            )
            async with kafka_errors(self._config):
                await worker.begin()

    async def is_owner(self) -> bool:
        """Whether this replay was the last one to take the registry's partition over.

        If several replays take the partitions of one projection over in turn, exactly one is the owner.

        Raises:
            MongoUnavailable: MongoDB did not answer.
        """
        try:
            await self.store.ownership.current(self._workers[self._registry].checkpoint)
        except Fenced:
            return False
        return True

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoint of each partition."""
        return [each.checkpoint for each in self._workers.values()]

    @property
    def records(self) -> int:
        """Number of records from which the projection is folded so far, over all partitions."""
        return sum(each.checkpoint.offset for each in self._workers.values())

    async def check(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Check that the log covers the checkpoints of another projection.

        Args:
            checkpoints: Checkpoints of the other projection.

        Raises:
            KafkaUnavailable: No broker answered.
            LogMismatch: The log ends before a checkpoint's offset or begins after it.
        """
        async with kafka_errors(self._config):
            await check_range(self._consumer, checkpoints)

    async def ends(self) -> dict[TopicPartition, int]:
        """The offset after the last record of each partition that can be read.

        Raises:
            KafkaUnavailable: No broker answered.
        """
        async with kafka_errors(self._config):
            return dict(await self._consumer.end_offsets(self._partitions))

    async def ends_before(self, time: int) -> dict[TopicPartition, int]:
        """The offset after the last record of each partition that was appended before a time.

        Args:
            time: Append time of the broker, milliseconds since 1970 UTC.

        Returns:
            By partition, the offset of the first record that was appended at the time or later, or of the end.

        Raises:
            KafkaUnavailable: No broker answered, or a transaction of another program holds up records from before the
                time.
        """
        offsets = await self._offsets_at(self._partitions, time)
        if rest := [each for each in self._partitions if each not in offsets]:
            ends = await readable_ends(self._config, self._consumer, rest, _SILENT_SECONDS)
            offsets |= ends | await self._offsets_at(rest, time)
        return offsets

    async def _offsets_at(self, partitions: Collection[TopicPartition], time: int) -> dict[TopicPartition, int]:
        """The offset of the first record that was appended at a time or later, of the partitions that have one."""
        async with kafka_errors(self._config):
            found = await self._consumer.offsets_for_times(dict.fromkeys(partitions, time))
        return {each: record.offset for each, record in found.items() if record is not None}

    async def fold_to(self, ends: Mapping[TopicPartition, int], progress: Progress) -> None:
        """Fold partitions up to an offset each, all at the same time.

        With `processes`, other processes fold a share of the partitions each, if there is enough to fold.

        Two processes that fold into the same projection fence each other. The owner (`is_owner`) takes the partitions
        over again and continues.

        Args:
            ends: The offset after the last record to fold, by partition.
            progress: Called after each batch.

        Raises:
            Fenced: Another process folds into the same projection, and has taken over.
            KafkaUnavailable: No broker answered, or no record came for 30 seconds, as while a transaction of another
                program holds a partition up.
            LogMismatch: The log lacks an offset.
            MongoUnavailable: MongoDB did not answer.
            WorkerDied: A process that folded a share was killed.
        """
        while True:
            reached = {each: worker.checkpoint.offset for each, worker in self._workers.items()}

            def report(partition: TopicPartition, offset: int, reached: dict[TopicPartition, int] = reached) -> None:
                reached[partition] = offset
                total = sum(max(each, ends.get(place, 0)) for place, each in reached.items())
                progress("folding", sum(reached.values()), total)

            report(self._registry, reached[self._registry])
            try:
                return await self.fold_once(ends, report)
            except Fenced:
                if not await self.is_owner():
                    raise
                await self.acquire()

    async def fold_once(
        self, ends: Mapping[TopicPartition, int], report: Callable[[TopicPartition, int], None]
    ) -> None:
        """Fold partitions as `fold_to` does, and leave it to the caller to continue after a fence.

        Args:
            ends: The offset after the last record to fold, by partition.
            report: Called after each batch.

        Raises:
            Fenced: Another process has taken a partition over.
            TrialStreamError: The other errors of `fold_to`.
        """
        left = {each: end - self._workers[each].checkpoint.offset for each, end in ends.items()}
        processes = self._processes if sum(left.values()) > _SHARED_RECORDS else 1
        own, *others = divide(left, processes, self._registry)
        errors: list[TrialStreamError] = []

        async def run(fold: Callable[[], Awaitable[None]]) -> None:
            try:
                await fold()
            except TrialStreamError as error:  # raised below: the task group would wrap it in an exception group
                errors.append(error)
                tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            for each in own:
                if each in ends:
                    tasks.start_soon(run, partial(self._fold_partition, each, ends[each], report))
            for other in others:
                share = Share(self._config, self.store.namespace, self._count, {each: ends[each] for each in other})
                tasks.start_soon(run, partial(fold_in_process, share, report))
        if errors:
            raise errors[0]
        folded_elsewhere = [each for other in others for each in other]
        await self.acquire(folded_elsewhere)
        if any(self._workers[each].checkpoint.offset < ends[each] for each in folded_elsewhere):
            raise Fenced(f"{self.store.namespace} was dropped by another process: run this command again")

    def _silence(self, partition: TopicPartition) -> str:
        """Return why no record of a partition has come."""
        checkpoint = self._workers[partition].checkpoint
        stable, end = self._consumer.last_stable_offset(partition), self._consumer.highwater(partition)
        if stable is not None and end is not None and stable < end:
            return held_up(checkpoint.id, stable)
        return (
            f"Kafka at {self._config.kafka} has sent no record of {checkpoint.id} for {_SILENT_SECONDS:g} s (next "
            f"offset: {checkpoint.offset}): check that Kafka runs"
        )

    async def _fold_partition(self, partition: TopicPartition, end: int, report: Report) -> None:
        worker = self._workers[partition]
        try:
            async with kafka_errors(self._config):
                while worker.checkpoint.offset < end:
                    try:
                        if not await worker.fold_next(_SILENT_SECONDS, end):
                            raise KafkaUnavailable(self._silence(partition))
                    except OffsetOutOfRangeError:  # the beginning of the log was deleted meanwhile
                        await check_range(self._consumer, [worker.checkpoint])
                        raise
                    report(partition, worker.checkpoint.offset)
        except Fenced as error:
            raise Fenced(
                f"another process has taken over {self.store.namespace}: wait until that process has ended, or end it "
                f"and run this command again ({error})"
            ) from error
