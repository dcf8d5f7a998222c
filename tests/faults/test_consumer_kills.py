"""Kills of the consumer at each of its steps, and commits whose result is unknown."""

from __future__ import annotations

import bson
import pytest
from anyio.to_thread import run_sync
from dying_consumer import POINTS
from injectors import DyingConsumer, mongo_through_proxy
from oracle import check, watched
from service_support import bury, caught_up, folds_on, log_entries, until
from writers import load


async def test_a_consumer_killed_at_any_step_leaves_a_whole_batch_or_nothing_of_it(config, consumer, tmp_path):
    """At any moment the checkpoint is neither ahead of the documents nor behind them; the successor loses nothing."""
    service = consumer(config)
    async with load(config, writers=2, pause=0.05, claims=40) as running, watched(config) as views:
        await run_sync(service.stop)
        for point in POINTS:
            dying = DyingConsumer(tmp_path, config, point, passes=2)
            await run_sync(dying.start)
            await dying.wait_killed()
            await bury(config)
        await run_sync(service.start)
        await folds_on(config, 20)
    figures = await check(config, running.journals, views=views)
    jobs = [job for view in views for job in _jobs(view)]

    assert (figures.lost, figures.dead) == (0, 0)
    assert len(views) > len(POINTS) / 2
    assert set(jobs) == {(0, False, False, 0), (1, True, True, 1)}  # all updates of a claim, or none


def _jobs(view):
    """Return what is there of the updates of a claim, for each trial that can be claimed."""
    jobs = [each for each in map(bson.decode, view.documents["trials"].values()) if each["name"] == "job"]
    return [(each["starts"], "worker" in each["metadata"], "claimed" in each["metrics"], each["rows"]) for each in jobs]


@pytest.mark.parametrize(
    "times", [pytest.param(1, id="once"), pytest.param(10**6, id="until the transaction ends", marks=pytest.mark.slow)]
)
async def test_a_commit_whose_result_is_unknown_counts_once(config, consumer, stack, times):
    """The connection breaks between the commit and its answer: the checkpoint shows that the batch was written."""
    with mongo_through_proxy(config, stack) as (through, proxy):
        service = consumer(through)
        async with load(config, writers=2, pause=0.02) as running, watched(config) as views:
            await running.grow(50)
            proxy.cut_after(b"commitTransaction", times)
            await until(lambda: proxy.cuts == times or bool(log_entries(service, "write_failed")))
            proxy.heal()
            await folds_on(config, 20)
        await caught_up(config)
        await run_sync(service.stop)
    figures = await check(config, running.journals, views=views)

    assert (figures.lost, figures.dead) == (0, 0)
    assert bool(log_entries(service, "write_failed")) == (times > 1)
