"""Schemas and events that a raw producer publishes, and registries whose first record another program wrote."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import trialstream as ts
from aiokafka.admin import NewTopic
from anyio.to_thread import run_sync
from pymongo import MongoClient
from service_load import connected
from service_support import admin, caught_up, cli, delete_topics, log_entries, records_of, send, terminate
from test_consumer_dead_letters import partition_of
from trialstream.event_log.schemas import SchemaTopic
from trialstream.event_log.topics import ensure_topics
from trialstream_schemas.wire.codec import encode
from trialstream_schemas.wire.events import LogCreated, TagsAdded, TrialCreated
from trialstream_schemas.wire.limits import MAX_VALUES
from trialstream_schemas.wire.schemas import FINGERPRINTS, SCHEMAS, fingerprint


def record(name, *types):
    """Return a record with fields of these types."""
    return {"type": "record", "name": name, "fields": [{"name": f"f{i}", "type": each} for i, each in enumerate(types)]}


def laughs(depth):
    """Return a record that expands to two to the power of `depth` values, which take no bytes."""
    fields = [["long", record("R0", "null", "null")]]
    fields += [["long", record(f"R{i}", f"R{i - 1}", f"R{i - 1}")] for i in range(1, depth)]
    return record("trialstream.Heartbeat", *fields, f"R{depth - 1}")


def tags_with(kind):
    """Return the schema of `TagsAdded` with another field."""
    schema = json.loads(SCHEMAS[FINGERPRINTS[TagsAdded]])
    return {**schema, "fields": [*schema["fields"], {"name": "more", "type": kind}]}


DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 5_000_000, "scale": 2}
NULLS = record("Nulls", *["null"] * 200, "boolean")


async def test_hostile_schemas_and_events_are_dead_letters(config, consumer):
    """Each event is a dead letter or folded, the good event after them is folded, and SIGTERM ends the consumer."""
    service = await run_sync(consumer, config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
        await protocol.commit("folded")
        body = encode(TagsAdded(trial=trial.uid, writer="raw", seq=1, time=1, values={"raw": 1}))[10:]
        bomb = b"\xfe\xff\x01" + b"\0" * 0x7FFF + b"\0"  # 32,767 items
        given = {
            "two by two": (laughs(60), b"\0" * 60, "no schema with fingerprint"),
            "20,000 fields": (record("trialstream.Heartbeat", *["null"] * 20_000), b"", "no schema with fingerprint"),
            "a decimal": (tags_with(DECIMAL), body + b"\2\1", None),
            "arrays of nulls": (
                tags_with({"type": "array", "items": NULLS}), body + bomb, f"more than {MAX_VALUES} values",
            ),
            "maps of nulls": (
                tags_with({"type": "map", "values": NULLS}), body + b"\xfe\xff\x01" + b"\0\0" * 0x7FFF + b"\0",
                f"more than {MAX_VALUES} values",
            ),
        }  # fmt: skip
        for schema, _, _ in given.values():
            await send(config, [json.dumps(schema).encode()], topic=config.schemas_topic, key=fingerprint(schema))
        other = json.dumps(record("trialstream.Heartbeat", "string")).encode()
        await send(config, [other], topic=config.schemas_topic, key=FINGERPRINTS[TagsAdded])
        values = [b"\xc3\x01" + fingerprint(schema) + data for schema, data, _ in given.values()]
        values.append(b"\xc3\x01" + fingerprint(json.loads(other)) + b"\2x")
        offsets = await send(config, values, partition=partition_of(config, trial))
        await protocol.add_trial_tags(trial, behind=True)
        [again] = await protocol.fetch_trials({"uid": trial.uid})
        async with SchemaTopic(config) as topic:
            texts = dict(topic.texts)
    with MongoClient(config.mongo) as client:
        letters = {each["offset"]: each["reason"] for each in client[config.database].dead_letters.find()}
    reasons = [*(reason for _, _, reason in given.values()), "no schema with fingerprint"]

    assert again.tags == {"raw": 1, "behind": True}
    assert sorted(letters) == [offset for offset, reason in zip(offsets, reasons, strict=True) if reason]
    for offset, reason in zip(offsets, reasons, strict=True):
        assert reason is None or reason in letters[offset]
    refused = [line["event"] for line in log_entries_with(service, "refused schemas of")]
    assert len(refused) == 1
    for words in ("expands to", "65536 bytes", f"its key is {FINGERPRINTS[TagsAdded].hex()}"):
        assert words in refused[0]
    assert texts[FINGERPRINTS[TagsAdded]] == SCHEMAS[FINGERPRINTS[TagsAdded]]
    assert other not in texts.values()
    code, seconds = await run_sync(terminate, service, 30.0)
    assert code == 0
    assert seconds < 15


def log_entries_with(service, words):
    """Return the lines of a service's log whose event contains words."""
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if words in line["event"]]


