"""One trial with many writers: processes, threads and tasks."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import anyio
import numpy as np
import trialstream as ts
from contract import again, connected
from workers import in_processes, log_share


async def test_eight_processes_write_to_one_trial(served, protocol, trial):
    """With eight writing processes no row is missing or doubled, and the rows of each keep their order."""
    rows = 1000
    writers = await in_processes(log_share, [(served, trial.uid, rows)] * 8)
    found = await again(protocol, trial)
    loss = (await protocol.fetch_metrics(trial, "loss"))["loss"]

    assert len(set(writers)) == 8
    assert found.lost_events == 0
    assert (found.rows, found.metrics["loss"].count, found.chronos["step"].count) == (8 * rows,) * 3
    assert found.metrics["loss"].sum == 8 * sum(range(rows))
    assert found.tags == dict.fromkeys(writers, rows - 100)
    assert found.writers.keys() == set(writers)
    for writer in writers:
        assert (loss.steps[loss.writers == writer] == np.arange(rows)).all()
        assert (loss.values[loss.writers == writer] == np.arange(rows)).all()


async def test_threads_with_a_loop_and_a_protocol_each(served, protocol, trial):
    """Threads with a loop and a protocol each are writers of their own."""
    rows = 500

    def work():
        async def main():
            async with connected(served) as own:
                for i in range(rows):
                    await own.log_trial_metrics(trial, step=i, loss=i)
                await own.commit(level="folded")

        asyncio.run(main())

    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(anyio.to_thread.run_sync, work)
    found = await again(protocol, trial)

    assert len(found.writers) == 6
    assert found.lost_events == 0
    assert found.metrics["loss"].count == 6 * rows
    assert found.metrics["loss"].sum == 6 * sum(range(rows))


async def test_threads_share_a_protocol(protocol, trial):
    """A protocol can be used from any thread and any loop, also while the loop that opened it is blocked."""
    rows = 500

    def work():
        async def main():
            for i in range(rows):
                await protocol.log_trial_metrics(trial, step=i, loss=i)
            await protocol.log_trial_metadata(trial, ts.StatAggregator.lazy(), threads=1)
            await protocol.commit(level="folded")

        asyncio.run(main())

    with ThreadPoolExecutor(6) as pool:  # leaving the pool blocks the loop until all threads have ended
        futures = [pool.submit(work) for _ in range(6)]
    found = await again(protocol, trial)

    assert [each.exception() for each in futures] == [None] * 6
    assert len(found.writers) == 1
    assert found.lost_events == 0
    assert found.metrics["loss"].count == 6 * rows
    assert found.metadata["threads"].count == 6


async def test_tasks_share_a_protocol(protocol, trial):
    """A hundred tasks make calls of all kinds on one protocol at the same time."""

    async def work(i):
        await protocol.log_trial_chrono_start(trial, "step", ts.StatAggregator.lazy(0))
        for step in range(20):
            await protocol.log_trial_metrics(trial, step=step, loss=i)
            await asyncio.sleep(0)
        await protocol.log_trial_arguments(trial, **{f"p{i}": i})
        await protocol.add_trial_tags(trial, **{f"t{i}": i})
        found = await again(protocol, trial)
        await protocol.log_trial_chrono_finish(trial, "step")
        return found.parameters[f"p{i}"], found.tags[f"t{i}"]

    seen = await asyncio.gather(*map(work, range(100)))
    found = await again(protocol, trial)

    assert seen == [(i, i) for i in range(100)]
    assert found.lost_events == 0
    assert (found.rows, found.chronos["step"].count) == (2000, 100)
    assert found.parameters == {f"p{i}": i for i in range(100)}
    assert found.metrics["loss"].sum == 20 * sum(range(100))


async def test_many_trials_at_once(protocol, name):
    """Data logged to one of many trials at the same time is not seen in another."""

    async def work(i):
        trial = await protocol.new_trial(ts.Trial(name=name, parameters={"i": i}))
        await protocol.log_trial_start(trial)
        for step in range(i):
            await protocol.log_trial_metrics(trial, step=step, loss=i)
        await protocol.log_trial_finish(trial)
        return trial

    trials = await asyncio.gather(*map(work, range(50)))
    found = {each.uid: each for each in await protocol.fetch_trials({"name": name})}

    assert len(found) == 50
    for i, trial in enumerate(trials):
        each = found[trial.uid]
        assert (each.status, each.lost_events, each.rows) == (ts.Status.Completed, 0, i)
        assert {loss.avg for loss in each.metrics.values()} == ({float(i)} if i else set())
