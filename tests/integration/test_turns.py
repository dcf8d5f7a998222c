"""The turns of a store's workers: a worker that is stopped or fails leaves its turn to the others."""

from __future__ import annotations

import anyio
import pytest
from service_support import paused, place, send
from trialstream.event_log.topics import ensure_topics
from trialstream_consumer.projection.client import Connection
from trialstream_consumer.projection.indexes import ensure_indexes
from trialstream_consumer.projection.store import Store
from trialstream_consumer.replay.replay import Replay
from trialstream_schemas.errors import MongoUnavailable

RECORDS = 50


@pytest.fixture
async def replay(config):
    """A replay of a log with records in each of four partitions; each of the records becomes a dead letter."""
    await ensure_topics(config)
    await ensure_indexes(config)
    for partition in range(config.partitions):
        await send(config, [b"no event"] * RECORDS, partition=partition)
    connection = Connection(config, 4.0)  # half of the usual time, which a call takes while MongoDB is paused
    async with Replay(config, Store(connection, place(config)), config.partitions) as replay:
        yield replay
    connection.close()


def unreported(*_):
    """Ignore a report of progress."""


async def fold_all(replay):
    """Take the partitions over and fold the whole log; all turns are free then."""
    await replay.acquire()
    ends = await replay.ends()
    await replay.fold_to(ends, unreported)

    assert replay.records == sum(ends.values()) > RECORDS * 4
    assert await free_turns(replay) == 2


async def free_turns(replay):
    """Count the turns that no worker holds."""
    turns = replay.store.turns
    taken = 0
    while not turns.locked():
        await turns.acquire()
        taken += 1
    for _ in range(taken):
        turns.release()
    return taken


async def test_workers_that_are_stopped_while_they_wait(replay):
    """While two batches are in work, no other is; workers that are cancelled meanwhile, as by a rebalance, end."""
    for _ in range(2):
        await replay.store.turns.acquire()
    before = replay.records
    with anyio.move_on_after(2) as waiting:
        await replay.fold_to(await replay.ends(), unreported)

    assert waiting.cancelled_caught
    assert replay.records == before
    for _ in range(2):
        replay.store.turns.release()
    await fold_all(replay)


async def test_workers_that_are_stopped_at_any_time(replay):
    """Workers that are cancelled while they decode, fold, wait or write hold no turn afterwards."""
    for seconds in (0.0, 0.01, 0.02, 0.04, 0.06):
        with anyio.move_on_after(seconds):
            await replay.fold_to(await replay.ends(), unreported)

        assert await free_turns(replay) == 2
    await fold_all(replay)


@pytest.mark.slow
async def test_workers_whose_store_fails(replay, stack):
    """Workers that end because MongoDB does not answer hold no turn afterwards."""
    ends = await replay.ends()
    with paused(stack.mongo), pytest.raises(MongoUnavailable):
        await replay.fold_to(ends, unreported)

    assert await free_turns(replay) == 2
    await fold_all(replay)
