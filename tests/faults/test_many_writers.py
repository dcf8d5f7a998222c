"""Many processes write to one trial."""

from __future__ import annotations

import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from journal import Journal
from oracle import check
from writers import Writer, WriterProcess, connected

WRITERS = 64
STEPS = 20


@pytest.mark.slow
async def test_64_processes_write_to_one_trial(config, consumer, tmp_path):
    """The events of each writer are folded in its order, none is missing, and no gap is counted."""
    consumer(config)
    async with connected(config) as protocol:
        author = Writer(protocol, Journal())
        trial = await author.create(ts.Trial(name="shared"))
        running = [
            WriterProcess(config, tmp_path / f"{i}.journal", trial, calls=STEPS, patient=True) for i in range(WRITERS)
        ]
        try:
            for each in running:
                await run_sync(each.join)
        finally:
            for each in running:
                each.kill()
        journals = [each.journal for each in running]
        figures = await check(config, [author.journal, *journals])
        [again] = await protocol.fetch_trials({"uid": trial.uid})

    assert (figures.lost, figures.dead, figures.duplicated) == (0, 0, 0)
    assert figures.calls == sum(len(each.calls) for each in journals)
    assert all(each.acked == len(each.calls) for each in journals)
    assert len(again.writers) == WRITERS
    assert again.metrics["loss"].count == WRITERS * STEPS
