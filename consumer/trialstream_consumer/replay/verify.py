"""Verify: folds the log into a temporary projection, and compares the live projection with that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
from aiokafka import TopicPartition
from trialstream.config import Config
from trialstream_schemas.errors import LogMismatch
from trialstream_schemas.storage.collections import Namespace

from trialstream_consumer.progress import Progress
from trialstream_consumer.projection.catalog import Catalog
from trialstream_consumer.replay.diff import Comparison, Difference
from trialstream_consumer.replay.opening import open_replay

__all__ = ["Verified", "verify"]

_DROP_SECONDS = 30.0


@dataclass(frozen=True)
class Verified:
    """Result of a comparison.

    Attributes:
        documents: Number of documents of the live projection that were compared.
        records: Number of records from which the temporary projection was folded.
    """

    documents: int
    records: int


async def verify(config: Config, found: Callable[[Difference], None], progress: Progress, workers: int = 1) -> Verified:
    """Compare every document of the live projection with a fold of the log; consumers may run meanwhile.

    Args:
        config: Settings with the addresses of the servers and the names of the topics.
        found: Called with each difference.
        progress: Called after each batch that is folded, and after each difference.
        workers: Maximum number of processes that fold, with this one.

    Returns:
        The numbers of documents and records that were compared.

    Raises:
        ConfigError: MongoDB has no transactions or is too old.
        Fenced: Another process verifies the same projection, and has taken over.
        KafkaUnavailable: No broker answered.
        LogMismatch: The live projection was folded from another log, or the log lacks records.
        MongoUnavailable: MongoDB did not answer.
        WorkerDied: A process that folded was killed.
    """
    async with open_replay(config, _temporary_namespace, workers) as (live, replay):

        async def fold_to(offsets: dict[str, int]) -> None:
            partitions = {each.id: TopicPartition(each.topic, each.partition) for each in replay.checkpoints}
            if unknown := sorted(offsets.keys() - partitions.keys()):
                raise LogMismatch(
                    f"{live.namespace} has a checkpoint of {unknown[0]}: expected one of the {len(partitions)} "
                    "partitions of the log"
                )
            await replay.fold_to({partitions[id_]: offset for id_, offset in offsets.items()}, progress)

        await fold_to({each.id: each.offset for each in await live.ownership.checkpoints()})
        async with Comparison(config, live.namespace, replay.store.namespace, fold_to) as comparison:
            total = await comparison.count()
            async for difference in comparison.differences():
                found(difference)
                progress("comparing", comparison.compared, max(total, comparison.compared))
            progress("comparing", comparison.compared, comparison.compared)
            return Verified(comparison.compared, replay.records)


@asynccontextmanager
async def _temporary_namespace(catalog: Catalog) -> AsyncIterator[Namespace]:
    namespace = await catalog.begin_verify()
    try:
        yield namespace
    finally:
        with anyio.move_on_after(_DROP_SECONDS, shield=True):
            await catalog.end_verify()
