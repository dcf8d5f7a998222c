"""The largest size that a topic takes (`max.message.bytes`) is lowered in mid-run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from journal import Journal
from oracle import check, read_log
from service_support import records_of, set_limit, until
from trialstream.pipeline.push import push_spool
from trialstream.spool.finding import find_spools
from trialstream.spool.segment import read_segment
from trialstream_schemas.wire.codec import SchemaStore
from writers import Writer, WriterProcess, connected

# Size of a batch without its events, bytes.
BATCH_BYTES = 80


async def opened(config, folder, *, writers, **settings):
    """Start writer processes on a trial each; return them and the journal of the trials' author."""
    async with connected(config) as protocol:
        author = Writer(protocol, Journal())
        trials = [await author.create(ts.Trial(name="own", parameters={"number": i})) for i in range(writers)]
    running = [
        WriterProcess(config, folder / f"{i}.journal", trial, calls=10**9, pause=0.002, **settings)
        for i, trial in enumerate(trials)
    ]
    return running, author.journal


async def limit_for(config):
    """Return a limit that four fifths of the events in the log would have met, each in a batch of its own."""
    sizes = sorted(len(each.key) + len(each.value) for each in await records_of(config, config.trials_topic))
    return BATCH_BYTES + sizes[len(sizes) * 4 // 5]


async def more(running, count):
    """Wait until each writer has made a number of further log calls."""
    before = [len(each.journal.calls) for each in running]
    await until(lambda: all(len(r.journal.calls) >= n + count for r, n in zip(running, before, strict=True)), 60)


def refused_events(config):
    """Return the events of all files of refused events."""
    folders = sorted(config.spools.iterdir()) if config.spools.exists() else []
    contents = [read_segment(path) for folder in folders for path in sorted(folder.glob("refused-*.avro"))]
    return [SchemaStore().decode(event.value) for each in contents for event in each.events], len(contents)


async def push_refused(config):
    """Send all refused events."""
    for folder in config.spools.iterdir():
        await push_spool(config, folder, lambda _: None, with_refused=True)


async def others(config, journals):
    """Return the writers in the log that have no journal."""
    writers = {each.event.writer for each in await read_log(config) if hasattr(each.event, "writer")}
    return writers - {each.writer for each in journals}


async def test_a_limit_is_lowered_and_raised_in_mid_run(config, consumer, tmp_path):
    """Exactly the refused events are missing, each counted; all others arrive once, in order. Then they are sent."""
    consumer(config)
    running, author = await opened(config, tmp_path, writers=2)
    try:
        await more(running, 200)
        await set_limit(config, await limit_for(config))
        await more(running, 400)
        await set_limit(config, 1_000_000)
        await more(running, 200)
        for each in running:
            each.stop()
        for each in running:
            await run_sync(each.join)
    finally:
        for each in running:
            each.kill()
    journals = [author, *(each.journal for each in running)]
    refused, files = refused_events(config)
    figures = await check(config, journals, refused=refused)

    assert files == len(running)
    assert all(each.acked == len(each.calls) for each in journals)
    assert figures.duplicated == 0
    assert figures.lost == len(refused) == sum(each.notes["dropped"] for each in journals if each.notes)
    assert 0 < len(refused) < figures.events // 2

    await push_refused(config)
    writers = await others(config, journals)
    again = await check(config, journals, strangers=writers, refused=refused)

    assert len(writers) == files
    assert again.events == figures.events + len(refused)
    assert (again.lost, again.duplicated) == (figures.lost, 0)
    assert not config.spools.exists()


async def test_a_writer_is_killed_while_events_are_refused(config, consumer, tmp_path):
    """A push halts until the limit is raised; then each event that the spool had acknowledged is in the log, once."""
    consumer(config)
    config = replace(config, spool="always")
    [running], author = await opened(config, tmp_path, writers=1, secures=10)
    try:
        await more([running], 100)
        await set_limit(config, await limit_for(config))
        await more([running], 300)
    finally:
        running.kill()
    [folder] = find_spools(config.spools)
    refused, files = refused_events(config)
    with pytest.raises(ts.SpoolError, match=r"is larger than topic .* raise max\.message\.bytes"):
        await push_spool(config, folder, lambda _: None)
    await set_limit(config, 1_000_000)
    await push_refused(config)
    journals = [author, running.journal]
    writers = await others(config, journals)
    figures = await check(config, journals, strangers=writers, refused=refused)

    assert 0 < len(refused) < figures.events // 2
    assert len(writers) == files
    assert not config.spools.exists()
