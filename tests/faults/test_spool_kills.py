"""Processes killed at each step of the spool: no event that the spool confirmed is lost, and none counts twice."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import anyio
import pytest
import trialstream as ts
import warm
from anyio.to_thread import run_sync
from spooling_child import PUSH_STEPS, STEPS
from trialstream.pipeline import spiller
from trialstream.pipeline.push import push_spool, waiting_spools
from trialstream.spool.finding import abandoned, find_spools
from trialstream_console.local.consumer import ConsumerService

CHILD = Path(__file__).with_name("spooling_child.py")
# Without servers no segment is deleted.
ONLINE = {"before a segment is deleted", "after a segment is deleted"}
# Events go to disk before they are sent, or because there are no servers.
MODES = {"always": {"spool": "always"}, "offline": {"offline": True}}


@pytest.fixture(scope="module")
def folding(stack, tmp_path_factory):
    """A log with one consumer for all kills."""
    config = ts.Config(kafka=stack.kafka.address, mongo=stack.mongo.uri, prefix="spool-kills", partitions=2)
    service = ConsumerService(tmp_path_factory.mktemp("consumer"), config)
    service.start()
    yield config
    service.stop()


def run_until_killed(config, step, at, *job):
    """Run the child until it kills itself; return how many rows the spool confirmed."""
    command = [sys.executable, CHILD, step, str(at), json.dumps(dataclasses.asdict(config)), *job]
    child = warm.run(command, timeout=120)
    assert child.returncode == -9, child.stderr
    return int(child.stdout.split()[-1]) if child.stdout else 0


async def steps_of(config, name):
    """The steps in the history of the first revision, of which no event may be lost."""
    async with ts.KafkaProtocol(config) as reader:
        # The new revision comes after all events of the first in their partition.
        await reader.new_trial(ts.Trial(name=name), auto_increment=True)
        trial = (await reader.get_trial(ts.Trial(name=name)))[0]
        history = await reader.fetch_metrics(trial, "loss") if trial.rows else {}
    assert trial.lost_events == 0
    return history["loss"].steps.tolist() if history else []


async def check(folding, config, step, at, name):
    """Kill the child, push its spool, and compare."""
    confirmed = await run_sync(run_until_killed, config, step, at, "train", name)
    for each in abandoned(config.spools):
        await push_spool(folding, each, lambda _: None)
    steps = await steps_of(folding, name)

    assert steps == list(range(len(steps)))
    assert len(steps) >= confirmed
    assert find_spools(config.spools) == []


@pytest.mark.parametrize("at", [1, pytest.param(6, marks=pytest.mark.slow)])
@pytest.mark.parametrize("step", STEPS)
async def test_a_kill_loses_nothing_that_the_spool_confirmed(folding, tmp_path, step, at):
    """No confirmed event is lost, whether events are sent meanwhile or wait; the push sends the rest, in order."""
    async with anyio.create_task_group() as tasks:
        for mode, settings in MODES.items():
            if mode == "always" or step not in ONLINE:
                config = dataclasses.replace(folding, spool_dir=str(tmp_path / mode), **settings)
                tasks.start_soon(check, folding, config, step, at, f"{step}, the {at}th time, {mode}")


@pytest.fixture(scope="module")
async def spooled(folding, tmp_path_factory):
    """A spool of several segments, and the number of rows in it."""
    folder, rows = tmp_path_factory.mktemp("spooled"), 12_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spiller, "_SEGMENT_BYTES", 60_000)
        async with ts.KafkaProtocol(dataclasses.replace(folding, offline=True, spool_dir=str(folder))) as protocol:
            trial = await protocol.new_trial(ts.Trial(name="pushed"))
            for row in range(rows):
                await protocol.log_trial_metrics(trial, step=row, loss=row / 4, noise=float(hash((row, "noise"))))
                if row % 200 == 0:
                    await protocol.commit()
    [found] = waiting_spools([folder])
    assert len(list(found.folder.iterdir())) > 4
    return found, rows


@pytest.mark.parametrize("at", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("step", PUSH_STEPS)
async def test_a_killed_push_can_be_run_again(folding, spooled, tmp_path, step, at):
    """Events that a killed push had sent count once, and the next push sends the others."""
    found, rows = spooled
    config = dataclasses.replace(folding, spool_dir=str(tmp_path))
    shutil.copytree(found.folder, config.spools / found.writer)
    await run_sync(run_until_killed, config, step, at, "push")
    [again] = abandoned(config.spools)
    await push_spool(folding, again, lambda _: None)

    assert await steps_of(folding, "pushed") == list(range(rows))
    assert find_spools(config.spools) == []
