"""`trialstream rebuild`, `verify` and `projections` on a log with every kind of event, without faults."""

from __future__ import annotations

import dataclasses
import json
import uuid

import bson
import pytest
import trialstream as ts
from aiokafka.admin import NewPartitions, RecordsToDelete
from anyio.to_thread import run_sync
from pymongo import MongoClient
from service_load import connected
from service_support import (
    admin,
    caught_up,
    cli,
    collections,
    delete_topics,
    differences,
    ends_of,
    live,
    log_entries,
    place,
    projections,
    records_of,
    snapshot,
    without_notices,
)
from trialstream.event_log.topics import ensure_topics
from trialstream_console.cli.times import format_time
from trialstream_consumer.archive import Archive, Selection, export_log, import_archive
from trialstream_consumer.projection.catalog import ProjectionExists
from trialstream_consumer.replay.rebuild import rebuild, rebuild_until
from trialstream_consumer.replay.verify import verify


def ignore(*_):
    """Ignore progress and differences."""


async def test_a_rebuilt_projection_is_the_same_byte_for_byte(folded):
    """Documents, dead letters and offsets are equal; consumers and readers switch; the old projection is dropped."""
    config, service = folded
    before = snapshot(config)
    steps = []
    async with connected(config) as protocol:
        trials = {each.uid: each for each in await protocol.fetch_trials({})}
        for number in (1, 2):
            rebuilt = await rebuild(config, lambda *step: steps.append(step))

            assert rebuilt.namespace == live(config) == place(config, str(number))
            assert rebuilt.records == sum((await ends_of(config, config.trials_topic, config.registry_topic)).values())
            assert projections(config) == {rebuilt.namespace}
            assert differences(before, snapshot(config)) == []
            assert {each.uid: each for each in await protocol.fetch_trials({})} == trials

        created = await protocol.new_trial(ts.Trial(name="after"))
        await protocol.log_trial_metrics(created, step=1, loss=0.5)
        [again] = await protocol.fetch_trials({"name": "after"})

        assert again.metrics["loss"].last == 0.5
    assert steps[0] == ("folding", 0, rebuilt.records)
    assert steps[-1] == ("folding", rebuilt.records, rebuilt.records)
    assert service.running
    assert log_entries(service, "projection_switched")


async def test_a_rebuild_without_a_running_consumer_folds_to_the_end_of_the_log(config):
    """A rebuild works before anything was folded; its checkpoints are those from which a consumer starts."""
    await ensure_topics(config)
    rebuilt = await rebuild(config, ignore)

    assert (rebuilt.records, live(config)) == (1, rebuilt.namespace)
    assert snapshot(config)["checkpoints"].keys() >= {f"{config.registry_topic}/0", f"{config.trials_topic}/3", "log"}


async def test_a_consumer_that_starts_after_a_rebuild_folds_into_the_new_projection(folded, consumer):
    """A consumer that starts after a rebuild does not create the old projection again."""
    config, service = folded
    await run_sync(service.stop)
    await rebuild(config, ignore)
    consumer(config)
    async with connected(config) as protocol:
        await protocol.new_trial(ts.Trial(name="after"))

    assert projections(config) == {live(config)}


