"""The broker is killed or paused in mid-stream, with metrics and claims running."""

from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from injectors import killed
from journal import Journal
from oracle import check
from service_support import paused, until
from writers import Writer, WriterProcess, connected

# Python with all imports takes 120 MB, the outbox at most 64 MB, and data being sent exists twice; memory that grows
# with the length of an outage would exceed this.
RSS_BYTES = 400 * 2**20
# Limits of a call: its processor time, and its duration without stalls of the machine. Some stalls are not detected:
# with 15 processes for each core, 96 ms were measured for a call that had used 1 ms. Waiting for a broker in any form
# would take seconds.
CALL_CPU_SECONDS = 0.05
CALL_SECONDS = 0.5


@asynccontextmanager
async def writing(config, folder, *, writers, jobs, pause):
    """Run writer processes on a trial each, which also claim jobs; yield them and the journal of the jobs' author."""
    async with connected(config) as protocol:
        author = Writer(protocol, Journal())
        for number in range(jobs):
            await author.create(ts.Trial(name="job", parameters={"number": number}))
        trials = [await author.create(ts.Trial(name="own", parameters={"number": i})) for i in range(writers)]
    running = [
        WriterProcess(config, folder / f"{i}.journal", trial, calls=10**9, pause=pause, claims=True)
        for i, trial in enumerate(trials)
    ]
    try:
        yield running, author.journal
        for each in running:
            each.stop()
        for each in running:
            await run_sync(each.join)
    finally:
        for each in running:
            each.kill()


def calls(running):
    """Count the log calls made so far."""
    return sum(len(each.journal.calls) for each in running)


async def more(running, count, seconds=60.0):
    """Wait for a number of further log calls."""
    before = calls(running)
    await until(lambda: calls(running) >= before + count, seconds)


async def checked(config, running, author):
    """Check log, documents, and the durations of the log calls."""
    journals = [each.journal for each in running]
    claims = [Journal.load(each.path.with_suffix(".claims")) for each in running]
    figures = await check(config, [author, *journals, *claims])

    assert (figures.lost, figures.dead) == (0, 0)
    for each in journals:
        assert each.acked == len(each.calls)
        assert each.notes["dropped"] == 0
        assert each.notes["slowest"] < CALL_SECONDS, each.notes
        assert each.notes["busiest"] < CALL_CPU_SECONDS, each.notes
        assert each.notes["rss"] < RSS_BYTES, each.notes
    return claims


@pytest.mark.slow
async def test_a_broker_killed_in_mid_stream_loses_nothing(config, consumer, stack, tmp_path):
    """Every acknowledged event is folded once, in order; no log call waits for the broker; memory stays bounded.

    The duration of a call excludes stalls of the machine, in which no thread of the process ran; a control thread of
    the process records them. The processor time of the call is checked on its own.
    """
    consumer(config)
    async with writing(config, tmp_path, writers=2, jobs=12, pause=0.01) as (running, author):
        await more(running, 200)
        async with killed(stack.kafka):
            await more(running, 400)
        await more(running, 200)
    claims = await checked(config, running, author)

    assert sum(each.answers.total() for each in claims) > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_broker_paused_for_a_minute_loses_nothing(config, consumer, stack, tmp_path):
    """A broker that is paused for a minute loses nothing either; the events of a minute fit into memory here."""
    consumer(config)
    async with writing(config, tmp_path, writers=2, jobs=12, pause=0.01) as (running, author):
        await more(running, 200)
        with paused(stack.kafka):
            await anyio.sleep(60)
        await more(running, 200)
    await checked(config, running, author)
