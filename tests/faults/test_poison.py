"""Invalid bytes in the log: each record becomes one dead letter, the partition continues, and memory stays bounded."""

from __future__ import annotations

import itertools
import json
import random
import sys
from dataclasses import replace

import pytest
import trialstream as ts
from aiokafka import AIOKafkaProducer
from anyio.to_thread import run_sync
from injectors import mongo_through_proxy
from memory import peak_memory
from oracle import check, check_documents, read_log, read_view
from pymongo import MongoClient
from service_support import caught_up, log_entries, send
from trialstream.event_log.topics import partition_of
from trialstream_console.local.consumer import ConsumerService
from trialstream_schemas.model.aggregators import TimeSeriesAggregator
from trialstream_schemas.wire.codec import encode
from trialstream_schemas.wire.events import (
    ArgumentsLogged,
    Heartbeat,
    LogCreated,
    MetricsLogged,
    TagsAdded,
    TrialCreated,
)
from trialstream_schemas.wire.limits import MAX_RECORD_BYTES
from trialstream_schemas.wire.schemas import SCHEMAS, fingerprint
from writers import connected, load

STRANGER = "by-hand"
# Python with all imports takes 120 MB. A megabyte of empty arrays becomes 64 MB, and a fetch of a partition holds three
# of them.
RSS_BYTES = 700 * 2**20


def varint(n):
    """Encode a zigzag varint."""
    n = (n << 1) ^ (n >> 63)
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


SEQS = itertools.count(1)


def envelope(trial):
    """Return the common fields of the events of one writer; each call uses the next number."""
    return {"trial": trial, "writer": STRANGER, "seq": next(SEQS), "time": 1_700_000_000_000_000}


def request(trial):
    """Return the common fields of a request."""
    return {**envelope(trial), "seq": 0, "request": f"{next(SEQS)}\0" * 10_000}


def frame(trial, **changes):
    """Return a frame of two rows."""
    rows = {"times": [0, 9], "columns": [[0.5, 1.5]], "steps": [1, 2]}
    return MetricsLogged(
        **envelope(trial), aggregator=TimeSeriesAggregator.lazy(), names=["loss"], **{**rows, **changes}
    )


def with_value(trial, body):
    """Encode an event that has one value with this body."""
    data = encode(TagsAdded(**envelope(trial), values={"k": None}))
    return data[: data.rindex(b"\x02k\x00") + 2] + body + b"\0"


def stranger_to(config, partition, start):
    """Return an address that no trial has, which belongs in a partition and begins with `start`."""
    names = (f"{start}{i}" for i in range(1000))
    return next(each for each in names if partition_of(each.encode(), config.partitions) == partition) + "_0"


def wrong(config, trial, home):
    """Return simple invalid records, each with a part of the expected reason."""
    whole = encode(frame(trial))
    return [
        ("not in Avro single-object encoding", b""),
        ("not in Avro single-object encoding", b"\0garbage" * 100),
        ("no schema with fingerprint", b"\xc3\x01" + b"\x33" * 8 + b"body"),
        ("the body does not fit its schema", whole[:-6]),
        ("2 bytes are left over", whole + b"\0\0"),
        ("there is no trial", encode(frame(stranger_to(config, home, "f" * 30)))),
        ("one per row", encode(frame(trial, steps=[1]))),
        ("belongs in", encode(frame(stranger_to(config, (home + 1) % config.partitions, "e" * 30)))),
        ("belongs in", encode(LogCreated(time=1, log="other", partitions=1))),
    ]


