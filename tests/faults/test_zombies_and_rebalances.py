"""Zombies, which are consumers that lost their partitions without notice, and frequent rebalances."""

from __future__ import annotations

import signal
from functools import partial

import anyio
import pytest
from anyio.to_thread import run_sync
from oracle import check, watched
from service_support import bury, folded, folds_on, log_entries, members, paused, until
from writers import load


async def test_a_zombie_is_fenced(config, consumer):
    """A paused consumer that was removed from the group writes nothing when it resumes, and rejoins as a member.

    The test removes it from the group instead of waiting for its session to expire.
    """
    zombie = consumer(config)
    async with load(config, writers=2) as running, watched(config) as views:
        await running.grow(200)
        with paused(zombie):
            await bury(config)
            heir = await run_sync(consumer, config)
            await folds_on(config, 20)
        await until(lambda: bool(log_entries(zombie, "fenced")) or len(log_entries(zombie, "ready")) > 1)
        await folds_on(config, 20)
    figures = await check(config, running.journals, views=views)

    assert (figures.lost, figures.dead) == (0, 0)
    assert zombie.running
    assert heir.running


@pytest.mark.slow
async def test_a_consumer_that_is_paused_past_its_session_is_fenced(config, consumer):
    """A consumer whose session expired during a pause writes nothing when it resumes, and rejoins as a member."""
    zombie = consumer(config)
    async with load(config, writers=2, pause=0.02) as running, watched(config, 1.0) as views:
        await running.grow(200)
        heir = await run_sync(consumer, config)
        await until(partial(_stable, config, 2))
        with paused(zombie):
            await until(lambda: len(log_entries(heir, "ready")[-1]["partitions"]) == config.partitions + 1, 60)
            await folds_on(config, 20)
        await until(lambda: len(log_entries(zombie, "ready")) > 2, 60)
        await folds_on(config, 20)
    figures = await check(config, running.journals, views=views)

    assert (figures.lost, figures.dead) == (0, 0)
    assert zombie.running


async def _stable(config, count):
    return await members(config) == count


@pytest.mark.slow
async def test_frequent_rebalances_do_not_stop_the_folding(config, consumer):
    """Four consumers in turn are killed or stopped, and started again; in every window events are folded."""
    services = [consumer(config)]
    windows = []
    async with load(config, writers=2, pause=0.02) as running, watched(config) as views:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(_join, consumer, config, services)
        for number, service in enumerate(services):
            before = folded(config)
            await run_sync(service.kill if number % 2 else partial(service.signal, signal.SIGTERM))
            await bury(config) if number % 2 else await until(lambda gone=service: not gone.running)
            await run_sync(service.start)
            await folds_on(config, 1)
            windows.append(folded(config) - before)
    figures = await check(config, running.journals, views=views[::4])

    assert (figures.lost, figures.dead) == (0, 0)
    assert all(windows), windows


async def _join(consumer, config, services):
    services.append(await run_sync(consumer, config))
