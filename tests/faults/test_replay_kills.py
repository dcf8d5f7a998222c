"""Rebuild, rebuild until and verify under live writes, killed at each of their steps and run again."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
import trialstream as ts
import warm
from anyio.to_thread import run_sync
from pymongo import MongoClient
from service_load import connected, load
from service_support import (
    caught_up,
    differences,
    folds_on,
    live,
    log_entries,
    members,
    place,
    projections,
    snapshot,
    until,
)
from trialstream.event_log.topics import ensure_topics
from trialstream_console.local.consumer import environment
from trialstream_consumer.projection.catalog import Catalog
from trialstream_consumer.projection.indexes import ensure_indexes
from trialstream_consumer.replay.rebuild import rebuild, rebuild_until
from trialstream_consumer.replay.replay import Replay
from trialstream_consumer.replay.verify import verify
from trialstream_schemas.errors import Fenced

STORE = "trialstream_consumer.projection.store:Store"
OWNERSHIP = "trialstream_consumer.projection.ownership:Ownership"
# The steps of a rebuild in their order: the function at which the process dies, and at which call of it.
STEPS = {
    "before it is described": ("trialstream_consumer.projection.catalog:Catalog._begin", 1),
    "before the indexes": ("trialstream_consumer.replay.opening:ensure_indexes", 1),
    "before the first batch": (f"{STORE}.write", 1),
    "between batches": (f"{STORE}.write", 4),
    "before the consumers are held": (f"{OWNERSHIP}.hold", 1),
    "while the consumers are being held": (f"{OWNERSHIP}.acquire", 8),
    "before the switch": (f"{OWNERSHIP}.switch", 1),
    "in the transaction of the switch": (f"{OWNERSHIP}._fence", 7),
    "after the switch": ("trialstream_consumer.projection.catalog:Catalog.clean", 2),
    # The step before has left a projection, which is dropped first, as the collections without a suffix are.
    "while the old one is being dropped": ("motor.motor_asyncio:AsyncIOMotorCollection.drop", 7 + 7 + 3),
}


def ignore(*_):
    """Ignore progress and differences."""


def die(config, task, place, call):
    """Run a task in a process that dies at that call."""
    command = [sys.executable, str(Path(__file__).with_name("dying.py")), task, place, str(call)]
    env = {**os.environ, **environment(config)}
    done = warm.run(command, env=env)

    assert done.returncode == -signal.SIGKILL, done.stderr


async def check_equals_the_log(config):
    """Compare every document with a fold of the log from its beginning."""
    found = []
    verified = await verify(config, found.append, ignore)

    assert found == []
    assert verified.documents > 0


@asynccontextmanager
async def watching(config):
    """Run readers that poll all the time, one of them over new connections; none ever sees less than before."""
    seen = {"trials": 0, "rows": 0, "members": 0}
    polls = 0
    left = anyio.Event()

    async def count(protocol):
        trials = await protocol.fetch_trials({})
        [project] = await protocol.fetch_projects({})
        shared = next(each for each in trials if each.name == "shared")
        history = await protocol.fetch_metrics(shared)
        return {
            "trials": len(trials),
            "rows": sum(len(each.values) for each in history.values()),
            "members": len(project.trials),
        }

    async def watch(protocol, least):
        nonlocal polls
        now = await count(protocol)

        assert all(now[name] >= least[name] for name in now), (least, now)

        seen.update({name: max(seen[name], now[name]) for name in now})
        polls += 1
        return now

    async def keep_watching():
        async with connected(config) as protocol:
            least = dict(seen)
            while not left.is_set():
                least = await watch(protocol, least)

    async def keep_reconnecting():
        while not left.is_set():  # not cancelled: aiokafka would leak a connection that is being opened
            least = dict(seen)
            async with connected(config) as protocol:
                await watch(protocol, least)

    async with connected(config) as protocol:
        await protocol.new_project(ts.Project(name="watched"))
        await protocol.new_trial(ts.Trial(name="member", project_id="watched"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_watching)
        tasks.start_soon(keep_reconnecting)
        await until(lambda: polls >= 4)
        try:
            yield lambda: polls
        finally:
            left.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # aiokafka's cancelled connections
async def test_a_rebuild_under_live_writes_switches_two_consumers_and_no_reader_sees_less(config, consumer):
    """No event is lost or folded twice, creations and claims succeed meanwhile, and the old projection is dropped."""
    first = consumer(config)
    second = await run_sync(consumer, config)

    async def both():
        return await members(config) == 2

    await until(both)
    async with load(config) as writing:
        await writing.grow(150)
        async with watching(config) as polls:
            for number in (1, 2):
                rebuilt = await rebuild(config, ignore)
                before = polls()
                async with connected(config) as protocol:
                    created = await protocol.new_trial(ts.Trial(name="made", parameters={"number": number}))
                    claimed = await protocol.fetch_and_update_trial({"uid": created.uid}, "log_trial_start")

                assert claimed.status == ts.Status.Running
                assert live(config) == rebuilt.namespace == place(config, str(number))

                await folds_on(config, 20)
                await until(lambda before=before: polls() >= before + 4)
        await writing.grow(50)
    await caught_up(config)
    await writing.check()
    await check_equals_the_log(config)

    assert first.running
    assert second.running
    assert log_entries(first, "projection_switched")
    assert log_entries(second, "projection_switched")
    assert projections(config) == {live(config)}


@pytest.mark.timeout(300)
@pytest.mark.slow
async def test_a_rebuild_killed_at_each_of_its_steps_continues_when_it_is_run_again(config, consumer):
    """After each kill, consumers fold on at once, no reader sees less, and the next run succeeds."""
    service = consumer(config)
    async with load(config, writers=1) as writing:
        await writing.grow(150)
        async with watching(config) as polls:
            for step, (place, call) in STEPS.items():
                before = live(config), polls()
                await run_sync(die, config, "rebuild", place, call)
                switched = step in ("after the switch", "while the old one is being dropped")

                assert (live(config) != before[0]) == switched, step

                with anyio.fail_after(20):  # a transaction left open would last a minute
                    await folds_on(config, 5)
                    await until(lambda before=before: polls() >= before[1] + 2)
            rebuilt = await rebuild(config, ignore)
    await caught_up(config)
    await writing.check()
    await check_equals_the_log(config)

    assert service.running
    assert live(config) == rebuilt.namespace
    assert projections(config) == {rebuilt.namespace}


@pytest.mark.parametrize("step", ["between batches", "in the transaction of the switch"])
async def test_without_a_consumer_a_killed_rebuild_continues_from_its_own_checkpoints(config, consumer, step):
    """Records folded before the kill are not folded again, and locks left by the kill do not delay the next run."""
    service = consumer(config)
    async with load(config) as writing:
        await writing.grow(100)
    await caught_up(config)
    before = snapshot(config)
    await run_sync(service.stop)
    await run_sync(die, config, "rebuild", *STEPS[step])
    steps = []
    with anyio.fail_after(10):
        rebuilt = await rebuild(config, lambda *each: steps.append(each))

    assert rebuilt.namespace == place(config, "1")
    assert steps[0][1] > 0
    assert differences(before, snapshot(config)) == []


@pytest.mark.slow
async def test_of_two_concurrent_rebuilds_one_succeeds_and_the_other_may_be_fenced(config, consumer):
    """Concurrent rebuilds fence each other like consumers: one projection is built, and it equals the log."""
    consumer(config)
    results = []

    async def run():
        try:
            results.append(await rebuild(config, ignore))
        except Fenced as error:
            results.append(error)

    async with load(config) as writing:
        await writing.grow(100)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            tasks.start_soon(run)
    await caught_up(config)
    await writing.check()
    await check_equals_the_log(config)
    rebuilt = [each for each in results if not isinstance(each, Fenced)]

    assert len(results) == 2
    assert rebuilt
    assert live(config) in {each.namespace for each in rebuilt}


async def test_of_two_replays_that_have_fenced_each_other_the_last_to_begin_continues(config, consumer):
    """The first one takes some partitions after the second one has begun; still, not both end with an error."""
    service = consumer(config)
    async with load(config) as writing:
        await writing.grow(50)
    await caught_up(config)
    await run_sync(service.stop)
    log = await ensure_topics(config)
    async with Catalog(config) as catalog:
        store = catalog.offline_store(await catalog.begin_rebuild())
        await ensure_indexes(config, store.namespace)
        async with Replay(config, store, log.partitions) as first, Replay(config, store, log.partitions) as second:
            await store.ownership.acquire(config.trials_topic, 0)
            await store.ownership.acquire(config.trials_topic, 1)
            ends = await second.ends()
            with pytest.raises(Fenced, match="another process has taken over"):
                await first.fold_to(ends, ignore)
            await second.fold_to(ends, ignore)

            assert sum(each.offset for each in second.checkpoints) == sum(ends.values())
            assert await second.is_owner()


async def test_a_killed_rebuild_until_and_a_killed_verify_can_be_run_again(config, consumer):
    """An unfinished projection until a time cannot be read, and the next verify drops that of a killed one."""
    consumer(config)
    async with load(config) as writing:
        await writing.grow(100)
        await run_sync(die, config, "until", f"{STORE}.write", 8)
        with pytest.raises(ts.ItemNotFound, match="not finished"):
            await ts.connect(mongo=config.mongo, prefix=config.prefix, projection="then").__aenter__()
        await run_sync(die, config, "verify", "trialstream_consumer.replay.diff:Comparison.differences", 1)

        assert place(config, "verify") in projections(config)

        await rebuild_until(config, "then", 2**42, ignore)
        await check_equals_the_log(config)
    async with ts.connect(mongo=config.mongo, prefix=config.prefix, projection="then") as protocol:
        assert len(await protocol.fetch_trials({})) == 4
    assert projections(config) == {live(config), place(config, "then")}


@pytest.mark.slow
async def test_a_rebuild_survives_a_killed_mongodb_or_is_run_again(config, consumer, stack):
    """No event is lost, whether the rebuild waits for MongoDB to come back or ends with an error."""
    consumer(config)
    async with load(config) as writing:
        await writing.grow(100)
        killed = False

        def kill(*_):
            nonlocal killed
            if not killed:
                killed = True
                stack.mongo.kill()
                stack.mongo.start()

        while live(config) == place(config):
            try:
                await rebuild(config, kill)
            except ts.MongoUnavailable:
                await until(lambda: _answers(config))
        await folds_on(config, 10)
    await caught_up(config)
    await writing.check()
    await check_equals_the_log(config)


def _answers(config):
    with MongoClient(config.mongo) as client:
        return client.admin.command("ping")["ok"] == 1.0
