"""Records that cannot be folded: each becomes one dead letter, and the partition continues."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import fastavro
import trialstream as ts
from aiokafka.partitioner import murmur2
from anyio.to_thread import run_sync
from pymongo import MongoClient
from service_load import connected
from service_support import caught_up, cli, collections, log_entries, send, until, without_notices
from trialstream_consumer.fold import batch, updates
from trialstream_consumer.replay.rebuild import rebuild
from trialstream_schemas.model.aggregators import TimeSeriesAggregator
from trialstream_schemas.wire.codec import encode, record_of
from trialstream_schemas.wire.events import LogCreated, MetricsLogged
from trialstream_schemas.wire.schemas import SCHEMAS, fingerprint


def partition_of(config, trial):
    """Return the partition that Kafka's partitioner chooses for a trial."""
    return (murmur2(trial.hash.encode()) & 0x7FFFFFFF) % config.partitions


def beside(config, trial, start):
    """Return an address that no trial has, which begins with `start` and belongs in the partition of a trial."""
    names = (f"{start}{i}" for i in range(1000))
    found = next(
        each
        for each in names
        if (murmur2(each.encode()) & 0x7FFFFFFF) % config.partitions == partition_of(config, trial)
    )
    return f"{found}_0"


def frame(of, seq=1, **changes):
    """Make a frame of one row by a writer other than a Protocol."""
    event = MetricsLogged(
        trial=of.uid,
        writer="by-hand",
        seq=seq,
        time=1_700_000_000_000_000,
        aggregator=TimeSeriesAggregator.lazy(),
        names=["loss"],
        times=[0],
        columns=[[0.5]],
        steps=[seq],
    )
    return replace(event, **changes)


def poison(config, trial):
    """Return records that cannot be folded, by a part of the expected reason."""
    whole = encode(frame(trial))
    return {
        "does not begin with C3 01": b"\x00garbage",
        "not in Avro single-object encoding": b"",
        "the body does not fit its schema": whole[:-6],
        "no schema with fingerprint": b"\xc3\x01" + b"\x11" * 8 + b"body",
        "there is no trial": encode(frame(trial, trial=beside(config, trial, "f" * 30))),
        "there is no trial '[/bold]": encode(frame(trial, trial=beside(config, trial, "[/bold]"))),
        f"belongs in {config.registry_topic}/0": encode(LogCreated(time=1, log="l", partitions=1)),
        "4 bytes are left over": whole + b"more",
        "columns: expected 1 of length 1, got 1 of lengths 2 to 2": encode(frame(trial, seq=1, columns=[[0.5, 0.6]])),
        "names: expected distinct names": encode(frame(trial, seq=2, names=["a", "a"], columns=[[1.0], [2.0]])),
        "one per row": encode(frame(trial, seq=3, steps=[1, 2])),
    }


