"""`trialstream export` and `import`: the log written to one file, and read back into a log."""

from __future__ import annotations

import collections
import dataclasses
import io
import json
import uuid

import anyio
import bson
import fastavro
import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from service_load import connected
from service_support import admin, caught_up, cli, differences, drop, ends_of, records_of, snapshot, without_notices
from test_consumer_rebuild import write_all
from trialstream_console.local.consumer import ConsumerService
from trialstream_consumer.archive import Archive, ArchiveError, Selection, export_log, import_archive
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.codec import SchemaStore

PROJECT = "p.$"  # of write_all


@dataclasses.dataclass
class Log:
    """A log with every kind of event by several writers, the documents folded from it, and its export."""

    config: ts.Config
    documents: dict
    dead_letters: collections.Counter
    archive: Archive
    other: ts.Trial


def ignore(*_):
    """Ignore progress."""


def fresh(config, **changes):
    """Settings of a log that does not exist yet."""
    return dataclasses.replace(config, prefix=f"archive-{uuid.uuid4().hex[:12]}", **changes)


def documents(config):
    """Return the documents that must come back byte for byte, without dead letters, whose offsets differ."""
    found = snapshot(config)
    return {name: each for name, each in found.items() if name not in ("checkpoints", "dead_letters")}


def dead_letters(config):
    """Count the dead letters by reason and value."""
    found = map(bson.decode, snapshot(config)["dead_letters"].values())
    return collections.Counter((each["reason"], each["value"]) for each in found)


async def imported(log, consumer, archive=None, **changes):
    """Import into a fresh log, fold it, and return its settings."""
    config = fresh(log.config, **changes)
    await import_archive(config, archive or log.archive, ignore)
    consumer(config)
    await caught_up(config)
    return config


async def exported(log, file, **selection):
    """Export a part of the log and return the archive."""
    await export_log(log.config, file, Selection(**selection), ignore)
    return Archive.check(file, ignore)


def events(archive):
    """Return the decoded events of an archive by topic, with their timestamps; None for an undecodable record."""
    store, found = SchemaStore(), {"registry": [], "trials": []}
    for record in archive.logged_records():
        try:
            event = store.decode(record["value"])
        except SchemaError:
            event = None
        found[record["topic"]].append((event, record["timestamp"]))
    return found


@pytest.fixture(scope="module")
async def log(stack, tmp_path_factory):
    """A log that is written once for all tests, which do not change it; its database is dropped before them."""
    config = fresh(ts.Config(kafka=stack.kafka.address, mongo=stack.mongo.uri, partitions=4))
    folder = tmp_path_factory.mktemp("archive")
    service = ConsumerService(folder, config)
    service.start()
    try:
        await write_all(config)
        async with connected(config) as protocol:
            project = await protocol.new_project(ts.Project(name="other"))
            group = await protocol.new_trial_group(ts.TrialGroup(name="g", project_id=project.uid))
            other = await protocol.new_trial(ts.Trial(name="other", group_id=group.uid))
            await protocol.log_trial_start(other)
            await protocol.log_trial_metrics(other, step=1, loss=0.5)
            await protocol.log_trial_finish(other)
            await protocol.commit(timeout=30)
        await caught_up(config)
    finally:
        service.stop()
    found, letters = documents(config), dead_letters(config)
    drop(config)
    await export_log(config, folder / "log.avro", Selection(), ignore)
    return Log(config, found, letters, Archive.check(folder / "log.avro", ignore), other)


@pytest.mark.parametrize("partitions", [4, 7])
async def test_an_exported_log_folds_to_the_same_documents_elsewhere(log, consumer, partitions):
    """An imported log folds to the same documents, byte for byte, except dead letters, for any partition count."""
    target = await imported(log, consumer, partitions=partitions)

    assert differences(log.documents, documents(target)) == []
    assert documents(target) == log.documents
    assert all(log.documents.values())
    assert any(not id_.endswith("/open") for id_ in log.documents["series"])  # histories of several buckets
    assert dead_letters(target) == log.dead_letters
    assert sum(log.dead_letters.values()) >= 3


