"""The consumer service: shares the partitions with its kind, one worker for each, until it is told to stop.

A worker takes its partition over in the live projection and folds it batch by batch (`folding.py`). Where anything goes
wrong, a rebuild that has switched to another projection included, it looks which one is live and takes the partition
over again: the checkpoint alone says what has been folded. The group's committed offsets are written for tools that
show the lag; nothing here reads them.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable

import anyio
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from anyio.abc import TaskGroup
from trialstream.config import Config
from trialstream.log.clients import group_consumer, kafka_errors, stop_consumer
from trialstream.log.identity import read_identity
from trialstream.log.schemas import SchemaTopic
from trialstream.log.topics import ensure_topics
from trialstream_schemas.errors import Fenced, LogMismatch, ServerUnavailable, TrialStreamError
from trialstream_schemas.wire.events import LogCreated

from trialstream_consumer.projection.store import Store, ensure_indexes
from trialstream_consumer.worker import FETCHING, RETRY_SECONDS, Folding, collect_rarely

__all__ = ["Service"]

# Longer than any broker's own wait for new records.
_FETCH_SECONDS = 60.0
_STOP_SECONDS = 10.0
_REVOKE_SECONDS = 5.0
# aiokafka tries to commit for as long as no broker answers.
_COMMIT_SECONDS = 2.0
_LAG_SECONDS = 1.0


class Service(ConsumerRebalanceListener):
    """One member of the consumer group.

    Args:
        config: Where the servers are.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._log = structlog.get_logger(__name__)
        self._store = Store(config)
        self._identity: LogCreated
        self._schema_topic = SchemaTopic(config)
        self._consumer: AIOKafkaConsumer
        self._workers: dict[TopicPartition, tuple[anyio.CancelScope, anyio.Event]] = {}
        self._checking = anyio.Lock()
        self._is_checked = False
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
        collect_rarely()
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
        self._identity = await ensure_topics(self._config)
        self._store = self._store.of(await self._store.live())
        await ensure_indexes(self._config, self._store.database)
        await self._store.check_log(self._identity)
        async with self._schema_topic:
            self._consumer = group_consumer(self._config, **FETCHING)
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
            await stop_consumer(self._consumer)
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
        self._is_checked = False
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
                        log.warning("retrying", reason=str(error), seconds=RETRY_SECONDS)
                        self._is_checked = False
                    await anyio.sleep(RETRY_SECONDS)
        except LogMismatch as error:
            log.error("log_mismatch", reason=str(error))
            self._fatal = error
            assert self._tasks is not None
            self._tasks.cancel_scope.cancel()
        finally:
            done.set()

    async def _fold_partition(self, partition: TopicPartition, log: structlog.BoundLogger) -> None:
        """Take the partition over and fold it from its checkpoint, until something goes wrong."""
        store = await self._live_store()
        await self._check_identity(store)
        checkpoint = await store.acquire(partition.topic, partition.partition)
        folding = Folding(
            self._consumer,
            self._schema_topic,
            store,
            checkpoint,
            log,
            config=self._config,
            partitions=self._identity.partitions,
        )
        await folding.begin()
        log.info("folding", offset=checkpoint.offset, epoch=checkpoint.epoch)
        while True:
            if await folding.step(_FETCH_SECONDS):
                self._folded[partition] = folding.checkpoint.offset

    async def _check_identity(self, store: Store) -> None:
        """Check, once for each assignment and each failure, that the topics were not recreated under this consumer."""
        async with self._checking:
            if not self._is_checked:
                await store.check_log(await read_identity(self._config))
                self._is_checked = True

    async def _live_store(self) -> Store:
        """The store of the live projection: a rebuild may have switched to another one."""
        live = await self._store.live()
        if live != self._store.database:
            self._log.info("projection_switched", database=live)
            self._store = self._store.of(live)
            await self._store.check_log(self._identity)
        return self._store
