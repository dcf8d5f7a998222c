"""Folds the log into a projection of its own and compares it with the live one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio
from aiokafka import TopicPartition
from trialstream.config import Config
from trialstream.log.topics import ensure_topics
from trialstream_schemas.errors import LogMismatch

from trialstream_consumer.projection.catalog import Catalog
from trialstream_consumer.projection.indexes import ensure_indexes
from trialstream_consumer.replay.diff import Comparison, Difference
from trialstream_consumer.replay.replay import Progress, Replay

__all__ = ["Verified", "verify"]

_DROP_SECONDS = 30.0


@dataclass(frozen=True)
class Verified:
    """What was compared: documents of the live projection, and records that it was folded from."""

    documents: int
    records: int


async def verify(config: Config, found: Callable[[Difference], None], progress: Progress) -> Verified:
    """Compare every document of the live projection with the log, and tell each difference; consumers may run.

    Raises:
        Fenced: somebody else verifies the same projection, and has taken over.
        KafkaUnavailable, MongoUnavailable: a server does not answer.
        LogMismatch: the log is not the one that the live projection was folded from, or lacks a part of it.
    """
    log = await ensure_topics(config)
    async with Catalog(config) as catalog:
        live = await catalog.live_store()
        await live.ownership.check_log(log)
        database = await catalog.begin_verify()
        try:
            await ensure_indexes(config, database)
            store = catalog.offline_store(database)
            await store.ownership.check_log(log)
            async with Replay(config, store, log.partitions) as replay:

                async def catch_up(offsets: dict[str, int]) -> None:
                    known = {each.id: each for each in replay.checkpoints}
                    if strange := sorted(offsets.keys() - known.keys()):
                        raise LogMismatch(f"{live.database} has a checkpoint of {strange[0]}, which the log has not")
                    places = {id_: TopicPartition(each.topic, each.partition) for id_, each in known.items()}
                    await replay.fold_to({places[id_]: offset for id_, offset in offsets.items()}, progress)

                checkpoints = await live.ownership.checkpoints()
                await replay.check(checkpoints)
                await catch_up({each.id: each.offset for each in checkpoints})
                async with Comparison(config, live.database, database, catch_up) as comparison:
                    total = await comparison.count()
                    async for difference in comparison.differences():
                        found(difference)
                        progress("comparing", comparison.compared, max(total, comparison.compared))
                    progress("comparing", comparison.compared, comparison.compared)
                    return Verified(comparison.compared, sum(each.offset for each in replay.checkpoints))
        finally:
            with anyio.move_on_after(_DROP_SECONDS, shield=True):
                await catalog.end_verify()
