"""Kafka unavailable for longer than memory lasts: events go to disk, up to its cap, and then `when_full` decides."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from trialstream.pipeline.push import push_spool, waiting_spools
from trialstream.spool.finding import find_spools

MIB = 2**20
# 16 MiB in memory hold 165 of these. 16 MiB on disk hold as many again, less those that are in both.
FILLER = 100_000


def small(config, **settings):
    """A protocol whose memory and disk are full after some hundred events."""
    return ts.KafkaProtocol(
        replace(config, memory_bytes=16 * MIB, spool_bytes=16 * MIB, block_seconds=0.5, **settings), timeout=20
    )


def filler():
    """Text that does not compress."""
    return os.urandom(FILLER // 2).hex()


async def test_events_of_an_outage_go_to_disk_and_arrive_in_order(config, consumer, stack):
    """In an outage, events of three times the memory go to disk, memory stays bounded, each arrives once, in order."""
    consumer(config)
    async with ts.KafkaProtocol(replace(config, memory_bytes=16 * MIB), timeout=60) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        await protocol.log_trial_metrics(trial, step=0, loss=0.0)
        await run_sync(stack.kafka.kill)
        most = slowest = 0.0
        try:
            for i in range(1, 500):
                started = time.perf_counter()
                await protocol.add_trial_tags(trial, filler=filler(), last=i)
                await protocol.log_trial_metrics(trial, step=i, loss=i / 4)
                slowest = max(slowest, time.perf_counter() - started)
                most = max(most, protocol.statistics().bytes)
            statistics = protocol.statistics()
        finally:
            await run_sync(stack.kafka.start)
        for i in range(500, 520):
            await protocol.log_trial_metrics(trial, step=i, loss=i / 4)
        await protocol.commit("folded", timeout=90)
        [found] = await protocol.fetch_trials({"uid": trial.uid})
        history = await protocol.fetch_metrics(trial)

    assert most < 17 * MIB
    assert statistics.spooled > 150
    assert (found.lost_events, found.state_version, found.tags["last"]) == (0, 499, 499)
    assert history["loss"].steps.tolist() == list(range(520))
    assert not config.spools.exists()
    assert slowest < 5  # the disk of a busy machine; no call waited for room


@pytest.mark.slow
async def test_events_left_by_a_close_are_pushed_later(config, consumer, stack):
    """Kafka is unavailable during the close: one warning says where the rest is, and the push completes the run."""
    consumer(config)
    try:
        with pytest.warns(RuntimeWarning) as warned:
            async with ts.KafkaProtocol(config, timeout=3) as protocol:
                trial = await protocol.new_trial(ts.Trial(name="t"))
                await protocol.log_trial_start(trial)
                await run_sync(stack.kafka.kill)
                for i in range(1000):
                    await protocol.log_trial_metrics(trial, step=i, loss=i / 4)
                await protocol.log_trial_finish(trial)
                started = time.monotonic()
        seconds = time.monotonic() - started
    finally:
        await run_sync(stack.kafka.start)
    *_, message = [str(each.message) for each in warned]
    folder = re.search(r"events? waits? in (\S+): send (?:it|them) with trialstream push (\S+) ", message)
    assert folder[1] == folder[2] == str(config.spools / protocol.writer)
    await push_spool(config, config.spools / protocol.writer, lambda _: None)
    async with ts.KafkaProtocol(config) as reader:
        await reader.new_trial(ts.Trial(name="t"), auto_increment=True)  # after all other events in the partition
        [found, _] = await reader.get_trial(trial)
        history = await reader.fetch_metrics(found)

    assert seconds < 3 + 10 + 5
    assert (found.status, found.lost_events) == (ts.Status.Completed, 0)
    assert history["loss"].steps.tolist() == list(range(1000))


@pytest.mark.slow
async def test_a_full_disk_blocks_once_and_then_drops_new_events(config, consumer, stack):
    """By default each dropped event is counted and shows as a gap of the trial; no other event is missing."""
    consumer(config)
    async with small(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        await run_sync(stack.kafka.kill)
        logged = waited = 0
        try:
            with pytest.warns(RuntimeWarning) as said:
                while protocol.statistics().dropped < 5:
                    started = time.monotonic()
                    await protocol.add_trial_tags(trial, filler=filler(), last=logged)
                    waited += time.monotonic() - started > 0.4
                    logged += 1
            taken = sum(each.stat().st_size for each in (config.spools / protocol.writer).iterdir())
        finally:
            await run_sync(stack.kafka.start)
        await protocol.commit("folded", timeout=90)
        await protocol.add_trial_tags(trial, behind=True)
        [found] = await protocol.fetch_trials({"uid": trial.uid})
        dropped = protocol.statistics().dropped

    assert any("takes no more: new events are dropped and counted" in str(each.message) for each in said)
    assert 180 < logged < 400
    assert waited <= 2
    assert taken <= 16 * MIB
    assert found.lost_events == dropped == 5
    assert found.state_version == logged - dropped + 1
    assert found.tags["last"] == logged - dropped - 1


@pytest.mark.slow
async def test_a_full_disk_can_drop_its_oldest_events(config, consumer, stack):
    """Calls do not wait: new events and all creations are kept; dropped ones are counted and show as a gap."""
    consumer(config)
    await run_sync(stack.kafka.kill)
    try:
        with pytest.warns(RuntimeWarning, match="does not answer"):
            protocol = await small(config, when_full="drop_oldest").__aenter__()
        trial = await protocol.new_trial(ts.Trial(name="t"))
        logged = 0
        while protocol.statistics().dropped < 100 or logged < 400:
            await protocol.add_trial_tags(trial, filler=filler(), last=logged)
            logged += 1
            if logged % 20 == 0:
                await protocol.commit("spooled")  # as fast as the disk
    finally:
        await run_sync(stack.kafka.start)
    await protocol.commit("folded", timeout=90)
    [found] = await protocol.get_trial(trial)
    statistics = protocol.statistics()
    await protocol.__aexit__(None, None, None)

    assert statistics.queued == 0
    assert found.lost_events == statistics.dropped >= 100
    assert found.state_version == logged - statistics.dropped
    assert found.tags["last"] == logged - 1


@pytest.mark.slow
async def test_a_full_disk_can_raise(config, consumer, stack):
    """The call raises SpoolFull and logs nothing; all events logged before arrive."""
    consumer(config)
    async with small(config, when_full="raise") as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        await run_sync(stack.kafka.kill)
        logged = 0
        try:
            with pytest.raises(ts.SpoolFull, match=r"16 MiB wait in memory, and .* takes no more: nothing was logged"):
                for _ in range(1000):
                    await protocol.add_trial_tags(trial, filler=filler(), last=logged)
                    logged += 1
        finally:
            await run_sync(stack.kafka.start)
        await protocol.commit("folded", timeout=90)
        await protocol.add_trial_tags(trial, behind=True)
        [found] = await protocol.fetch_trials({"uid": trial.uid})

    assert 180 < logged < 400
    assert (found.lost_events, found.state_version, found.tags["last"]) == (0, logged + 1, logged - 1)


async def test_a_failing_disk_is_reported_and_loses_no_confirmed_event(config, consumer):
    """With a file size limit the run continues, and the events that the spool confirmed are sent later."""
    config = replace(config, offline=True)
    script = (
        "import asyncio, os, resource, sys, json\n"
        "import trialstream as ts\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "async def main():\n"
        "    async with ts.KafkaProtocol(ts.Config(**json.loads(sys.argv[1]))) as protocol:\n"
        "        trial = await protocol.new_trial(ts.Trial(name='t'))\n"
        "        for i in range(20):\n"
        "            await protocol.add_trial_tags(trial, filler=os.urandom(50_000).hex(), last=i)\n"
        "            try:\n"
        "                await protocol.commit(timeout=5)\n"
        "                print(i, flush=True)\n"
        "            except ts.CommitTimeout as error:\n"
        "                print('failed', error, file=sys.stderr)\n"
        "                break\n"
        "        for _ in range(100):\n"
        "            await protocol.log_trial_metrics(trial, loss=1.0)\n"
        "asyncio.run(main())\n"
    )
    run = [sys.executable, "-c", script, json.dumps(asdict(config))]
    child = await run_sync(lambda: subprocess.run(run, capture_output=True, text=True, timeout=60, check=False))
    confirmed = int(child.stdout.split()[-1])
    config = replace(config, offline=False)
    consumer(config)
    [found] = waiting_spools([config.spools])
    await push_spool(config, found.folder, lambda _: None)
    async with ts.KafkaProtocol(config) as reader:
        await reader.new_trial(ts.Trial(name="t"), auto_increment=True)
        trial = (await reader.get_trial(ts.Trial(name="t")))[0]

    assert child.returncode == 0, child.stderr
    assert "cannot be written: File too large" in child.stderr
    assert re.search("[0-9]+ events? (is|are) lost", child.stderr)
    assert confirmed >= 0
    assert trial.tags["last"] >= confirmed
    assert trial.lost_events == 0
    assert find_spools(config.spools) == []
