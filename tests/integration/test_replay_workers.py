"""`trialstream rebuild` and `verify` with `--workers 2`: the same documents and differences as with one."""

from __future__ import annotations

import anyio
import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from pymongo import MongoClient
from service_load import connected
from service_support import (
    caught_up,
    cli,
    collections,
    differences,
    live,
    log_entries,
    place,
    projections,
    send,
    snapshot,
    without_notices,
)
from trialstream_consumer.replay import replay
from trialstream_consumer.replay.rebuild import rebuild, rebuild_until
from trialstream_consumer.replay.sharing import WorkerDied
from trialstream_consumer.replay.verify import verify


def ignore(*_):
    """Ignore progress and differences."""


@pytest.fixture(autouse=True)
def _always_shared(monkeypatch):
    """Let several processes fold short logs too."""
    monkeypatch.setattr(replay, "_SHARED_RECORDS", 0)


async def test_two_workers_rebuild_the_same_byte_for_byte(folded):
    """Documents, dead letters and offsets are equal; the consumer switches; the progress is that of all shares."""
    config, service = folded
    before = snapshot(config)
    steps = []
    rebuilt = await rebuild(config, lambda *step: steps.append(step), 2)
    reached = [done for _, done, _ in steps]

    assert live(config) == rebuilt.namespace == place(config, "1")
    assert differences(before, snapshot(config)) == []
    assert steps[0] == ("folding", 0, rebuilt.records)
    assert steps[-1] == ("folding", rebuilt.records, rebuilt.records)
    assert reached == sorted(reached)

    async with connected(config) as protocol:
        await protocol.new_trial(ts.Trial(name="after"))

    assert log_entries(service, "projection_switched")

    named = await rebuild_until(config, "then", 2**42, ignore, 3)
    ours, theirs = snapshot(config), snapshot(config, named.namespace)
    del ours["checkpoints"], theirs["checkpoints"]

    assert differences(ours, theirs) == []


async def test_two_workers_find_the_same_differences_in_the_same_order(folded):
    """`verify` compares in one process, whatever the number of processes that fold."""
    config, _ = folded
    with MongoClient(config.mongo) as client:
        documents = collections(client, live(config))
        documents["trials"].update_many({}, {"$set": {"lost_events": 7}})
        documents["projects"].insert_one({"_id": "surplus"})
    found = {1: [], 2: []}
    verified = {workers: await verify(config, found[workers].append, ignore, workers) for workers in found}

    assert verified[1] == verified[2]
    assert found[1] == found[2] != []
    assert projections(config) == {live(config)}


@pytest.mark.parametrize("task", ["rebuild", "verify"])
async def test_a_killed_worker_ends_the_replay_and_nothing_is_switched(folded, task, monkeypatch):
    """The error names the signal; the next run succeeds."""
    config, _ = folded
    opened = anyio.open_process

    async def open_and_kill(*arguments, **named):
        process = await opened(*arguments, **named)
        process.kill()
        return process

    before = snapshot(config)
    with monkeypatch.context() as patch:
        patch.setattr(anyio, "open_process", open_and_kill)
        with pytest.raises(WorkerDied, match=r"killed by SIGKILL.*run this command again"):
            await (rebuild(config, ignore, 2) if task == "rebuild" else verify(config, pytest.fail, ignore, 2))

    assert live(config) == place(config)
    assert differences(before, snapshot(config)) == []

    await verify(config, pytest.fail, ignore, 2)
    await rebuild(config, ignore, 2)

    assert differences(before, snapshot(config)) == []
    assert projections(config) == {live(config)}


async def test_an_error_of_a_worker_is_that_of_the_replay(folded):
    """A projection that has become the live one fences the worker, and the replay raises that."""
    config, _ = folded
    share = replay.Share(config, live(config), config.partitions, {replay.TopicPartition(config.trials_topic, 0): 1})
    with pytest.raises(ts.TrialStreamError, match="cannot be taken over") as caught:
        await replay.fold_in_process(share, ignore)

    assert type(caught.value).__name__ == "Fenced"


@pytest.fixture
async def long(config, consumer):
    """A log of 6,000 records and a consumer that has folded it; many of the records are dead letters."""
    consumer(config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
        for number in range(2000):
            await protocol.add_trial_tags(trial, number=number)
    for partition in range(config.partitions):
        await send(config, [b"none"] * 1000, partition=partition)
    await caught_up(config)
    return config


@pytest.mark.slow
async def test_the_commands_report_the_same_with_two_workers(long):
    """Results, messages and exit codes are those of one worker; what a worker logs is not shown."""
    same = [await run_sync(cli, long, "verify", *workers) for workers in ((), ("--workers", "2"))]
    rebuilt = await run_sync(cli, long, "rebuild", "--workers", "2")
    with MongoClient(long.mongo) as client:
        collections(client, live(long))["trials"].update_one({}, {"$set": {"tags.number": 3}})
    differ = [await run_sync(cli, long, "verify", *workers) for workers in ((), ("--workers", "2"))]

    for each in (*same, rebuilt):
        assert (each.returncode, without_notices(each.stderr)) == (0, ""), each.stderr
    assert same[0].stdout == same[1].stdout
    assert rebuilt.stdout.rstrip().endswith(f"the live projection is now {long.prefix}.~1")
    assert [each.returncode for each in differ] == [1, 1]
    assert differ[0].stdout == differ[1].stdout
    assert "differs from the log: tags.number" in differ[0].stdout