async def test_a_rebuild_until_a_time_equals_an_import_of_the_export_until_then(folded, consumer, tmp_path):
    """Every document is the same byte for byte, and the live projection is unchanged."""
    config, _ = folded
    times = sorted(each.timestamp for each in await records_of(config, config.trials_topic))
    until = times[len(times) // 2]
    rebuilt = await rebuild_until(config, "then", until, ignore)
    await export_log(config, tmp_path / "log.avro", Selection(until=until), ignore)
    other = dataclasses.replace(config, prefix=f"then-{uuid.uuid4().hex[:12]}")
    await import_archive(other, Archive.check(tmp_path / "log.avro", ignore), ignore)
    consumer(other)
    await caught_up(other)
    ours, theirs = snapshot(config, rebuilt.namespace), snapshot(other)
    del ours["checkpoints"], theirs["checkpoints"], ours["dead_letters"], theirs["dead_letters"]

    assert differences(theirs, ours) == []
    assert all(each for name, each in ours.items() if name != "outlines")  # no bucket is full by then
    assert ours != {name: each for name, each in snapshot(config).items() if name in ours}
    assert live(config) == place(config)


async def test_a_named_projection_is_read_as_it_is(folded):
    """A named projection has no later events; reads wait for nothing and need no Kafka; log calls are refused."""
    config, _ = folded
    async with connected(config) as protocol:
        now = max(each.timestamp for each in await records_of(config, config.trials_topic)) + 1
        await rebuild_until(config, "then", now, ignore)
        before = await protocol.fetch_trials({}, sort="created")
        await protocol.new_trial(ts.Trial(name="later"))
    settings = {"kafka": "127.0.0.1:9", "mongo": config.mongo, "prefix": config.prefix, "projection": "then"}
    async with ts.connect(**settings) as protocol:
        found = await protocol.fetch_trials({}, sort="created")
        loner = next(each for each in found if each.name == "loner")
        history = await protocol.fetch_metrics(loner, "loss", attempts=True)
        [project] = await protocol.fetch_projects({})
        calls = [
            protocol.new_trial(ts.Trial(name="no")),
            protocol.new_project(project),
            protocol.log_trial_metrics(found[0], step=1, loss=1.0),
            protocol.log_trial_chrono_start(found[0], "no"),
            protocol.fetch_and_update_trial({}, "log_trial_start"),
            protocol.commit(),
        ]
        for call in calls:
            with pytest.raises(ts.ProjectionIsReadOnly, match="projection 'then' is read-only"):
                await call
        with pytest.raises(ts.ProjectionIsReadOnly):
            protocol.statistics()

    assert len(history["loss"].values) == loner.metrics["loss"].count >= 2700
    assert len(project.trials) == 13
    assert found == before
    assert await run_sync(_read_in_sync, settings) == before


def _read_in_sync(settings):
    from trialstream import sync

    with sync.connect(**settings) as protocol:
        return protocol.fetch_trials({}, sort="created")


async def test_the_error_of_an_unknown_projection_says_how_to_make_it(folded):
    """The error of an unknown name has the command to make it; unfinished, taken and invalid names are errors, too."""
    config, _ = folded
    named = dataclasses.replace(config, projection="then")
    until = max(each.timestamp for each in await records_of(config, config.trials_topic))
    with pytest.raises(ts.ItemNotFound, match=r"no projection 'then'.*rebuild --until TIME --name then"):
        await ts.KafkaProtocol.__aenter__(ts.connect(**_given(named)))
    longest = dataclasses.replace(config, projection="x" * 64)
    with pytest.raises(ts.ItemNotFound, match="no projection 'x"):
        await ts.connect(**_given(longest)).__aenter__()
    await rebuild_until(config, "then", until, ignore)
    with pytest.raises(ProjectionExists, match="projections --drop then"):
        await rebuild_until(config, "then", until, ignore)
    with pytest.raises(ts.ConfigError, match="'verify': reserved"):
        await rebuild_until(config, "verify", until, ignore)
    with pytest.raises(ts.ConfigError, match="a letter"):
        await rebuild_until(config, "1st", until, ignore)
    with MongoClient(config.mongo) as client:
        client[config.database].projection.update_one({"_id": "about~then"}, {"$set": {"ready": False}})
    with pytest.raises(ts.ItemNotFound, match="not finished"):
        await ts.connect(**_given(named)).__aenter__()
    await rebuild_until(config, "then", until, ignore)
    async with ts.connect(**_given(named)) as protocol:
        assert await protocol.fetch_trials({})


def _given(config):
    return {name: getattr(config, name) for name in ("kafka", "mongo", "prefix", "projection")}


async def test_verify_finds_foreign_writes_and_nothing_else(folded):
    """`verify` reports changed, missing and surplus documents of any collection, with the paths that differ."""
    config, _ = folded
    found = []
    verified = await verify(config, found.append, ignore)

    assert found == []
    assert verified.documents == sum(len(each) for each in snapshot(config).values())
    assert projections(config) == {live(config)}

    with MongoClient(config.mongo) as client:
        documents = collections(client, live(config))
        changed = documents["trials"].find_one({"name": "loner", "revision": 0})
        documents["trials"].update_one(
            {"_id": changed["_id"]}, {"$set": {"metrics.loss.count": 2700.0, "tags.new": 1, "lost_events": 7}}
        )
        missing = documents["series"].find_one({}, sort=[("_id", 1)])["_id"]
        documents["series"].delete_one({"_id": missing})
        surplus = documents["outcomes"].insert_one({"uid": None}).inserted_id
        documents["projects"].insert_one({"_id": "surplus"})
        letter = documents["dead_letters"].find_one({})["_id"]
        documents["dead_letters"].update_one({"_id": letter}, {"$set": {"reason": "another"}})
    await verify(config, found.append, ignore)
    by_place = {(each.collection, each.id): each for each in found}

    assert len(found) == len(by_place) == 5
    assert by_place["trials", changed["_id"]].kind == "differs"
    assert set(by_place["trials", changed["_id"]].fields) == {"metrics.loss.count", "tags.new", "lost_events"}
    assert by_place["series", missing].kind == "missing"
    assert by_place["outcomes", surplus].kind == by_place["projects", "surplus"].kind == "surplus"
    assert by_place["dead_letters", letter].fields == ("reason",)

    await rebuild(config, ignore)
    found.clear()
    await verify(config, found.append, ignore)

    assert found == []


async def test_a_comparison_that_outlasts_a_snapshot_continues_in_another(folded, monkeypatch):
    """Each document is compared once, also after ids of other types."""
    config, _ = folded
    with MongoClient(config.mongo) as client:
        trials = collections(client, live(config))["trials"]
        strange = trials.insert_many([{"_id": 1}, {"_id": bson.ObjectId()}]).inserted_ids
    monkeypatch.setattr("trialstream_consumer.replay.diff._SNAPSHOT_SECONDS", 0.003)
    monkeypatch.setattr("trialstream_consumer.replay.diff._DOCUMENTS", 3)
    found = []
    verified = await verify(config, found.append, ignore)

    assert [each.id for each in found] == strange
    assert verified.documents == sum(len(each) for each in snapshot(config).values())


async def test_the_commands_report_their_results(folded):
    """Counts go to stdout and nothing to stderr; the exit code is 1 if documents differ."""
    config, _ = folded
    time = max(each.timestamp for each in await records_of(config, config.trials_topic))
    until = await run_sync(cli, config, "rebuild", "--until", format_time(time))
    nameless = await run_sync(cli, config, "rebuild", "--name", "then")
    rebuilt = await run_sync(cli, config, "rebuild")
    same = await run_sync(cli, config, "verify")
    listed = await run_sync(cli, config, "projections", "--json")
    found = [json.loads(line) for line in listed.stdout.splitlines()]
    table = await run_sync(cli, config, "projections")
    name = found[1]["name"]
    dropped = await run_sync(cli, config, "projections", "--drop", name)
    nothing = await run_sync(cli, config, "projections", "--drop", name)
    with MongoClient(config.mongo) as client:
        collections(client, live(config))["trials"].delete_one({"name": "loner", "revision": 1})
    differs = await run_sync(cli, config, "verify")

    for each in (until, rebuilt, same, listed, table, dropped):
        assert (each.returncode, without_notices(each.stderr)) == (0, ""), each.stderr
    assert until.stdout.startswith(f"built {name} from ")
    assert f"read it with connect(projection={name!r})" in until.stdout
    assert nameless.returncode == 2
    assert "--name requires --until" in nameless.stderr
    assert rebuilt.stdout.rstrip().endswith(f"the live projection is now {config.prefix}.~1")
    assert same.stdout.rstrip().endswith("all match the log")
    assert [each["state"] for each in found] == ["live", "ready"]
    assert found[1]["until"] == time
    assert name in table.stdout
    assert nothing.returncode == 1
    assert f"no projection {name!r}" in nothing.stderr
    assert (differs.returncode, without_notices(differs.stderr)) == (1, "")
    assert "_1 is missing" in differs.stdout
    assert differs.stdout.splitlines()[-1].endswith(
        "1 document differs; run `trialstream rebuild` to make them match the log"
    )


# --- Logs that cannot be folded


async def refused(config, *words):
    """Check that all three replays refuse the log with these words in the message, and change nothing."""
    before = live(config), snapshot(config)
    for call in (
        rebuild(config, ignore),
        rebuild_until(config, "then", 2**42, ignore),
        verify(config, ignore, ignore),
    ):
        with pytest.raises(ts.LogMismatch) as caught:
            await call
        for word in words:
            assert word in str(caught.value)
    assert (live(config), snapshot(config)) == before


@pytest.fixture
async def stopped(config, consumer):
    """A folded log whose consumer has stopped: the settings, a partition with records and its end."""
    service = consumer(config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
        for i in range(20):
            await protocol.add_trial_tags(trial, i=i)
    await caught_up(config)
    await run_sync(service.stop)
    ends = await ends_of(config, config.trials_topic)
    partition = max(ends, key=lambda each: ends[each])
    return config, partition, ends[partition]


async def test_a_log_that_has_lost_its_beginning_is_refused(stopped):
    """The live projection could continue with such a log; a new one would lack the deleted records."""
    config, partition, end = stopped
    async with admin(config) as client:
        await client.delete_records({partition: RecordsToDelete(10)})

    await refused(config, f"{partition.topic}/{partition.partition}", "offset 0", "from 10", f"to {end}")


async def test_a_log_that_ends_before_the_checkpoints_is_refused(stopped):
    """A log whose end was cut off is refused: a new projection would have less than the live one."""
    config, partition, end = stopped
    id_ = f"{partition.topic}/{partition.partition}"
    with MongoClient(config.mongo) as client:
        client[config.database].checkpoints.update_one({"_id": id_}, {"$set": {"offset": end + 5}})

    await refused(config, id_, f"offset {end + 5}", f"to {end}")


async def test_recreated_topics_are_refused(stopped):
    """Recreated topics are refused, since the live projection was folded from another log."""
    config, *_ = stopped
    await delete_topics(config)
    await ensure_topics(config)

    await refused(config, config.registry_topic, "recreated")


async def test_another_partition_count_is_refused(stopped):
    """Another partition count is refused: a trial's events may be in two partitions, which have no common order."""
    config, *_ = stopped
    async with admin(config) as client:
        await client.create_partitions({config.trials_topic: NewPartitions(6)})

    await refused(config, config.trials_topic, "6 partitions", "created with 4")
