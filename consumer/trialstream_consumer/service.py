"""The consumer service: one member of the consumer group, with one worker per assigned partition.

- A worker takes its partition over in the live projection and folds it batch by batch (`worker.py`).
- After any failure, and after a rebuild has switched to another projection, the service reads the pointer to the live
  projection and takes the partition over again: only the checkpoint records what was folded.
- The service watches that the topics are not recreated (`log_watch.py`).
- The service commits the group's offsets for tools that show the lag; it never reads them.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable

import anyio
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError
from anyio.abc import TaskGroup
from trialstream.config import Config
from trialstream.event_log.clients import group_consumer, kafka_errors, leave_on_stop, raise_group_error, stop_consumer
from trialstream.event_log.diagnosis import kafka_trouble, missing_right
from trialstream.event_log.ends import held_up
from trialstream.event_log.schemas import SchemaTopic
from trialstream.event_log.topics import ensure_topics
from trialstream_schemas.errors import Fenced, KafkaUnavailable, LogMismatch, ServerUnavailable, TrialStreamError
from trialstream_schemas.wire.events import LogCreated

from trialstream_consumer.log_watch import LogWatch
from trialstream_consumer.projection.client import Connection
from trialstream_consumer.projection.deployment import check_deployment
from trialstream_consumer.projection.indexes import ensure_indexes
from trialstream_consumer.projection.ownership import live_namespace
from trialstream_consumer.projection.store import Store
from trialstream_consumer.worker import FETCH_SETTINGS, RETRY_SECONDS, PartitionWorker, raise_gc_threshold

__all__ = ["Service"]

# How long a worker waits for records before it waits again. Records and cancellation end the wait at once.
_FETCH_SECONDS = 60.0
_STOP_SECONDS = 10.0
_REVOKE_SECONDS = 5.0
# Time limit of the last commit: without a limit, aiokafka retries a commit until a broker answers.
_COMMIT_SECONDS = 2.0
# Time for which an open transaction holds a partition up before that is logged. Usual ones last less than a second.
_HELD_MS = 10_000
# Interval of the commits of offsets.
_LAG_SECONDS = 1.0


class Service(ConsumerRebalanceListener):
    """One member of the consumer group.

    Args:
        config: Settings with the addresses of the servers and the names of the topics.
        instance: Name in the group, which a process that replaces this one gets too; None for no name.
    """

    def __init__(self, config: Config, instance: str | None = None) -> None:
        self._config = config
        self._instance = instance
        self._log = structlog.get_logger(__name__)
        self._connection = Connection(config)
        self._store: Store
        self._identity: LogCreated
        self._schema_topic = SchemaTopic(config)
        self._consumer: AIOKafkaConsumer
        self._watch: LogWatch
        # For each assigned partition, the scope that stops its worker, and the event that is set once it has stopped.
        self._workers: dict[TopicPartition, tuple[anyio.CancelScope, anyio.Event]] = {}
        # The next offset to fold of each partition that was folded since the last commit.
        self._folded: dict[TopicPartition, int] = {}
        # For each partition that an open transaction holds up, the first offset that cannot be read, and when a fetch
        # first showed it, milliseconds since 1970 UTC.
        self._held: dict[TopicPartition, tuple[int, int]] = {}
        self._tasks: TaskGroup | None = None
        self._fatal: Exception | None = None

    async def run(self) -> None:
        """Fold until SIGTERM, SIGINT or cancellation; a transaction that has begun is finished.

        Raises:
            ConfigError: MongoDB has no transactions or is too old.
            KafkaUnavailable: No broker answered at start, a right is missing then, or that on the group later on.
            MongoUnavailable: MongoDB did not answer at start.
            LogMismatch: The projection was folded from another log, the log lacks the next offset, or the topics were
                recreated meanwhile.
        """
        raise_gc_threshold()
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                tasks.start_soon(self._stop_on_signal)
                try:
                    await self._run()
                except TrialStreamError as error:  # raised below: the task group would wrap it in an exception group
                    self._fatal = error
                    tasks.cancel_scope.cancel()
        finally:
            self._connection.close()
        if self._fatal is not None:
            raise self._fatal
        self._log.info("stopped")

    async def _run(self) -> None:
        await check_deployment(self._config)
        self._identity = await ensure_topics(self._config, to_fold=True)
        self._store = Store(self._connection, await live_namespace(self._connection))
        await ensure_indexes(self._config, self._store.namespace)
        await self._store.ownership.check_log(self._identity)
        async with self._schema_topic:
            # A worker seeks to its checkpoint first and accepts no other offset, so no start offset is configured.
            self._consumer = group_consumer(self._config, self._instance, **FETCH_SETTINGS)
            self._watch = LogWatch(self._config, self._consumer)
            try:
                async with kafka_errors(self._config):
                    await self._consumer.start()
                self._consumer.subscribe([self._config.trials_topic, self._config.registry_topic], listener=self)
                assert self._tasks is not None
                self._tasks.start_soon(self._watch_log)
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
            leave_on_stop(self._consumer)
            await stop_consumer(self._consumer)
        if deadline.cancelled_caught:
            self._log.warning("stop_timed_out", seconds=_STOP_SECONDS)

    # --- Assignment

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Stop the workers of revoked partitions; each worker finishes the transaction that it has begun.

        Args:
            revoked: The partitions.
        """
        stopping = [self._workers.pop(partition) for partition in list(revoked) if partition in self._workers]
        for scope, _ in stopping:
            scope.cancel()
        # A worker that takes longer is fenced by the next owner's epoch; waiting for it would delay the whole group.
        with anyio.move_on_after(_REVOKE_SECONDS):
            for _, done in stopping:
                await done.wait()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Start a worker for each assigned partition.

        Args:
            assigned: The partitions.
        """
        assert self._tasks is not None
        self._watch.expect_change()
        partitions = sorted(assigned)
        for partition in partitions:
            self._workers[partition] = scope, done = anyio.CancelScope(), anyio.Event()
            self._tasks.start_soon(self._work, partition, scope, done, name=f"fold {partition}")
        self._log.info("ready", partitions=[f"{each.topic}/{each.partition}" for each in partitions])

    async def _report_lag(self) -> None:
        while True:
            await anyio.sleep(_LAG_SECONDS)
            if not self._workers:  # otherwise their fetches raise it
                async with kafka_errors(self._config):
                    raise_group_error(self._consumer)
            await self._commit()
            self._report_transactions()

    def _report_transactions(self) -> None:
        """Log the partitions that a transaction of another program has held up for some time."""
        held: dict[TopicPartition, tuple[int, int]] = {}
        for each in self._consumer.assignment():
            stable, end = self._consumer.last_stable_offset(each), self._consumer.highwater(each)
            if stable is not None and end is not None and stable < end:
                fetched = self._consumer.last_poll_timestamp(each)
                before, since = self._held.get(each, (stable, fetched))
                held[each] = stable, since if before == stable else fetched
                if fetched - held[each][1] >= _HELD_MS:
                    self._log.warning("held_up", reason=held_up(f"{each.topic}/{each.partition}", stable))
        self._held = held

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
                    except GroupAuthorizationFailedError as error:
                        # aiokafka never joins the group again after it: its heartbeats have ended.
                        return self._end(KafkaUnavailable(await kafka_trouble(self._config, error)))
                    except (ServerUnavailable, KafkaError) as error:
                        reason = missing_right(error, "Read") or str(error)
                        log.warning("retrying", reason=reason, seconds=RETRY_SECONDS)
                        self._watch.expect_change()
                    await anyio.sleep(RETRY_SECONDS)
        except LogMismatch as error:
            log.error("log_mismatch", reason=str(error))
            self._end(error)
        finally:
            done.set()

    async def _watch_log(self) -> None:
        try:
            await self._watch.run(self._live_store)
        except LogMismatch as error:
            self._log.error("log_mismatch", reason=str(error))
            self._end(error)

    def _end(self, error: TrialStreamError) -> None:
        """End the service with an error."""
        self._fatal = error
        assert self._tasks is not None
        self._tasks.cancel_scope.cancel()

    async def _fold_partition(self, partition: TopicPartition, log: structlog.BoundLogger) -> None:
        """Take the partition over and fold it from its checkpoint on, until an error ends the work."""
        store = await self._live_store()
        await self._watch.check(store)
        checkpoint = await store.ownership.acquire(partition.topic, partition.partition)
        worker = PartitionWorker(
            self._consumer,
            self._schema_topic,
            store,
            checkpoint,
            log,
            config=self._config,
            partitions=self._identity.partitions,
        )
        await worker.begin()
        log.info("folding", offset=checkpoint.offset, epoch=checkpoint.epoch)
        while True:
            if await worker.fold_next(_FETCH_SECONDS):
                self._folded[partition] = worker.checkpoint.offset

    async def _live_store(self) -> Store:
        """Return the store of the live projection, which a rebuild may have changed since the last call."""
        live = await live_namespace(self._connection)
        if live != self._store.namespace:
            self._log.info("projection_switched", projection=str(live))
            self._store = Store(self._connection, live)
            await self._store.ownership.check_log(self._identity)
        return self._store
