"""Opening of a replay: the common first part of rebuild, rebuild until a time, and verify."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

from trialstream.config import Config
from trialstream.event_log.topics import ensure_topics
from trialstream_schemas.storage.collections import Namespace

from trialstream_consumer.projection.catalog import Catalog
from trialstream_consumer.projection.deployment import check_deployment
from trialstream_consumer.projection.indexes import ensure_indexes
from trialstream_consumer.projection.store import Store
from trialstream_consumer.replay.replay import Replay

__all__ = ["Target", "open_replay"]

Target: TypeAlias = Callable[[Catalog], AbstractAsyncContextManager[Namespace]]
"""Returns a context manager that makes the place to fold into, and finishes or drops it after the replay."""


@asynccontextmanager
async def open_replay(config: Config, target: Target, workers: int) -> AsyncIterator[tuple[Store, Replay]]:
    """Take over all partitions of the log in a projection that is not the live one, for one block.

    Args:
        config: Settings with the addresses of the servers and the names of the topics.
        target: Makes the place of the projection.
        workers: Maximum number of processes that fold, with this one.

    Yields:
        The store of the live projection, and the replay.

    Raises:
        ConfigError: MongoDB has no transactions or is too old.
        Fenced: The projection has become the live one.
        KafkaUnavailable: No broker answered.
        LogMismatch: The live projection was folded from another log, or the log lacks records.
        MongoUnavailable: MongoDB did not answer.
    """
    await check_deployment(config)
    log = await ensure_topics(config, to_fold=True)
    async with Catalog(config) as catalog:
        live = await catalog.live_store()
        await live.ownership.check_log(log)
        async with target(catalog) as namespace:
            await ensure_indexes(config, namespace)
            store = catalog.offline_store(namespace)
            await store.ownership.check_log(log)
            async with Replay(config, store, log.partitions, processes=workers) as replay:
                await replay.check(await live.ownership.checkpoints())
                yield live, replay
