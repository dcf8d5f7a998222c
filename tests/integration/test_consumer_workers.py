"""`trialstream consume --workers N`: several processes of one consumer fold as one does."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from anyio.to_thread import run_sync
from pymongo import MongoClient
from service_load import load
from service_support import caught_up, cli, log_entries, log_lines, members, terminate, until
from supervised import SupervisedConsumer, runs
from trialstream.event_log.topics import ensure_topics
from trialstream_consumer.replay.verify import verify


@pytest.fixture
def supervised(tmp_path):
    """Start a consumer of several workers for a configuration; stop it after the test."""
    started = []

    def start(config, workers=2):
        service = SupervisedConsumer(tmp_path, config, workers)
        started.append(service)
        service.start()
        return service

    yield start
    for service in started:
        service.stop()


async def test_two_workers_fold_all_and_stop_by_sigterm(config, supervised):
    """Each worker folds its share, every event once; SIGTERM stops both in order, and they leave the group."""
    service = await run_sync(supervised, config)
    pids = service.workers.values()
    async with load(config) as running:
        await running.grow(300)
    await caught_up(config)
    await running.check()
    shares = service.shares
    code, _ = await run_sync(terminate, service, 30)
    found = []
    await verify(config, found.append, lambda *_: None)

    assert code == 0
    assert len(pids) == 2
    assert not any(map(runs, pids))
    assert set.intersection(*shares) == set()
    assert found == []

    await until(lambda: _has_no_members(config), 5)

    lines = log_lines(service)

    assert all("worker" in each for each in lines if each["event"] in ("ready", "folding"))
    assert {each.get("worker") for each in log_entries(service, "stopped")} == {None, 1, 2}
    assert [each["signal"] for each in log_entries(service, "stopping") if "worker" not in each] == ["SIGTERM"]
    assert lines[-1]["event"] == "stopped"
    assert not {each["event"] for each in lines} & {"output", "worker_died", "stop_timed_out", "fenced", "retrying"}


async def _has_no_members(config):
    return await members(config) == 0


async def test_more_workers_than_partitions_are_not_started(config, supervised):
    """The 4 partitions of the log and its registry get 5 workers, and a warning says so."""
    service = await run_sync(supervised, config, 7)
    [warning] = log_entries(service, "fewer_workers")

    assert len(service.workers) == warning["workers"] == 5
    assert all(len(each) == 1 for each in service.shares)
    assert "--workers 7" in warning["reason"]


async def test_a_log_that_does_not_match_ends_the_consumer_with_the_reason(config):
    """A restart would not help: the first worker that finds the mismatch ends all."""
    await ensure_topics(config)
    with MongoClient(config.mongo) as client:
        ahead = {"_id": f"{config.trials_topic}/0", "offset": 7, "epoch": 1}
        client[config.database].checkpoints.insert_one(ahead)
    done = await run_sync(cli, config, "consume", "--workers", "2")
    *events, last = done.stderr.splitlines()
    events = [json.loads(each)["event"] for each in events]

    assert done.returncode == 1
    assert last.startswith("error: worker ")
    assert f"{config.trials_topic}/0 is folded up to offset 7" in last
    assert "worker_died" not in events
    assert events.count("worker_started") == 2


def test_servers_that_do_not_answer_are_one_message(config):
    """They are tried once, not by each worker."""
    done = cli(replace(config, kafka="127.0.0.1:9"), "consume", "--workers", "2")
    *events, last = done.stderr.splitlines()

    assert done.returncode == 1
    assert last.startswith("error: Kafka at 127.0.0.1:9")
    assert "worker_started" not in {json.loads(each)["event"] for each in events}


@pytest.mark.parametrize("command", ["consume", "rebuild", "verify"])
@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5"])
def test_a_number_of_workers_that_is_none_is_refused(config, command, number):
    """The message names the option, the exit code is 2, and nothing is started."""
    done = cli(config, command, "--workers", number)

    assert done.returncode == 2
    assert "'--workers'" in done.stderr
    assert "Traceback" not in done.stderr
