"""Rebuild: folds the whole log beside the live projection and switches over, or up to a time into a named projection.

docs/replay.md says why the switch is safe.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import TopicPartition
from trialstream.config import Config
from trialstream_schemas.errors import Fenced

from trialstream_consumer.progress import Progress
from trialstream_consumer.projection.catalog import Catalog
from trialstream_consumer.projection.store import Store
from trialstream_consumer.replay.opening import open_replay
from trialstream_consumer.replay.replay import Replay

__all__ = ["Rebuilt", "rebuild", "rebuild_until"]

# A fenced consumer takes its partition over again after a second; this many records are folded in a tenth of that.
_NEAR_RECORDS = 4000


@dataclass(frozen=True)
class Rebuilt:
    """Result of a rebuild.

    Attributes:
        database: MongoDB database of the new projection.
        records: Number of records that it was folded from.
    """

    database: str
    records: int


async def rebuild(config: Config, progress: Progress) -> Rebuilt:
    """Fold the log into a new projection and make it the live one.

    A rebuild that was killed continues from its checkpoints when it is run again.

    Args:
        config: Where the servers are.
        progress: Called after each batch.

    Raises:
        Fenced: Another rebuild runs, and has taken over.
        KafkaUnavailable: No broker answered.
        LogMismatch: The log is not the one that the live projection was folded from, or lacks a part of it.
        MongoUnavailable: MongoDB did not answer.
    """
    async with open_replay(config, _rebuilt_database) as (live, replay):
        ends = await replay.ends()
        while True:
            await replay.fold_to(ends, progress)
            ends = await replay.ends()
            if sum(ends.values()) - replay.records <= _NEAR_RECORDS and await _switch(live, replay, progress):
                return Rebuilt(replay.store.database, replay.records)


@asynccontextmanager
async def _rebuilt_database(catalog: Catalog) -> AsyncIterator[str]:
    yield await catalog.begin_rebuild()
    await catalog.clean()


async def _switch(live: Store, replay: Replay, progress: Progress) -> bool:
    """Hold the live projection, fold what it has folded, and switch; return whether the switch was made.

    The consumers are fenced meanwhile, for a second at most: then each takes its partition over again, and a consumer
    that does so in the old projection makes this attempt fail.
    """
    held = await live.ownership.hold([(each.topic, each.partition) for each in replay.checkpoints])
    await replay.fold_to({TopicPartition(each.topic, each.partition): each.offset for each in held}, progress)
    try:
        return await live.ownership.switch(held, replay.store.database, replay.checkpoints)
    except Fenced:
        if not await replay.leads():
            raise
        await replay.take()
        return False


async def rebuild_until(config: Config, name: str, until: int, progress: Progress) -> Rebuilt:
    """Fold the records that the broker appended before a time into a named projection.

    A rebuild that was killed continues from its checkpoints when it is run again with the same name and time.

    Args:
        config: Where the servers are.
        name: Name of the projection, for `Config.projection`.
        until: Append time of the broker, milliseconds since 1970 UTC.
        progress: Called after each batch.

    Raises:
        ConfigError: The name is not allowed.
        Fenced: Another process builds the same projection, and has taken over.
        KafkaUnavailable: No broker answered.
        LogMismatch: The log is not the one that the live projection was folded from, or lacks a part of it.
        MongoUnavailable: MongoDB did not answer.
        ProjectionExists: A finished projection, or one until another time, has that name.
    """

    @asynccontextmanager
    async def named_database(catalog: Catalog) -> AsyncIterator[str]:
        yield await catalog.begin_named(name, until)
        await catalog.finish_named(name)

    async with open_replay(config, named_database) as (_, replay):
        await replay.fold_to(await replay.ends_before(until), progress)
        return Rebuilt(replay.store.database, replay.records)