async def test_a_second_import_changes_no_document(log, consumer, monkeypatch):
    """Interrupted and repeated imports change no document; records that cannot be folded become dead letters again."""
    target = fresh(log.config)
    monkeypatch.setattr("trialstream_consumer.archive.importing._CHUNK_BYTES", 1000)
    with anyio.CancelScope() as interrupted:
        await import_archive(target, log.archive, lambda _, done, __: interrupted.cancel() if done >= 20 else None)
    ends = await ends_of(target, target.trials_topic, target.registry_topic)
    monkeypatch.undo()
    for _ in range(2):
        await import_archive(target, log.archive, ignore)
    consumer(target)
    await caught_up(target)

    assert 9 < sum(ends.values()) < log.archive.records
    assert documents(target) == log.documents
    assert dead_letters(target).keys() == log.dead_letters.keys()


async def test_an_import_keeps_keys_and_order(log):
    """An import keeps every record's key and order; in the registry, only the identity of the log differs."""
    target = fresh(log.config)
    sent = await import_archive(target, log.archive, ignore)
    for source, topic in ((log.config.trials_topic, target.trials_topic), (log.config.schemas_topic, "")):
        before = [(each.partition, each.key, each.value or b"") for each in await records_of(log.config, source)]
        after = await records_of(target, topic or target.schemas_topic)

        if topic:
            assert [(each.partition, each.key, each.value) for each in after] == before
        else:
            assert {(0, each.key, each.value) for each in after} == set(before)
    first, *rest = await records_of(log.config, log.config.registry_topic)
    begin, *registry = await records_of(target, target.registry_topic)

    assert [(each.key, each.value) for each in registry] == [(each.key, each.value) for each in rest]
    assert begin.value != first.value
    assert sent["registry"] == len(rest)


async def test_fastavro_alone_reads_the_file(log):
    """Every event is decoded with nothing but the schemas in the metadata of the file."""
    with log.archive.file.open("rb") as source:
        reader = fastavro.reader(source)
        schemas = {
            key: fastavro.parse_schema(each) for key, each in json.loads(reader.metadata["trialstream.schemas"]).items()
        }
        records = list(reader)
    names = collections.Counter()
    for record in records:
        if record["value"][:2] == b"\xc3\x01" and len(record["value"]) > 10:
            body = io.BytesIO(record["value"][10:])
            schema = schemas[record["value"][2:10].hex()]
            fastavro.schemaless_reader(body, schema, None)

            assert body.read() == b""

            names[schema["name"]] += 1
    ends = await ends_of(log.config, log.config.trials_topic, log.config.registry_topic)

    assert len(records) == sum(ends.values())
    assert len(records) - sum(names.values()) == 3  # the garbage of write_all
    assert names["trialstream.LogCreated"] == 1
    assert len(names) >= 13


async def test_an_exported_project_has_all_its_trials_and_no_others(log, consumer, tmp_path):
    """An exported project has all its trials unchanged, also those attached later, and no other trials."""
    archive = await exported(log, tmp_path / "project.avro", project=PROJECT)
    found = documents(await imported(log, consumer, archive))
    trials = log.documents["trials"]
    mine = {uid for uid, each in trials.items() if bson.decode(each)["project_id"] == PROJECT}
    revisions = {uid for uid in trials if uid.split("_")[0] in {each.split("_")[0] for each in mine}}

    assert set(found["projects"]) == {PROJECT}
    assert found["groups"] == {
        uid: each for uid, each in log.documents["groups"].items() if bson.decode(each)["project_id"] == PROJECT
    }
    assert found["trials"] == {uid: trials[uid] for uid in revisions}
    assert log.other.uid not in revisions
    assert len(mine) > 10
    assert found["series"] == {
        id_: each for id_, each in log.documents["series"].items() if bson.decode(each)["trial"] in mine
    }


