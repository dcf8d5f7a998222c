"""Rebuilds: the log folded again into another projection, while consumers may run.

- `rebuild` folds the whole log into a new projection, and then makes that the live one; docs/replay.md explains why the
  switch is safe.
- `rebuild_until` folds the log up to a time into a named projection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import TopicPartition
from trialstream.config import Config
from trialstream_schemas.errors import Fenced
from trialstream_schemas.storage.collections import Namespace

from trialstream_consumer.progress import Progress
from trialstream_consumer.projection.catalog import Catalog
from trialstream_consumer.projection.store import Store
from trialstream_consumer.replay.opening import open_replay
from trialstream_consumer.replay.replay import Replay

__all__ = ["Rebuilt", "rebuild", "rebuild_until"]

# A switch is tried once so few records are left to fold: they take a tenth of a second, and a fenced consumer takes its
# partition over again after a second.
_NEAR_RECORDS = 4000


@dataclass(frozen=True)
class Rebuilt:
    """Result of a rebuild.

    Attributes:
        namespace: Place of the new projection in MongoDB.
        records: Number of records from which the projection was folded.
    """

    namespace: Namespace
    records: int


async def rebuild(config: Config, progress: Progress, workers: int = 1) -> Rebuilt:
    """Fold the log into a new projection and make that the live one.

    A rebuild that was killed continues from its checkpoints when it is run again.

    Args:
        config: Settings with the addresses of the servers and the names of the topics.
        progress: Called after each batch.
        workers: Maximum number of processes that fold, with this one.

    Returns:
        The new projection.

    Raises:
        ConfigError: MongoDB has no transactions or is too old.
        Fenced: Another rebuild runs, and has taken over.
        KafkaUnavailable: No broker answered.
        LogMismatch: The live projection was folded from another log, or the log lacks records.
        MongoUnavailable: MongoDB did not answer.
        WorkerDied: A process that folded was killed.
    """
    async with open_replay(config, _rebuilt_namespace, workers) as (live, replay):
        ends = await replay.ends()
        while True:
            await replay.fold_to(ends, progress)
            ends = await replay.ends()
            if sum(ends.values()) - replay.records <= _NEAR_RECORDS and await _switch(live, replay, progress):
                return Rebuilt(replay.store.namespace, replay.records)


@asynccontextmanager
async def _rebuilt_namespace(catalog: Catalog) -> AsyncIterator[Namespace]:
    yield await catalog.begin_rebuild()
    await catalog.clean()


async def _switch(live: Store, replay: Replay, progress: Progress) -> bool:
    """Fence the consumers of the live projection, fold up to their checkpoints, and try to switch.

    Each fenced consumer takes its partition over again after a second. If a consumer does so before the switch, in the
    old projection, the switch fails.

    Returns:
        Whether the new projection is the live one.
    """
    held = await live.ownership.hold([(each.topic, each.partition) for each in replay.checkpoints])
    await replay.fold_to({TopicPartition(each.topic, each.partition): each.offset for each in held}, progress)
    try:
        return await live.ownership.switch(held, replay.store.namespace, replay.checkpoints)
    except Fenced:
        if not await replay.is_owner():
            raise
        await replay.acquire()
        return False


async def rebuild_until(config: Config, name: str, until: int, progress: Progress, workers: int = 1) -> Rebuilt:
    """Fold the records that the broker appended before a time into a named projection.

    A rebuild that was killed continues from its checkpoints when it is run again with the same name and time.

    Args:
        config: Settings with the addresses of the servers and the names of the topics.
        name: Name of the projection, for `Config.projection`.
        until: Append time of the broker, milliseconds since 1970 UTC.
        progress: Called after each batch.
        workers: Maximum number of processes that fold, with this one.

    Returns:
        The new projection.

    Raises:
        ConfigError: The name is invalid or reserved, or MongoDB has no transactions or is too old.
        Fenced: Another process builds the same projection, and has taken over.
        KafkaUnavailable: No broker answered.
        LogMismatch: The live projection was folded from another log, or the log lacks records.
        MongoUnavailable: MongoDB did not answer.
        ProjectionExists: A finished projection, or one until another time, has that name.
        WorkerDied: A process that folded was killed.
    """

    @asynccontextmanager
    async def named_namespace(catalog: Catalog) -> AsyncIterator[Namespace]:
        yield await catalog.begin_named(name, until)
        await catalog.finish_named(name)

    async with open_replay(config, named_namespace, workers) as (_, replay):
        await replay.fold_to(await replay.ends_before(until), progress)
        return Rebuilt(replay.store.namespace, replay.records)
