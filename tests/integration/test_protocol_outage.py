"""Outages of Kafka without a spool, and heartbeats."""

from __future__ import annotations

import time

import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from contract import again, connected, until
from trialstream.kafka import heartbeats
from trialstream.runtime import lifecycle

MIB = 2**20


@pytest.mark.slow
async def test_events_without_room_are_dropped_and_counted(config, consumer, stack):
    """Log calls wait for room once per outage and never raise; dropped events count as the trial's lost_events."""
    consumer(config)
    async with connected(config, spool="off", memory_bytes=16 * MIB, block_seconds=0.5) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
        await run_sync(stack.kafka.kill)
        waited = 0
        with pytest.warns(RuntimeWarning) as said:
            while protocol.statistics().dropped < 3:
                started = time.monotonic()
                await protocol.add_trial_tags(trial, filler="x" * 100_000)
                waited += time.monotonic() - started > 0.4
        held = protocol.statistics().bytes
        await run_sync(stack.kafka.start)
        await protocol.commit("folded", timeout=60)
        await protocol.add_trial_tags(trial, last=True)
        found = await again(protocol, trial)
        statistics = protocol.statistics()

    assert any("new events are dropped and counted in lost_events" in str(each.message) for each in said)
    assert held < 17 * MIB
    assert 1 <= waited <= 2  # a stall of the machine may look like a second wait
    assert found.tags["last"] is True
    assert found.lost_events == statistics.dropped == 3
    assert found.writers == {protocol.writer: statistics.acked - 1 + 3}  # the creation has no sequence number


@pytest.mark.slow
async def test_closing_while_kafka_is_away(config, consumer, stack, monkeypatch):
    """Closing without Kafka returns by its deadline and warns of the number of lost events."""
    monkeypatch.setattr(lifecycle, "_CLOSE_SECONDS", 1.0)
    consumer(config)
    try:
        with pytest.warns(RuntimeWarning, match="closed with events that were not sent: 2 events are lost"):
            async with connected(config, spool="off") as protocol:
                trial = await protocol.new_trial(ts.Trial(name="a"))
                await run_sync(stack.kafka.kill)
                await protocol.add_trial_tags(trial, a=1)
                await protocol.add_trial_tags(trial, b=2)
                started = time.monotonic()
        seconds = time.monotonic() - started
    finally:
        await run_sync(stack.kafka.start)

    assert seconds < 20  # 1 s, and what its connections take to close


async def test_a_started_trial_sends_heartbeats(served, name, monkeypatch):
    """The last_seen of a started trial grows without log calls, until the trial is finished."""
    monkeypatch.setattr(heartbeats, "_HEARTBEAT_SECONDS", 0.1)
    async with connected(served) as protocol, connected(served) as other:
        trial = await protocol.new_trial(ts.Trial(name=name))
        await protocol.log_trial_start(trial)
        started = await again(protocol, trial)

        async def has_beaten():
            return (await again(other, trial)).last_seen > started.last_seen

        await until(has_beaten)
        await protocol.log_trial_finish(trial)
        finished = await again(protocol, trial)
        await run_sync(time.sleep, 0.3)  # three heartbeats, which must not come
        later = await again(protocol, trial)

    assert finished.state_version == 2  # the start and the end; heartbeats are not counted
    assert later.writers == finished.writers
    assert later.last_seen == finished.last_seen
