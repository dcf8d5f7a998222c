"""Folds the whole log anew, beside the live projection, and switches over; or up to a time, to be read by a name.

docs/replay.md says why the switch is safe.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiokafka import TopicPartition
from trialstream.config import Config
from trialstream.log.topics import ensure_topics
from trialstream_schemas.errors import Fenced

from trialstream_consumer.projection.catalog import Catalog
from trialstream_consumer.projection.indexes import ensure_indexes
from trialstream_consumer.projection.store import Store
from trialstream_consumer.replay.replay import Progress, Replay

__all__ = ["Rebuilt", "rebuild", "rebuild_until"]

# A fenced consumer comes back after a second; so much is folded in a tenth of it.
_NEAR_RECORDS = 4000


@dataclass(frozen=True)
class Rebuilt:
    """What was made: its database, and how many records it was folded from."""

    database: str
    records: int


async def rebuild(config: Config, progress: Progress) -> Rebuilt:
    """Fold the log into a new projection and make it the live one; killed, it goes on where it was when run again.

    Raises:
        Fenced: another rebuild runs, and has taken over.
        KafkaUnavailable, MongoUnavailable: a server does not answer.
        LogMismatch: the log is not the one that the live projection was folded from, or lacks a part of it.
    """
    log = await ensure_topics(config)
    async with Catalog(config) as catalog:
        live = await catalog.live_store()
        await live.ownership.check_log(log)
        database = await catalog.begin_rebuild()
        await ensure_indexes(config, database)
        store = catalog.offline_store(database)
        await store.ownership.check_log(log)
        async with Replay(config, store, log.partitions) as replay:
            await replay.check(await live.ownership.checkpoints())
            ends = await replay.ends()
            while True:
                await replay.fold_to(ends, progress)
                ends = await replay.ends()
                behind = sum(ends.values()) - sum(each.offset for each in replay.checkpoints)
                if behind <= _NEAR_RECORDS and await _switch(live, store, replay, progress):
                    break
            records = sum(each.offset for each in replay.checkpoints)
        await catalog.clean()
    return Rebuilt(database, records)


async def _switch(live: Store, store: Store, replay: Replay, progress: Progress) -> bool:
    """Stop the consumers, fold what they have folded, and switch: they come back to the new projection.

    It holds nobody up for longer than a second: a consumer takes its partition over again after that, in the old
    projection, and then this attempt has failed.
    """
    held = await live.ownership.hold([(each.topic, each.partition) for each in replay.checkpoints])
    await replay.fold_to({TopicPartition(each.topic, each.partition): each.offset for each in held}, progress)
    try:
        return await live.ownership.switch(held, store.database, replay.checkpoints)
    except Fenced:
        if not await replay.leads():
            raise
        await replay.take()
        return False


async def rebuild_until(config: Config, name: str, until: int, progress: Progress) -> Rebuilt:
    """Fold what the broker appended before a time (ms since 1970) into a projection of its own.

    Raises:
        ConfigError: it cannot be called so.
        Fenced: somebody else builds the same, and has taken over.
        KafkaUnavailable, MongoUnavailable: a server does not answer.
        LogMismatch: the log is not the one that the live projection was folded from, or has lost its beginning.
        ProjectionExists: there is one of that name.
    """
    log = await ensure_topics(config)
    async with Catalog(config) as catalog:
        live = await catalog.live_store()
        await live.ownership.check_log(log)
        database = await catalog.begin_named(name, until)
        await ensure_indexes(config, database)
        store = catalog.offline_store(database)
        await store.ownership.check_log(log)
        async with Replay(config, store, log.partitions) as replay:
            await replay.check(await live.ownership.checkpoints())
            await replay.fold_to(await replay.ends_before(until), progress)
            records = sum(each.offset for each in replay.checkpoints)
        await catalog.finish_named(name)
    return Rebuilt(database, records)
