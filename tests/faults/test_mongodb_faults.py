"""Faults of MongoDB: kills, a step-down and an outage of a minute; consumers and readers recover by themselves."""

from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from injectors import killed, step_down
from oracle import check, watched
from service_support import folds_on, paused, until
from writers import connected, load


@asynccontextmanager
async def reading(config):
    """Run a reader in a loop; yields the list of its answers, None for each read that failed."""
    answers = []

    async def read():
        while True:
            try:
                answers.append(len(await reader.fetch_trials({"name": "own"})))
            except (ts.MongoUnavailable, ts.ProjectionBehind):
                answers.append(None)
            await anyio.sleep(0.05)

    async with connected(config, timeout=5) as reader, anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        yield answers
        tasks.cancel_scope.cancel()


async def answered(answers):
    """Wait for the next successful read."""
    before = len(answers)
    await until(lambda: any(answers[before:]))


async def test_mongodb_is_killed_while_a_consumer_folds(config, consumer, stack):
    """The documents equal the oracle at every moment, and the reader recovers by itself."""
    service = consumer(config)
    async with load(config, writers=2) as running, watched(config) as views, reading(config) as answers:
        await running.grow(200)
        async with killed(stack.mongo):
            await running.grow(200)
        await folds_on(config, 10)
        await answered(answers)
    figures = await check(config, running.journals, views=views[:3] + views[-10:])

    assert (figures.lost, figures.dead) == (0, 0)
    assert service.running


async def test_the_primary_steps_down_while_a_consumer_folds(config, consumer, stack):
    """Although a step-down refuses writes and loses unreplicated ones, the documents equal the oracle."""
    service = consumer(config)
    async with load(config, writers=2) as running, watched(config) as views, reading(config) as answers:
        await running.grow(200)
        await step_down(stack)
        await folds_on(config, 10)
        await answered(answers)
    figures = await check(config, running.journals, views=views[:3] + views[-10:])

    assert (figures.lost, figures.dead) == (0, 0)
    assert service.running


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_mongodb_is_away_for_a_minute(config, consumer, stack, how):
    """After an outage longer than any time-out of consumer, driver and group, the documents equal the oracle."""
    service = consumer(config)
    async with load(config, writers=2, pause=0.05) as running, reading(config) as answers:
        await running.grow(100)
        if how == "killed":
            async with killed(stack.mongo):
                await anyio.sleep(60)
        else:
            with paused(stack.mongo):
                await anyio.sleep(60)
        await folds_on(config, 10)
        await answered(answers)
    figures = await check(config, running.journals)

    assert (figures.lost, figures.dead) == (0, 0)
    assert service.running


async def test_readers_report_that_mongodb_is_away_and_writers_do_not_need_it(config, consumer, stack):
    """The reader raises MongoUnavailable; events that were logged meanwhile are folded later."""
    service = consumer(config)
    async with load(config, writers=1) as running:
        await running.grow(20)
        await run_sync(service.stop)
        async with killed(stack.mongo), connected(config, timeout=2) as protocol:
            with pytest.raises(ts.MongoUnavailable):
                await protocol.fetch_trials({"name": "own"})
            await running.grow(50)
        await run_sync(service.start)
    await check(config, running.journals)