async def test_each_kind_of_poison_is_one_dead_letter_and_the_partition_continues(config, consumer):
    """A dead letter has topic, partition, offset, reason and bytes; later events are folded; the command lists all."""
    service = consumer(config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
        given = poison(config, trial)
        partition = partition_of(config, trial)
        offsets = await send(config, [*given.values(), encode(frame(trial, seq=4))], partition=partition)
        await caught_up(config)
        [again] = await protocol.fetch_trials({"uid": trial.uid})
    await until(lambda: len(log_entries(service, "dead_letter")) >= len(given))  # logged after they are stored
    with MongoClient(config.mongo) as client:
        letters = list(client[config.database].dead_letters.find({}, sort=[("offset", 1)]))

    assert len(letters) == len(given)
    for letter, offset, (reason, value) in zip(letters, offsets, given.items(), strict=False):
        assert (letter["topic"], letter["partition"]) == (config.trials_topic, partition)
        assert (letter["offset"], bytes(letter["value"])) == (offset, value)
        assert reason in letter["reason"]
    assert again.metrics["loss"].count == 1
    assert again.lost_events == 0
    assert [line["offset"] for line in log_entries(service, "dead_letter")] == offsets[:-1]

    listed = cli(config, "dead-letters", "--json")
    found = [json.loads(line) for line in listed.stdout.splitlines()]

    assert (listed.returncode, without_notices(listed.stderr)) == (0, "")
    assert sorted((each["topic"], each["partition"], each["offset"]) for each in found) == [
        (config.trials_topic, partition, offset) for offset in offsets[:-1]
    ]
    assert {bytes.fromhex(each["value"]) for each in found} == set(given.values())
    assert {each["reason"] for each in found} == {each["reason"] for each in letters}

    table = cli(config, "dead-letters")
    text = "".join(table.stdout.split())

    assert (table.returncode, without_notices(table.stderr)) == (0, "")
    for letter in letters:
        assert str(letter["offset"]) in text
    assert "[/bold]" in text

    limited = cli(config, "dead-letters", "--json", "--limit", "2")

    assert len(limited.stdout.splitlines()) == 2


async def test_a_schema_that_is_published_while_the_consumer_runs_is_read(config, consumer):
    """Events of a newer writer that adds a field with a default are folded without the field; none is a dead letter."""
    consumer(config)
    newer = next(json.loads(each) for each in SCHEMAS.values() if json.loads(each)["name"].endswith("MetricsLogged"))
    newer["fields"].append({"name": "unit", "type": "string", "default": ""})
    text = json.dumps(newer).encode()
    key = fingerprint(newer)

    assert key not in SCHEMAS

    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
        await protocol.commit("folded")
        await send(config, [text], topic=config.schemas_topic, key=key)
        values = []
        for seq in range(1, 4):
            record = {**record_of(frame(trial, seq)), "unit": "nats"}
            values.append(b"\xc3\x01" + key + body(newer, record))
        await send(config, values, partition=partition_of(config, trial))
        await caught_up(config)
        [again] = await protocol.fetch_trials({"uid": trial.uid})
    with MongoClient(config.mongo) as client:
        letters = client[config.database].dead_letters.count_documents({})

    assert letters == 0
    assert (again.metrics["loss"].count, again.metrics["loss"].last_step) == (3, 3)


def body(schema, record):
    """Encode a record in Avro's binary encoding."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return out.getvalue()


async def test_many_records_of_an_unknown_schema_do_not_hold_up_the_partition(config, consumer):
    """The schemas are refreshed once per batch, not once per record."""
    consumer(config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
        unknown = b"\xc3\x01" + b"\x22" * 8
        await send(config, [unknown] * 3000, partition=partition_of(config, trial))
        await protocol.add_trial_tags(trial, behind=True)
        [again] = await protocol.fetch_trials({"uid": trial.uid})
    with MongoClient(config.mongo) as client:
        letters = client[config.database].dead_letters.count_documents({})

    assert letters == 3000
    assert again.tags == {"behind": True}


async def test_an_event_of_a_newer_kind_is_a_dead_letter_that_names_it(config, consumer):
    """The schema is in the log, but this version has no fold for the event."""
    consumer(config)
    schema = {"type": "record", "name": "PlotDrawn", "namespace": "trialstream", "fields": []}
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
        await send(config, [json.dumps(schema).encode()], topic=config.schemas_topic, key=fingerprint(schema))
        await send(config, [b"\xc3\x01" + fingerprint(schema)], partition=partition_of(config, trial))
        await protocol.add_trial_tags(trial, behind=True)
        await protocol.commit("folded")
        await caught_up(config)
    [letter] = [json.loads(line) for line in cli(config, "dead-letters", "--json").stdout.splitlines()]

    assert "trialstream.PlotDrawn" in letter["reason"]


async def test_a_fault_of_the_fold_dead_letters_only_the_event_that_causes_it(config, consumer, monkeypatch):
    """In a row group, folding one by one isolates the failing event; the others are folded."""
    service = consumer(config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
    await run_sync(service.stop)
    frames = [frame(trial, seq) for seq in range(1, 101)]
    await send(config, map(encode, frames), partition=partition_of(config, trial))
    apply, together = updates._apply_to_trial, batch.fold_rows

    def faulty(state, folded, event):
        apply(state, folded, event)
        if event.seq == 50:
            raise ZeroDivisionError("half done")

    def faulty_together(state, rows):
        folded = together(state, rows)
        if rows.seq <= 50 < rows.seq + len(rows):
            raise ZeroDivisionError("half done")
        return folded

    monkeypatch.setattr(updates, "_apply_to_trial", faulty)
    monkeypatch.setattr(batch, "fold_rows", faulty_together)
    rebuilt = await rebuild(config, lambda *_: None)
    with MongoClient(config.mongo) as client:
        [letter] = collections(client, rebuilt.namespace)["dead_letters"].find()
        document = collections(client, rebuilt.namespace)["trials"].find_one({"_id": trial.uid})

    assert letter["reason"] == "the fold failed: ZeroDivisionError('half done')"
    assert letter["value"] == encode(frames[49])
    assert document["rows"] == 99
    assert document["writers"]["by-hand"] == 100
    assert document["lost_events"] == 1