@pytest.mark.slow
async def test_a_batch_of_heavy_events_is_folded_in_parts(config, consumer):
    """Thousands of small events that expand to 900 values each do not hold up SIGTERM, and none is lost or repeated."""
    schema = tags_with(record("Many", *["null"] * 900))
    service = await run_sync(consumer, config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
        await protocol.commit("folded")
        await run_sync(service.stop)
        await send(config, [json.dumps(schema).encode()], topic=config.schemas_topic, key=fingerprint(schema))
        events = [TagsAdded(trial=trial.uid, writer="raw", seq=i, time=1, values={"i": i}) for i in range(1, 2001)]
        heavy = [b"\xc3\x01" + fingerprint(schema) + encode(event)[10:] for event in events]
        await send(config, heavy, partition=partition_of(config, trial))
        await run_sync(service.start)
        await caught_up(config)
        [again] = await protocol.fetch_trials({"name": "a"})
    code, _ = await run_sync(terminate, service, 30.0)

    assert (again.tags, again.lost_events) == ({"i": 2000}, 0)
    assert log_entries(service, "dead_letter") == []
    assert code == 0


async def test_a_schema_that_another_one_has_replaced_is_published_again(config):
    """A writer replaces garbage and other schemas, which compaction would keep instead of the right ones."""
    await ensure_topics(config)
    keys = list(SCHEMAS)
    other = json.dumps(record("trialstream.Heartbeat", "string")).encode()
    for key, value in zip(keys, (b"garbage", other, SCHEMAS[keys[0]], b"[" * 5000), strict=False):
        await send(config, [value], topic=config.schemas_topic, key=key)
    await ensure_topics(config)
    found = {each.key: each.value for each in await records_of(config, config.schemas_topic)}

    assert found == SCHEMAS


@pytest.mark.parametrize(
    ("first", "words"),
    [
        pytest.param(b"garbage", "expected LogCreated, the identity of the log, got not in Avro", id="garbage"),
        pytest.param(
            encode(LogCreated(time=1, log="forged", partitions=7)), "has 4 partitions and was created with 7",
            id="7 partitions", marks=pytest.mark.slow,
        ),
        pytest.param(
            encode(LogCreated(time=1, log="x" * 100, partitions=4)), "LogCreated with an id of 100 characters",
            id="a long id", marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
async def test_a_registry_with_a_wrong_beginning(config, consumer, tmp_path, first, words):
    """Each command names the record and the way on; the way restores the events."""
    config = replace(config, partitions=4)
    trial = ts.Trial(name="saved")
    created = TrialCreated(
        trial=f"{trial.hash}_0", writer="raw", time=1, request="r", name="saved", parameters={}, auto_increment=True
    )
    topics = {config.registry_topic: 1, config.trials_topic: 4, config.schemas_topic: 1}
    async with admin(config) as client:
        await client.create_topics([NewTopic(name, count, 1) for name, count in topics.items()])
    await send(config, [first], topic=config.registry_topic)
    await send(config, [encode(created)], partition=partition_of(config, trial), key=trial.hash.encode())

    with pytest.raises(ts.LogMismatch) as caught:
        await connected(config).__aenter__()
    errors = [str(caught.value)]
    for command in (["consume"], ["rebuild"]):
        found = await run_sync(lambda command=command: cli(config, *command))
        assert found.returncode == 1
        assert "Traceback" not in found.stderr
        errors.append(found.stderr.splitlines()[-1])
    for error in errors:
        for each in (f"{config.registry_topic}/0, offset 0", words, "trialstream export", *topics):
            assert each in error

    file = str(tmp_path / "saved.avro")
    exported = await run_sync(lambda: cli(config, "export", file))
    assert exported.returncode == 0, exported.stderr
    await delete_topics(config)
    imported = await run_sync(lambda: cli(config, "import", file))
    assert imported.returncode == 0, imported.stderr
    await run_sync(consumer, config)
    await caught_up(config)
    async with connected(config) as protocol:
        [again] = await protocol.fetch_trials({"name": "saved"})

    assert again.hash == trial.hash
