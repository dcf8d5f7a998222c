"""A log that an earlier release has written: it is folded as it was meant, and its readers read what is added."""

from __future__ import annotations

import json

import trialstream as ts
from aiokafka.partitioner import murmur2
from anyio.to_thread import run_sync
from pymongo import MongoClient
from released import RELEASED, read, versions, written
from service_load import connected
from service_support import caught_up, cli, collections, differences, drop, live, records_of, send, snapshot
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.wire import events as e

NOON = 1_767_355_200_000_000


async def send_as_before(config, events):
    """Write events of one trial as the release before wrote them, its schemas first."""
    chosen = [versions(each)[0] for each in events]
    for event, version in zip(events, chosen, strict=True):
        schema = json.dumps(RELEASED[type(event).__name__][version], sort_keys=True).encode()
        await send(config, [schema], topic=config.schemas_topic, key=version)
    key = events[0].hash.encode()
    partition = (murmur2(key) & 0x7FFFFFFF) % config.partitions
    values = [written(each, version) for each, version in zip(events, chosen, strict=True)]
    await send(config, values, key=key, partition=partition)


async def test_a_log_of_an_earlier_release_is_folded_and_continued(config, consumer):
    """Trials of an earlier release have CreatedGroup, and one runtime per start; this release continues them."""
    async with connected(config):
        pass  # creates the topics
    new, done = Trial(name="new"), Trial(name="done", parameters={"lr": 0.1})
    given = {"writer": "before", "time": NOON}
    for trial in (new, done):
        creation = e.TrialCreated(
            trial=f"{trial.hash}~{trial.name}", request=trial.name, name=trial.name, parameters=trial.parameters,
            auto_increment=False, **given,
        )  # fmt: skip
        await send_as_before(config, [creation])
    given["trial"] = f"{done.hash}_0"
    run = [
        e.TrialStarted(seq=1, **given),
        e.TrialFinished(seq=2, interrupted=False, elapsed=2.0, **given),
        e.TrialFinished(seq=3, interrupted=True, **{**given, "time": NOON + 5_000_000}),
    ]
    await send_as_before(config, run)
    service = consumer(config)
    async with connected(config) as protocol:
        await caught_up(config)
        [waiting] = await protocol.fetch_trials({"status": ts.Status.CreatedGroup})
        [ended] = await protocol.fetch_trials({"status": ts.Status.Interrupted})
        claimed = await protocol.fetch_and_update_trial({"status": "CreatedGroup"}, "log_trial_start")
        await protocol.log_trial_metrics(claimed, step=1, loss=0.5)
        queued = await protocol.new_trial(ts.Trial(name="queued", status=ts.CustomStatus("Queued", 7)))
    await caught_up(config)
    folded = snapshot(config)
    service.stop()
    drop(config)
    service.start()
    await caught_up(config)

    assert (waiting.name, waiting.status, waiting.state_version) == ("new", ts.Status.CreatedGroup, 0)
    assert (ended.name, ended.chronos["runtime"].sum, ended.chronos["runtime"].count) == ("done", 2.0, 1)
    assert ended.finished == ended.started < ended.last_seen
    assert (claimed.uid, queued.status) == (waiting.uid, ts.CustomStatus("Queued", 7))
    assert differences(folded, snapshot(config)) == []


async def test_readers_of_an_earlier_release_read_this_log(config, consumer):
    """Readers with the schemas of the release before read every event of this one, without the fields that are new."""
    consumer(config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="queued", status=ts.CustomStatus("Queued", 7)))
        await protocol.log_trial_start(trial)
        await protocol.log_trial_metrics(trial, step=1, loss=0.5)
        await protocol.log_trial_finish(trial)
        await protocol.commit()
    kinds = {key: kind for kind, each in RELEASED.items() for key in each}
    values = [each.value for each in await records_of(config, config.trials_topic)]
    found = {kinds[each[2:10]]: read(each, next(iter(RELEASED[kinds[each[2:10]]]))) for each in values}

    assert list(found) == ["TrialCreated", "TrialStarted", "MetricsLogged", "TrialFinished"]
    assert (found["TrialCreated"]["name"], found["TrialCreated"].get("status")) == ("queued", None)
    assert (found["MetricsLogged"]["steps"], found["MetricsLogged"]["columns"]) == ([1], [[0.5]])


async def test_documents_of_an_earlier_release(config, consumer):
    """Documents in which the status is null are found and continued as CreatedGroup; a rebuild gives them the name."""
    consumer(config)
    async with connected(config) as protocol:
        trials = [await protocol.new_trial(ts.Trial(name="t"), auto_increment=True) for _ in range(3)]
        with MongoClient(config.mongo) as client:
            client[config.database].trials.update_many({}, {"$set": {"status": None}})
        found = await protocol.fetch_trials({"status": ts.Status.CreatedGroup})
        others = await protocol.fetch_trials({"status": {"$ne": ts.Status.CreatedGroup}})
        claimed = await protocol.fetch_and_update_trial({"status": "CreatedGroup"}, "log_trial_start")
        await protocol.add_trial_tags(trials[1], kept=True)
        await protocol.commit("folded")
    before = statuses(config)
    rebuilt = await run_sync(lambda: cli(config, "rebuild"))

    assert (found, others) == (trials, [])
    assert claimed.uid == trials[0].uid
    assert before == ["Running", "CreatedGroup", None]
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert statuses(config) == ["Running", "CreatedGroup", "CreatedGroup"]


def statuses(config):
    """Return the names of the statuses in the documents of the live projection, by revision."""
    with MongoClient(config.mongo) as client:
        stored = collections(client, live(config))["trials"].find({}, {"status": 1}, sort=[("revision", 1)])
        return [each["status"] and each["status"]["name"] for each in stored]
