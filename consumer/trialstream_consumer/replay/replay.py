"""Folds the log into a projection that is not the live one, outside of the consumer group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Self, TypeAlias

import anyio
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from trialstream.config import Config
from trialstream.log.clients import kafka_errors, open_consumer
from trialstream.log.schemas import SchemaTopic
from trialstream_schemas.errors import Fenced, KafkaUnavailable, TrialStreamError

from trialstream_consumer.projection.store import Checkpoint, Store
from trialstream_consumer.worker import FETCHING, Folding, check_range, collect_rarely

__all__ = ["Progress", "Replay"]

# Told the step, how many records are done, and how many there are.
Progress: TypeAlias = Callable[[str, int, int], None]

_SILENT_SECONDS = 30.0


class Replay:
    """All partitions of a log, taken over in a projection; an async context manager.

    Entering it raises `LogMismatch` if the log does not have what comes after the checkpoints, and `Fenced` if the
    projection has become the live one.

    Args:
        config: Where the servers are.
        store: Of the projection.
        partitions: How many the trials topic has.
    """

    def __init__(self, config: Config, store: Store, partitions: int) -> None:
        self._config = config
        self._store = store
        trials = [TopicPartition(config.trials_topic, number) for number in range(partitions)]
        self._partitions = [TopicPartition(config.registry_topic, 0), *trials]
        self._foldings: dict[TopicPartition, Folding] = {}
        self._consumer: AIOKafkaConsumer
        self._schemas: SchemaTopic

    async def __aenter__(self) -> Self:
        collect_rarely()
        async with AsyncExitStack() as opening:
            self._schemas = await opening.enter_async_context(SchemaTopic(self._config))
            self._consumer = await opening.enter_async_context(open_consumer(self._config, **FETCHING))
            self._consumer.assign(self._partitions)
            await self.take()
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def take(self) -> None:
        """Take all partitions over, in their order.

        Raises:
            Fenced: the projection has become the live one.
            KafkaUnavailable, MongoUnavailable: a server does not answer.
            LogMismatch: the log does not have what comes after the checkpoints.
        """
        log = structlog.get_logger(__name__)
        for each in self._partitions:
            checkpoint = await self._store.acquire(each.topic, each.partition)
            self._foldings[each] = folding = Folding(
                self._consumer,
                self._schemas,
                self._store,
                checkpoint,
                log.bind(topic=each.topic, partition=each.partition),
                config=self._config,
                partitions=len(self._partitions) - 1,
            )
            async with kafka_errors(self._config):
                await folding.begin()

    async def leads(self) -> bool:
        """Whether it was the last to take the first partition: of several that take over in turn exactly one was.

        Raises:
            MongoUnavailable: MongoDB does not answer.
        """
        try:
            await self._store.current(self._foldings[self._partitions[0]].checkpoint)
        except Fenced:
            return False
        return True

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """How far each partition is folded."""
        return [each.checkpoint for each in self._foldings.values()]

    async def check(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Check that the log still fits another projection of it.

        Raises:
            LogMismatch: it begins after one of its checkpoints or ends before it.
            KafkaUnavailable: Kafka does not answer.
        """
        async with kafka_errors(self._config):
            await check_range(self._consumer, checkpoints)

    async def ends(self) -> dict[TopicPartition, int]:
        """The offset behind the last record of each partition.

        Raises:
            KafkaUnavailable: Kafka does not answer.
        """
        async with kafka_errors(self._config):
            return dict(await self._consumer.end_offsets(self._partitions))

    async def ends_before(self, time: int) -> dict[TopicPartition, int]:
        """The offset of the first record of each partition that came then (ms since 1970) or later, or its end.

        Raises:
            KafkaUnavailable: Kafka does not answer.
        """
        ends = await self.ends()
        async with kafka_errors(self._config):
            found = await self._consumer.offsets_for_times(dict.fromkeys(self._partitions, time))
        return {each: end if found[each] is None else found[each].offset for each, end in ends.items()}

    async def fold_to(self, ends: Mapping[TopicPartition, int], progress: Progress) -> None:
        """Fold each partition up to an offset, all of them at once.

        Two that do the same fence each other; the one that leads goes on.

        Raises:
            Fenced: somebody else does the same, and has taken a partition over.
            KafkaUnavailable: Kafka does not answer.
            LogMismatch: the log lacks an offset.
            MongoUnavailable: MongoDB does not answer.
        """
        while True:
            try:
                return await self._fold_to(ends, progress)
            except Fenced:
                if not await self.leads():
                    raise
                await self.take()

    async def _fold_to(self, ends: Mapping[TopicPartition, int], progress: Progress) -> None:
        errors: list[Exception] = []

        def told() -> None:
            reached = {each: folding.checkpoint.offset for each, folding in self._foldings.items()}
            total = sum(max(offset, ends.get(each, 0)) for each, offset in reached.items())
            progress("folding", sum(reached.values()), total)

        async def fold(folding: Folding, end: int) -> None:
            try:
                async with kafka_errors(self._config):
                    while folding.checkpoint.offset < end:
                        if not await folding.step(_SILENT_SECONDS, end):
                            raise KafkaUnavailable(
                                f"Kafka at {self._config.kafka} has sent nothing of {folding.checkpoint.id} for "
                                f"{_SILENT_SECONDS:g} s, and offset {folding.checkpoint.offset} is next: is it running?"
                            )
                        told()
            except Fenced as error:
                other = (
                    f"another process has taken over {self._store.database}: let it end, or end it and run this again"
                )
                errors.append(Fenced(f"{other} ({error})"))
                tasks.cancel_scope.cancel()
            except TrialStreamError as error:  # raised below: from here it would come out as a group
                errors.append(error)
                tasks.cancel_scope.cancel()

        told()
        async with anyio.create_task_group() as tasks:
            for partition, end in ends.items():
                tasks.start_soon(fold, self._foldings[partition], end)
        if errors:
            raise errors[0]