def absurd(config, trial, home):
    """Return extreme records that fit their schema or begin as if they did, each with a part of the expected reason."""
    whole = encode(frame(trial))
    before_columns = whole[: whole.rindex(varint(1) + varint(2))]
    million = 1_000_000
    return [
        ("has no index -6", with_value(trial, varint(-6) + varint(7))),
        ("has no index 9223372036854775807", with_value(trial, varint(2**63 - 1))),
        ("more than 197632 values", with_value(trial, varint(6) + varint(million) + bytes(million) + b"\0")),
        ("items where 201 bytes follow", with_value(trial, varint(7) + varint(2**62) + b"\0\0" * 100)),
        ("items where", with_value(trial, varint(6) + varint(-(2**62)) + varint(5) + bytes(100))),
        (
            "columns: expected 1 of length 2, got 1000000 of lengths 0 to 0",
            before_columns + varint(million) + bytes(million) + b"\0",
        ),
        ("items where 100 bytes follow", before_columns + varint(2**62) + b"\0" * 100),
        ("a text of 1099511627776 bytes", with_value(trial, varint(4) + varint(2**40) + b"x")),
        ("maximum recursion depth", with_value(trial, b"\x0c\x02" * 300_000 + bytes(300_001))),
        ("an integer of more than 64 bits", with_value(trial, varint(2) + b"\xff" * 20)),
        (
            "trial: expected an address of at most",
            encode(Heartbeat(**request(stranger_to(config, home, "x" * 900_000)))),
        ),
        ("trial: expected an address of at most", encode(creation(stranger_to(config, home, "Z" * 500_000)))),
        ("request: expected 1 to 64 characters", encode(Heartbeat(**request(stranger_to(config, home, "x" * 9))))),
        ("hash of the trial: expected", encode(replace(creation(stranger_to(config, home, "Z" * 50)), request="r"))),
        ("1048577 bytes, and an event can have", bytes(MAX_RECORD_BYTES + 1)),
        ("gzip does not unpack to at most 16777216 bytes", bytes(30 * 2**20)),
    ]


def creation(address):
    """Return the creation of a trial."""
    return TrialCreated(**request(address), name="n", parameters={}, auto_increment=False)


async def send_compressed(config, values, partition):
    """Write records of any size in a compressed batch; return their offsets."""
    producer = AIOKafkaProducer(
        **config.kafka_client(), compression_type="gzip", max_request_size=2**28, max_batch_size=2**28
    )
    await producer.start()
    try:
        return [
            (await producer.send_and_wait(config.trials_topic, each, partition=partition)).offset for each in values
        ]
    finally:
        await producer.stop()


async def test_poison_of_each_kind_is_one_dead_letter_and_all_else_is_folded(config, consumer):
    """In every partition, poison between valid events becomes one dead letter each, and memory stays bounded."""
    service = consumer(config)
    expected = {}
    with peak_memory(service.pid) as peak:
        async with load(config, writers=2) as running:
            trial = running.trials[0]
            home = partition_of(trial.hash.encode(), config.partitions)
            for partition in range(config.partitions):
                await running.grow(50)
                # An event of this trial in another partition is poison too.
                kinds = wrong(config, trial.uid, home)
                if partition == home:
                    kinds += absurd(config, trial.uid, home)
                offsets = await send_compressed(config, [value for _, value in kinds], partition)
                for offset, (reason, _) in zip(offsets, kinds, strict=True):
                    expected[partition, offset] = reason if partition == home else ""
            await running.grow(50)
    figures = await check(config, running.journals, strangers=[STRANGER])
    with MongoClient(config.mongo) as client:
        letters = list(client[config.database].dead_letters.find())
    found = {(each["partition"], each["offset"]): each for each in letters}

    for place, reason in expected.items():
        assert reason in found[place]["reason"]
        assert len(found[place]["reason"]) <= 2000
        assert len(found[place]["value"]) <= MAX_RECORD_BYTES
    assert figures.dead == len(expected)
    assert len(log_entries(service, "dead_letter")) == figures.dead
    assert service.running
    assert peak.bytes < RSS_BYTES


