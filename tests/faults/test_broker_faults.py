"""The broker is killed or paused in mid-stream, with metrics and claims running."""

from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from injectors import killed, paused
from journal import Journal
from oracle import check
from service_support import until
from writers import Writer, WriterProcess, connected

# The interpreter with all that is imported takes 120 MB, the outbox 64 MB at most, and what is being sent is there
# twice; nothing that grows with the length of an outage stays under it.
RSS_BYTES = 400 * 2**20
# What a call may take of a processor, and how long it may take by the clock, stalls of the machine apart. Of these not
# all can be told: with 15 processes for each core 96 ms were seen, of a call that had used 1 ms. To wait for a broker,
# in any way that there is, would take seconds.
CALL_CPU_SECONDS = 0.05
CALL_SECONDS = 0.5


@asynccontextmanager
async def writing(config, folder, *, writers, jobs, pause):
    """Writer processes on a trial each, which claim jobs on the side; gives them and the journal of who made these."""
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
    """Log calls made so far."""
    return sum(len(each.journal.calls) for each in running)


async def more(running, count, seconds=60.0):
    """Wait for so many more."""
    before = calls(running)
    await until(lambda: calls(running) >= before + count, seconds)


async def checked(config, running, author):
    """Check log and documents, and what the log calls took."""
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


async def test_a_broker_that_is_killed_in_mid_stream_costs_nothing(config, consumer, stack, tmp_path):
    """Every acknowledged event is folded once, in order; no log call waits for the broker; memory stays bounded.

    A call's time is its duration without the parts in which the machine let no thread of the process run, which a
    control thread in the same process notes; and, by itself, the processor time that the call took.
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
async def test_a_broker_that_hangs_for_a_minute_costs_nothing(config, consumer, stack, tmp_path):
    """As above; connections stay open meanwhile and nobody answers. What comes in a minute fits into memory here."""
    consumer(config)
    async with writing(config, tmp_path, writers=2, jobs=12, pause=0.01) as (running, author):
        await more(running, 200)
        with paused(stack.kafka):
            await anyio.sleep(60)
        await more(running, 200)
    await checked(config, running, author)
