"""Batches that unpack to a multiple, or cannot be parsed: one dead letter each, and the partition goes on."""

from __future__ import annotations

import dataclasses
import uuid
from pathlib import Path

import anyio
import pytest
import trialstream as ts
from aiokafka.admin import NewTopic
from anyio.to_thread import run_sync
from pymongo import MongoClient
from raw_batches import CODECS, built, send_batch, signed, zstd_bomb
from service_load import connected
from service_support import (
    admin,
    caught_up,
    cli,
    collections,
    differences,
    drop,
    ends_of,
    live,
    log_entries,
    snapshot,
)
from trialstream.event_log.schemas import SchemaTopic
from trialstream.event_log.topics import ensure_topics, partition_of
from trialstream_consumer.archive import Archive, import_archive
from trialstream_consumer.replay.rebuild import rebuild
from trialstream_consumer.replay.verify import verify
from trialstream_schemas.wire.codec import encode
from trialstream_schemas.wire.events import TagsAdded
from trialstream_schemas.wire.limits import MAX_RECORD_BYTES

# A consumer with all imports takes 110 MB. One batch is unpacked at a time, to 16 MiB, and parsed from a copy.
GROWTH_BYTES = 128 * 2**20


def ignore(*_):
    """Ignore progress and differences."""


def peak_bytes(pid):
    """Return the largest resident size that a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [peak] = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(peak) * 1024


def dead_letters(config):
    """Return the dead letters, by partition and offset."""
    with MongoClient(config.mongo) as client:
        letters = collections(client, live(config))["dead_letters"].find()
        return {(each["partition"], each["offset"]): each for each in letters}


def tagged(trial, seq, **tags):
    """Encode an event by a writer that is no Protocol."""
    return encode(TagsAdded(trial=trial.uid, writer="by-hand", seq=seq, time=1_700_000_000_000_000, values=tags))


HOSTILE = {
    "zstd bomb": (lambda: zstd_bomb(2**26), 1, "zstd does not unpack to at most 16777216 bytes"),
    "gzip bomb": (lambda: built([bytes(2**20)] * 20, "gzip"), 20, "gzip does not unpack to at most 16777216 bytes"),
    "lz4 bomb": (lambda: built([bytes(2**24)], "lz4"), 1, "lz4 does not unpack to at most 16777216 bytes"),
    "snappy bomb": (lambda: built([bytes(2**24)], "snappy"), 1, "snappy does not unpack to at most"),
    "too many records": (
        lambda: built([b""] * 131_073, "zstd"),
        131_073,
        "expected at most 131072 records, got 131073",
    ),
    "a name that is not UTF-8": (
        lambda: signed(built([b"v"], headers=[("name", b"")]).replace(b"name", b"\xff\xff\xff\xff")),
        1,
        "its records cannot be parsed",
    ),
}


async def test_hostile_batches_are_dead_letters(config, consumer, tmp_path):
    """Each is one dead letter with its coordinates; memory is bounded; replays and archives do the same."""
    service = await run_sync(consumer, config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        await protocol.commit("folded")
        partition = partition_of(trial.hash.encode(), config.partitions)
        before = peak_bytes(service.pid)
        expected = {}
        for number, (make, records, reason) in enumerate(HOSTILE.values()):
            batch = await run_sync(make)
            first = await send_batch(config, partition, batch)
            expected[partition, first + records - 1] = (
                f"batch of offsets {first} to {first + records - 1} ({len(batch)} bytes): ",
                reason,
            )
            await protocol.add_trial_tags(trial, {f"n{number}": number})
            await protocol.commit("acked")
        first = await send_batch(
            config,
            partition,
            built([tagged(trial, 1, a=1), bytes(MAX_RECORD_BYTES + 1), tagged(trial, 2, b=2)], "zstd"),
        )
        expected[partition, first + 1] = ("a record of 1048577 bytes", "an event can have at most 1048576")
        with anyio.fail_after(20):
            [trial] = await protocol.fetch_trials({"uid": trial.uid}, latest=True)
    await caught_up(config)
    found = dead_letters(config)
    documents = snapshot(config)

    assert trial.tags == {**{f"n{number}": number for number in range(len(HOSTILE))}, "a": 1, "b": 2}
    assert found.keys() == expected.keys()
    for place, (coordinates, reason) in expected.items():
        assert coordinates in found[place]["reason"]
        assert reason in found[place]["reason"]
        assert len(found[place]["value"]) <= MAX_RECORD_BYTES
        assert found[place]["time"] > 1_700_000_000_000
    assert len(log_entries(service, "dead_letter")) == len(expected)
    assert service.running
    assert peak_bytes(service.pid) - before < GROWTH_BYTES

    wrong = []
    await verify(config, wrong.append, ignore)
    await rebuild(config, ignore)

    assert wrong == []
    assert differences(documents, snapshot(config)) == []

    exported = cli(config, "export", str(tmp_path / "log.avro"))

    assert exported.returncode == 0
    assert f"left out {len(expected)} batches or records that cannot be read, and are dead letters" in exported.stdout
    copied = dataclasses.replace(config, prefix=f"copied-{uuid.uuid4().hex[:12]}")
    await import_archive(copied, Archive.check(tmp_path / "log.avro", ignore), ignore)
    await rebuild(copied, ignore)

    assert dead_letters(copied) == {}
    assert snapshot(copied)["trials"] == documents["trials"]
    await run_sync(drop, copied)


async def test_large_batches_within_the_limit_are_folded(config, consumer):
    """A compressed batch of four parts is folded event by event, in order, with each codec."""
    await run_sync(consumer, config)
    seq = 0
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        partition = partition_of(trial.hash.encode(), config.partitions)
        for codec in CODECS:
            values = [tagged(trial, seq + each, k="x" * 50_000, **{codec: each}) for each in range(1, 290)]
            seq += len(values)
            await send_batch(config, partition, built(values, codec))
        with anyio.fail_after(20):
            [trial] = await protocol.fetch_trials({"uid": trial.uid}, latest=True)

    assert dead_letters(config) == {}
    assert trial.lost_events == 0
    assert trial.tags == {"k": "x" * 50_000, **dict.fromkeys(CODECS, 289)}


async def test_the_registry_and_the_schemas(config, consumer):
    """In the registry a hostile batch is a dead letter; in the schemas topic it is skipped, by each program."""
    await ensure_topics(config)
    await send_batch(config, 0, zstd_bomb(2**26), config.registry_topic)
    await send_batch(config, 0, built([bytes(2**20)] * 20, "gzip", key=b"k"), config.schemas_topic)
    async with SchemaTopic(config) as topic:
        assert topic.texts
    service = await run_sync(consumer, config)
    async with connected(config) as protocol:
        await protocol.new_project(ts.Project(name="p"))
        [project] = await protocol.fetch_projects(latest=True)

    assert project.name == "p"
    assert [*dead_letters(config)] == [(0, 1)]
    assert peak_bytes(service.pid) < 3 * GROWTH_BYTES


async def test_a_registry_that_begins_with_a_hostile_batch(config, stack):
    """It is no registry, and the error says what is there."""
    async with admin(config) as client:
        await client.create_topics([NewTopic(config.registry_topic, 1, 1)])
    await send_batch(config, 0, zstd_bomb(2**26), config.registry_topic)
    with pytest.raises(ts.LogMismatch, match=r"offset 0: expected LogCreated.*, got batch of offsets 0 to 0 .*zstd"):
        await ensure_topics(config)


async def test_a_batch_that_is_damaged_on_the_disk_of_the_broker(config, consumer, stack):
    """Its events are one dead letter, as long as the disk has it so; all others are folded."""
    service = await run_sync(consumer, config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
    await run_sync(service.stop)
    partition = partition_of(trial.hash.encode(), config.partitions)
    first = await send_batch(config, partition, built([tagged(trial, 1, a=1)]))
    await send_batch(config, partition, built([tagged(trial, 2, b="damaged"), tagged(trial, 3, c=3)]))
    last = await send_batch(config, partition, built([tagged(trial, 4, d=4)]))
    [segment] = (stack.kafka.folder / "kafka" / f"{config.trials_topic}-{partition}").glob("*.log")
    with segment.open("r+b") as file:
        at = file.read().index(b"damaged")
        file.seek(at)
        file.write(b"D")
    await run_sync(service.start)
    await caught_up(config)
    found = dead_letters(config)
    async with connected(config) as protocol:
        [trial] = await protocol.fetch_trials({"uid": trial.uid}, latest=True)

    assert trial.tags == {"a": 1, "d": 4}
    assert [*found] == [(partition, last - 1)]
    assert f"batch of offsets {first + 1} to {last - 1}" in found[partition, last - 1]["reason"]
    assert "its checksum is wrong" in found[partition, last - 1]["reason"]
    assert service.running


@pytest.mark.slow
async def test_the_batches_that_ended_consumers(config, consumer):
    """48 KB of zstd that were 1.5 GB, and 412 KB of gzip that were 400 records of a megabyte: at once, in 128 MiB."""
    service = await run_sync(consumer, config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        await protocol.commit("folded")
        partition = partition_of(trial.hash.encode(), config.partitions)
        before = peak_bytes(service.pid)
        bombs = [await run_sync(zstd_bomb, 3 * 2**29), await run_sync(built, [bytes(2**20)] * 400, "gzip")]
        for bomb in [*bombs, *[bombs[0]] * 20]:
            assert len(bomb) < 500_000
            await send_batch(config, partition, bomb)
        await protocol.add_trial_tags(trial, behind=1)
        with anyio.fail_after(20):
            [trial] = await protocol.fetch_trials({"uid": trial.uid}, latest=True)
    ends = await ends_of(config, config.trials_topic)

    assert trial.tags == {"behind": 1}
    assert len(dead_letters(config)) == 22
    assert peak_bytes(service.pid) - before < GROWTH_BYTES
    assert max(ends.values()) > 420


@pytest.mark.slow
async def test_records_of_a_megabyte_that_are_small_in_the_log(config, consumer):
    """400 of them, in batches within the limit, take no more memory than plain ones, and seconds."""
    service = await run_sync(consumer, config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        await protocol.commit("folded")
        partition = partition_of(trial.hash.encode(), config.partitions)
        before = peak_bytes(service.pid)
        batch = await run_sync(built, [bytes(2**20 - 100)] * 15, "gzip")
        for _ in range(27):
            await send_batch(config, partition, batch)
        await protocol.add_trial_tags(trial, behind=1)
        with anyio.fail_after(120):
            [trial] = await protocol.fetch_trials({"uid": trial.uid}, latest=True)

    assert len(dead_letters(config)) == 405
    assert peak_bytes(service.pid) - before < 4 * GROWTH_BYTES
