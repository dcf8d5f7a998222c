"""Kills of the workers of `trialstream consume --workers 2` and `rebuild --workers 2`, and of their parents."""

from __future__ import annotations

import os
import signal
import sys
from itertools import chain

import anyio
import psutil
import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from oracle import check, watched
from service_load import connected
from service_support import (
    caught_up,
    differences,
    folds_on,
    live,
    log_entries,
    members,
    place,
    projections,
    send,
    settings,
    snapshot,
    until,
)
from supervised import SupervisedConsumer, runs
from trialstream_consumer.replay.rebuild import rebuild
from writers import load


@pytest.fixture
async def supervised(config, tmp_path):
    """A consumer of two workers; it and its workers are gone after the test."""
    service = SupervisedConsumer(tmp_path, config, 2)
    await run_sync(service.start)
    yield service
    await run_sync(service.stop)


async def test_a_killed_worker_is_replaced_and_the_other_folds_on(config, supervised):
    """The new process gets the partitions of the killed one without a rebalance; every event is folded once."""
    ready = len(log_entries(supervised, "ready"))
    async with load(config, writers=2, pause=0.02, claims=40) as running, watched(config) as views:
        for number in (1, 2, 1):
            await running.grow(50)
            share = supervised.shares[number - 1]
            pid = supervised.workers[number]
            os.kill(pid, signal.SIGKILL)
            await until(lambda number=number, pid=pid: supervised.workers[number] != pid)
            ready += 1
            await until(lambda ready=ready: len(log_entries(supervised, "ready")) == ready)

            assert supervised.shares[number - 1] == share
        await folds_on(config, 20)
    await caught_up(config)
    figures = await check(config, running.journals, views=views)
    died = [(each["worker"], each["reason"]) for each in log_entries(supervised, "worker_died")]

    assert (figures.lost, figures.dead) == (0, 0)
    assert died == [(number, "killed by SIGKILL") for number in (1, 2, 1)]
    assert len(log_entries(supervised, "ready")) == ready  # no rebalance of the other worker
    assert set(chain(*supervised.shares)) == {f"{config.registry_topic}/0", *_trials(config)}


def _trials(config):
    return [f"{config.trials_topic}/{number}" for number in range(config.partitions)]


async def test_the_workers_of_a_killed_supervisor_end_and_the_next_consumer_folds_on(config, supervised, consumer):
    """The workers stop in order and leave the group at once; nothing is lost or folded twice."""
    async with load(config, writers=2, pause=0.02) as running, watched(config) as views:
        await running.grow(50)
        pids = supervised.workers.values()
        await run_sync(supervised.kill)
        await until(lambda: not any(map(runs, pids)), 20)

        assert await members(config) == 0

        await run_sync(consumer, config)
        await folds_on(config, 20)
    await caught_up(config)
    figures = await check(config, running.journals, views=views)

    assert (figures.lost, figures.dead) == (0, 0)


@pytest.mark.slow
async def test_a_worker_that_dies_again_and_again_ends_the_consumer_with_the_reason(config, supervised):
    """A worker that dies again at once after every restart ends the consumer with exit code 1."""
    deaths = 0
    while supervised.running:
        for number, pid in supervised.workers.items():
            if number == 1 and runs(pid):
                deaths += 1
                os.kill(pid, signal.SIGKILL)
                await until(lambda pid=pid: supervised.workers[1] != pid or not supervised.running)
    process = supervised._process

    assert process.returncode == 1
    assert deaths == 6
    assert not any(map(runs, supervised.workers.values()))
    assert "error: worker 1 ended 6 times in a row" in supervised.log.read_text().splitlines()[-1]


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL], ids=["SIGTERM", "SIGKILL"]
)
async def test_a_rebuild_that_is_ended_switches_nothing_and_can_be_run_again(config, consumer, number):
    """Its workers end with it; consumers fold on; the next run continues and gives the same documents."""
    service = await run_sync(consumer, config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
        for each in range(3000):
            await protocol.add_trial_tags(trial, number=each)
    for partition in range(config.partitions):
        await send(config, [b"none"] * 1000, partition=partition)
    await caught_up(config)
    await run_sync(service.stop)
    before = snapshot(config)
    command = [sys.executable, "-m", "trialstream_console.cli", "rebuild", "--workers", "2"]
    async with await anyio.open_process(command, env={**os.environ, **settings(config)}) as process:
        workers = []

        def has_worker():
            workers.extend(psutil.Process(process.pid).children())
            return bool(workers)

        await until(has_worker)
        process.send_signal(number)
        code = await process.wait()
        await until(lambda: not any(runs(each.pid) for each in workers))

    assert code == (128 + number if number == signal.SIGTERM else -number)
    assert live(config) == place(config)
    assert differences(before, snapshot(config)) == []

    rebuilt = await rebuild(config, lambda *_: None, 2)

    assert rebuilt.namespace == place(config, "1")
    assert differences(before, snapshot(config)) == []
    assert projections(config) == {rebuilt.namespace}