async def test_any_flipped_bit_is_folded_or_is_a_dead_letter(config, consumer):
    """Bits flipped before Kafka computed its checksum give an event with another meaning, or a dead letter."""
    service = consumer(config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
    events = [encode(frame(trial.uid)), encode(ArgumentsLogged(**envelope(trial.uid), values={"a": [1, "b", None]}))]
    flipped = []
    for data in events:
        for bit in range(8 * len(data)):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            flipped.append(bytes(damaged))
    random.Random(7).shuffle(flipped)
    [partition] = [each.partition for each in await read_log(config) if isinstance(each.event, TrialCreated)]
    await send(config, flipped, partition=partition)
    await caught_up(config)
    log, view = await read_log(config), read_view(config)
    check_documents(log, view)

    assert len(flipped) / 4 < len(view.dead) < len(flipped)
    assert service.running


async def test_an_unknown_fingerprint_reads_the_schema_topic_to_its_end_first(config, consumer):
    """The event behind any number of schemas, published at the same moment, is folded, and is no dead letter."""
    consumer(config)
    newer = next(json.loads(each) for each in SCHEMAS.values() if json.loads(each)["name"].endswith("Heartbeat"))
    newer["fields"].append({"name": "host", "type": "string", "default": ""})
    key = fingerprint(newer)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
    [partition] = [each.partition for each in await read_log(config) if isinstance(each.event, TrialCreated)]
    junk = [b"no schema"] * 3000
    event = b"\xc3\x01" + key + encode(Heartbeat(**envelope(trial.uid)))[10:] + b"\x08host"
    await send(config, junk, topic=config.schemas_topic, key=b"k")
    await send(config, [json.dumps(newer).encode()], topic=config.schemas_topic, key=key)
    unknown, _ = await send(config, [b"\xc3\x01" + b"\x44" * 8, event], partition=partition)
    await caught_up(config)
    log, view = await read_log(config), read_view(config)
    check_documents(log, view)

    assert view.dead == [(config.trials_topic, partition, unknown)]
    assert any(isinstance(each.event, Heartbeat) for each in log)


@pytest.mark.slow
async def test_a_batch_that_takes_too_long_to_write_is_halved(config, consumer, stack):
    """Without halving, the batch would be tried for ever; over a slow line to MongoDB the partition still advances."""
    with mongo_through_proxy(config, stack) as (through, proxy):
        service = consumer(through)
        await caught_up(config)
        await run_sync(service.stop)
        await send(config, [b"x" * 800] * 3500)  # while the consumer is stopped, so that it finds all of them at once
        proxy.rate = 250_000
        await run_sync(service.start)
        await caught_up(config, 120)
        proxy.heal()
        await run_sync(service.stop)

    sizes = [line["events"] for line in log_entries(service, "write_failed")]

    assert sizes
    assert len(read_view(config).dead) == 3500
    check_documents(await read_log(config), read_view(config))


UNBOUNDED = """
import sys
from trialstream_consumer.fold import document_size
from trialstream_console.cli import main
document_size.MAX_DOCUMENT_BYTES = 10**9
sys.argv = ["trialstream", "consume"]
main()
"""


class Unbounded(ConsumerService):
    """A consumer whose fold lets documents exceed MongoDB's limit, as if one of our limits were wrong."""

    def _command(self):
        return [sys.executable, "-c", UNBOUNDED]


async def test_an_event_whose_document_mongodb_cannot_hold_is_one_dead_letter(config, tmp_path):
    """The batch is halved until the failing event is alone, and the rest is folded."""
    service = Unbounded(tmp_path, config)
    await run_sync(service.start)
    try:
        async with connected(config) as protocol:
            trial = await protocol.new_trial(ts.Trial(name="a"))
            other = await protocol.new_trial(ts.Trial(name="b"))
            for i in range(45):
                await protocol.log_trial_arguments(trial, **{f"a{i}": "x" * 400_000})
                await protocol.add_trial_tags(other, i=i)
            await protocol.add_trial_tags(trial, behind=True)
            await protocol.commit("folded", timeout=60)
            [again] = await protocol.fetch_trials({"uid": trial.uid})
            [beside] = await protocol.fetch_trials({"uid": other.uid})
    finally:
        await run_sync(service.stop)
    dead = read_view(config).dead

    assert 3 <= len(dead) <= 6
    assert len(again.parameters) == 45 - len(dead)
    assert again.tags == {"behind": True}
    assert beside.tags == {"i": 44}
