"""The consumer service: members share the partitions, join, leave and die, and the service stops cleanly."""

from __future__ import annotations

import re
from contextlib import nullcontext
from datetime import datetime
from functools import partial

import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from service_load import connected, load
from service_support import (
    bury,
    caught_up,
    differences,
    drop,
    folds_on,
    log_entries,
    log_lines,
    members,
    paused,
    snapshot,
    terminate,
    until,
)

# A stop that has to wait for a transaction takes up to its time limit (projection.client.CALL_SECONDS), and a little.
STOP_SECONDS = 14.0


def folding(service):
    """Return the partitions that a consumer has taken over so far."""
    return {f"{line['topic']}/{line['partition']}" for line in log_entries(service, "folding")}


def assigned(service):
    """Return the partitions of a consumer at its latest assignment."""
    return set(log_entries(service, "ready")[-1]["partitions"])


def repeated(service):
    """Return the warnings and errors of a consumer that were logged twice in less than a minute."""
    found = []
    latest: dict[str, datetime] = {}
    for line in log_lines(service):
        if line["level"] == "info":
            continue
        time = datetime.fromisoformat(str(line["timestamp"]))
        message = str({key: value for key, value in line.items() if key not in ("timestamp", "left_out")})
        message = re.sub(r"\d+\.\d+s", "#", message)  # a measured time
        if message in latest and (time - latest[message]).total_seconds() < 59:
            found.append(line)
        latest[message] = time
    return found


async def shared_by_two(config, first, second):
    """Wait until both consumers have some of the partitions, and together all of them."""
    await until(partial(_is_stable, config, 2))

    def are_shared():
        counts = len(assigned(first)), len(assigned(second))
        return bool(folding(second)) and all(counts) and sum(counts) == config.partitions + 1

    await until(are_shared)


@pytest.mark.parametrize("how", ["leaves", pytest.param("is killed", marks=pytest.mark.slow)])
async def test_two_consumers_share_the_partitions_and_when_one_leaves_the_other_continues(config, consumer, how):
    """Nothing is lost and nothing is folded twice, whether a member shuts down or dies."""
    first = consumer(config)
    async with load(config) as writing:
        second = await run_sync(consumer, config)
        await shared_by_two(config, first, second)
        theirs, mine = assigned(second), assigned(first)

        assert len(theirs) + len(mine) == config.partitions + 1
        assert not theirs & mine

        await folds_on(config, 20)
        if how == "leaves":
            code, _ = await run_sync(terminate, second, STOP_SECONDS)

            assert code == 0
        else:
            await run_sync(second.kill)
        await until(lambda: len(assigned(first)) == config.partitions + 1)
        await writing.grow(300)
    await caught_up(config)
    await writing.check()
    live = snapshot(config)
    first.stop()
    drop(config)
    consumer(config)
    await caught_up(config)

    assert differences(live, snapshot(config)) == []


async def _is_stable(config, count):
    return await members(config) == count


@pytest.mark.slow
async def test_a_consumer_that_is_killed_again_and_again_loses_nothing(config, consumer):
    """After kill -9 at any moment, the documents equal the acknowledged events of the writers."""
    service = consumer(config)
    async with load(config) as writing:
        for _ in range(4):
            await writing.grow(100)
            await folds_on(config, 5)
            await run_sync(service.kill)
            await bury(config)
            await run_sync(service.start)
    await caught_up(config)
    await writing.check()
    live = snapshot(config)
    service.stop()
    drop(config)
    service.start()
    await caught_up(config)

    assert differences(live, snapshot(config)) == []


async def test_an_idle_consumer_stops_on_sigterm(config, consumer):
    """The exit code is 0, at once; every line of the log is a JSON object, the last one `stopped`."""
    service = consumer(config)
    code, seconds = terminate(service, STOP_SECONDS)
    lines = log_lines(service)

    assert code == 0
    assert seconds < 5
    assert [line["event"] for line in lines][-2:] == ["stopping", "stopped"]
    assert all({"event", "level", "logger", "timestamp"} <= line.keys() for line in lines)
    assert not [line for line in lines if line["level"] in ("error", "critical")]


async def test_a_consumer_under_load_stops_on_sigterm(config, consumer):
    """The consumer finishes its open transactions, and its successor continues without a gap."""
    service = consumer(config)
    async with load(config) as writing:
        await writing.grow(300)
        code, seconds = await run_sync(terminate, service, STOP_SECONDS)

        assert code == 0
        assert seconds < 5
        assert log_lines(service)[-1]["event"] == "stopped"

        await run_sync(service.start)
    await caught_up(config)
    await writing.check()


@pytest.mark.parametrize(
    ("busy", "how"),
    [
        pytest.param(True, "killed", id="killed under load", marks=pytest.mark.slow),
        pytest.param(True, "paused", id="paused under load"),
        pytest.param(False, "paused", id="paused, idle", marks=pytest.mark.slow),
    ],
)
async def test_a_consumer_stops_on_sigterm_while_mongodb_is_away(config, consumer, stack, busy, how):
    """Events that the consumer cannot write any more stay in Kafka; its successor folds them."""
    service = consumer(config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
        await protocol.commit("folded")
        with paused(stack.mongo) if how == "paused" else nullcontext():
            if how == "killed":
                await run_sync(stack.mongo.kill)
            try:
                if busy:
                    await protocol.log_trial_metrics(trial, step=1, loss=1.0)
                    await protocol.commit()
                code, seconds = await run_sync(terminate, service, STOP_SECONDS)
            finally:
                await run_sync(stack.mongo.start)  # without effect on a server that runs
        await run_sync(service.start)
        [again] = await protocol.fetch_trials({"uid": trial.uid})

    assert code == 0
    assert seconds < STOP_SECONDS
    assert log_entries(service, "stopped")
    assert ("loss" in again.metrics) == busy


async def test_a_consumer_stops_on_sigterm_while_kafka_is_away(config, consumer, stack):
    """The consumer stops although it cannot leave the group."""
    service = consumer(config)
    stack.kafka.kill()
    try:
        code, seconds = terminate(service, STOP_SECONDS)
    finally:
        stack.kafka.start()

    assert code == 0
    assert seconds < STOP_SECONDS
    assert log_entries(service, "stopped")


@pytest.mark.slow
async def test_mongodb_is_killed_and_started_again_while_a_consumer_folds(config, consumer, stack):
    """The consumer waits and continues by itself; nothing is lost or doubled."""
    service = consumer(config)
    async with load(config) as writing:
        await writing.grow(150)
        await run_sync(stack.mongo.kill)
        await writing.grow(150)
        await run_sync(stack.mongo.start)
        await folds_on(config, 1)
    await caught_up(config)
    await writing.check()

    assert service.running
    assert repeated(service) == []


@pytest.mark.slow
async def test_kafka_is_killed_and_started_again_while_a_consumer_folds(config, consumer, stack):
    """The consumer rejoins by itself; nothing is lost or doubled."""
    service = consumer(config)
    async with load(config) as writing:
        await writing.grow(150)
        await run_sync(stack.kafka.kill)
        await writing.grow(150)
        await run_sync(stack.kafka.start)
    await caught_up(config)
    await writing.check()

    assert service.running
    assert [line for line in log_lines(service) if "Unable connect" in str(line["event"])]
    assert repeated(service) == []