async def test_an_exported_trial_comes_with_its_group_and_the_groups_project(log, consumer, tmp_path):
    """An export of a trial, selected by uid or hash, includes its group and the group's project."""
    by_hash = await exported(log, tmp_path / "hash.avro", trial=log.other.hash)
    by_uid = await exported(log, tmp_path / "uid.avro", trial=log.other.uid)
    found = documents(await imported(log, consumer, by_uid))

    assert list(by_hash.logged_records()) == list(by_uid.logged_records())
    assert found["trials"] == {log.other.uid: log.documents["trials"][log.other.uid]}
    assert set(found["groups"]) == {log.other.group_id}
    assert set(found["projects"]) == {"other"}


async def test_a_window_of_time_keeps_its_events_and_the_creations(log, tmp_path):
    """A time window selects events by the broker's clock, from `since` until before `until`, and all creations."""
    times = sorted(time for _, time in events(log.archive)["trials"])
    since, until = int(times[len(times) // 3]), int(times[2 * len(times) // 3])
    archive = await exported(log, tmp_path / "window.avro", since=since, until=until)
    found = events(archive)["trials"]
    expected = [each for each in events(log.archive)["trials"] if since <= each[1] < until]
    uids = {event.trial for event, _ in expected if event and "_" in event.trial}
    early = [event for event, time in found if time < since and getattr(event, "attempt", None) is None]

    assert [time for _, time in found if time >= since] == [time for _, time in expected]
    assert {type(each).__name__ for each in early} <= {"TrialCreated", "TrialAttached"}
    assert {uid.split("_")[0] for uid in uids} <= {
        event.hash for event, _ in found if type(event).__name__ == "TrialCreated"
    }
    assert archive.records < log.archive.records


async def test_nothing_to_export_is_an_error(log, config, tmp_path):
    """The error names the missing project, trial or topic, and no file is left."""
    with pytest.raises(ArchiveError, match="no project 'nobody'"):
        await exported(log, tmp_path / "log.avro", project="nobody")
    with pytest.raises(ArchiveError, match="no events of trial nobody_0"):
        await exported(log, tmp_path / "log.avro", trial="nobody_0")
    with pytest.raises(ArchiveError, match=f"no topic {config.prefix}"):
        await export_log(config, tmp_path / "log.avro", Selection(), ignore)

    assert list(tmp_path.iterdir()) == []


async def test_an_interrupted_export_leaves_no_file(log, tmp_path):
    """An interrupted export leaves neither FILE nor FILE.partial."""
    with anyio.CancelScope() as interrupted:
        await export_log(log.config, tmp_path / "log.avro", Selection(), lambda *_: interrupted.cancel())

    assert interrupted.cancel_called
    assert list(tmp_path.iterdir()) == []


async def test_the_commands_report_their_results(log, tmp_path):
    """Counts go to stdout. An existing file, a torn one and an invalid time are errors that change nothing."""
    file, target = tmp_path / "log.avro", fresh(log.config)
    done = await run_sync(cli, log.config, "export", str(file))
    whole = file.read_bytes()
    again = await run_sync(cli, log.config, "export", str(file))
    replaced = await run_sync(cli, log.config, "export", str(file), "--force", "--since", "2020-01-01T00:00:00Z")
    wrong = await run_sync(cli, log.config, "export", str(tmp_path / "b.avro"), "--since", "yesterday")
    file.write_bytes(whole[: len(whole) // 2])
    torn = await run_sync(cli, target, "import", str(file))
    async with admin(target) as client:
        topics = await client.list_topics()
    file.write_bytes(whole)
    put = await run_sync(cli, target, "import", str(file))

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("exported 9 registry and ")
    assert done.stdout.rstrip().endswith(f"to {file}")
    assert without_notices(done.stderr) == ""
    assert (again.returncode, again.stdout) == (1, "")
    assert f"{file} exists already" in again.stderr
    assert replaced.returncode == 0, replaced.stderr
    assert "ISO 8601" in wrong.stderr
    assert (torn.returncode, torn.stdout) == (1, "")
    assert f"error: {file} is torn" in torn.stderr
    assert target.trials_topic not in topics
    assert put.returncode == 0, put.stderr
    assert put.stdout.startswith("imported 8 registry and ")
