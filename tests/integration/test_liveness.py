"""Liveness: a killed run is distinguishable from a live one, and can be resumed under the same uid."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys

import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from contract import again, connected, until
from trialstream_console.local.consumer import environment


def train_until_killed(config, uid, ready):
    """Start the trial, log ten steps, and run for ever."""
    import asyncio

    async def train():
        async with connected(config) as protocol:
            [trial] = await protocol.fetch_trials({"uid": uid})
            await protocol.log_trial_start(trial)
            for step in range(10):
                await protocol.log_trial_metrics(trial, step=step, loss=float(step))
            await protocol.log_trial_chrono_start(trial, "epoch")
            await protocol.commit("folded")
            ready.set()
            await asyncio.Event().wait()

    asyncio.run(train())


def lost_trials(config, silent):
    """Return the uids that `trialstream trials --lost` lists."""
    command = [sys.executable, "-m", "trialstream_console.cli", "trials", "--lost", "--silent", str(silent), "--json"]
    listed = subprocess.run(command, env=os.environ | environment(config), capture_output=True, text=True, check=False)
    assert listed.returncode == 0, listed.stderr
    return [json.loads(line)["uid"] for line in listed.stdout.splitlines()]


async def test_a_killed_trial_is_listed_and_resumed(config, consumer):
    """The trial is listed as lost until it is started again, and its steps continue where they ended."""
    consumer(config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="killed"))
        idle = await protocol.new_trial(ts.Trial(name="never started"))
        done = await protocol.new_trial(ts.Trial(name="finished"))
        await protocol.log_trial_start(done)
        await protocol.log_trial_finish(done)
        context = multiprocessing.get_context("spawn")
        ready = context.Event()
        process = context.Process(target=train_until_killed, args=(config, trial.uid, ready))
        process.start()
        await run_sync(ready.wait, 60)
        process.kill()
        await run_sync(process.join, 60)

        async def is_listed():
            return await run_sync(lost_trials, config, 1) == [trial.uid]

        await until(is_listed)
        running = await again(protocol, trial)
        patient = await run_sync(lost_trials, config, 3600)

        await protocol.log_trial_start(trial)
        for step in range(10, 20):
            await protocol.log_trial_metrics(trial, step=step, loss=float(step))
        resumed = await run_sync(lost_trials, config, 60)
        await protocol.log_trial_finish(trial)
        ended = await again(protocol, trial)
        history = (await protocol.fetch_metrics(trial, "loss"))["loss"]
        [unstarted] = await protocol.fetch_trials({"uid": idle.uid})

    assert running.status is ts.Status.Running
    assert running.finished is None
    assert (patient, resumed) == ([], [])
    assert (ended.status, ended.starts, ended.lost_events) == (ts.Status.Completed, 2, 0)
    assert ended.uid == trial.uid
    assert history.steps.tolist() == list(range(20))
    assert len(ended.writers) == 2
    assert unstarted.status is ts.Status.CreatedGroup


@pytest.mark.slow
async def test_without_a_consumer_no_trial_is_listed_as_lost(config):
    """Without a consumer the command reports the missing events instead of listing trials that may be running."""
    async with connected(config, timeout=5) as protocol:
        with pytest.raises(ts.ProjectionBehind):
            await protocol.new_trial(ts.Trial(name="a"))
    command = [sys.executable, "-m", "trialstream_console.cli", "trials", "--lost"]
    listed = await run_sync(
        lambda: subprocess.run(
            command, env=os.environ | environment(config), capture_output=True, text=True, check=False
        )
    )

    assert listed.returncode == 1
    assert "waiting for a consumer, which folds the log into MongoDB at 127.0.0.1:" in listed.stderr
    assert "1 event behind" in listed.stderr
    assert "trialstream consume" in listed.stderr
    assert listed.stdout == ""
