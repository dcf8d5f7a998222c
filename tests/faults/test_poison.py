"""Bytes that nobody should have written: one dead letter each, the partition goes on, memory stays bounded."""

from __future__ import annotations

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
from oracle import check, check_documents, look, read_log
from pymongo import MongoClient
from service_support import caught_up, send, told
from trialstream_consumer.local.consumer import ConsumerService
from trialstream_schemas.aggregators import TimeSeries
from trialstream_schemas.bounds import MAX_RECORD_BYTES
from trialstream_schemas.codec import SCHEMAS, encode, fingerprint
from trialstream_schemas.events import ArgumentsLogged, Heartbeat, MetricsLogged, TagsAdded, TrialCreated
from writers import connected, load

STRANGER = "by-hand"
# The interpreter with all that is imported takes 120 MB. A megabyte of empty arrays becomes 64 MB, and a fetch of a
# partition holds four of them.
RSS_BYTES = 700 * 2**20


def varint(n):
    """A zigzag varint."""
    n = (n << 1) ^ (n >> 63)
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


def envelope(trial):
    """What the events of one writer have in common."""
    return {"trial": trial, "writer": STRANGER, "seq": 1, "time": 1_700_000_000_000_000}


def frame(trial):
    """A frame of two rows."""
    return MetricsLogged(
        **envelope(trial),
        aggregator=TimeSeries.lazy(),
        names=["loss"],
        times=[0, 9],
        columns=[[0.5, 1.5]],
        steps=[1, 2],
    )


def with_value(trial, body):
    """An event that has one value with this body."""
    data = encode(TagsAdded(**envelope(trial), values={"k": None}))
    return data[: data.rindex(b"\x02k\x00") + 2] + body + b"\0"


def absurd(trial):
    """Bodies that fit their schema, or begin as if they did, and are far from any event: by what must be said of them."""
    whole = encode(frame(trial))
    columns = whole[: whole.rindex(varint(1) + varint(2))]  # what follows is the array of columns
    million = 1_000_000
    return {
        "has no index -6": with_value(trial, varint(-6) + varint(7)),
        "has no index 9223372036854775807": with_value(trial, varint(2**63 - 1)),
        "more than 98304 items": with_value(trial, varint(6) + varint(million) + bytes(million) + b"\0"),
        "more than 98304 item": with_value(trial, varint(7) + varint(2**62) + b"\0\0" * 100),
        "more than 98304 ite": with_value(trial, varint(6) + varint(-(2**62)) + varint(5) + bytes(100)),
        "columns have other lengths": columns + varint(million) + bytes(million) + b"\0",
        "EOFError": columns + varint(2**62) + b"\0" * 100,
        "a text or bytes of 1099511627776 bytes": with_value(trial, varint(4) + varint(2**40) + b"x"),
        "maximum recursion depth": with_value(trial, b"\x0c\x02" * 300_000 + b"\0" + bytes(300_000)),
        "nested deeper than 64 levels": with_value(trial, b"\x0c\x02" * 100 + b"\0" + bytes(100)),
        "an integer of more than 64 bits": with_value(trial, varint(2) + b"\xff" * 20),
        "there is no trial": encode(Heartbeat(**envelope("x" * 900_000))),
        "there is no trial '": encode(Heartbeat(**{**envelope("0" * 32 + "_0"), "seq": 0, "request": "\0" * 900_000})),
        "not the hash of a trial": encode(
            TrialCreated(
                **{**envelope("Z" * 500_000), "seq": 0, "request": "r" * 400_000},
                name="n",
                parameters={},
                auto_increment=False,
            )
        ),
        "has 16": encode(replace(frame(trial), writer="no writer")),
        "1048577 bytes, and an event can have": bytes(MAX_RECORD_BYTES + 1),
    }


def wrong(trial):
    """The kinds of the plain sort."""
    whole = encode(frame(trial))
    return {
        "not in Avro single-object encoding": b"",
        "not in Avro single-object": b"\0garbage" * 100,
        "no schema with fingerprint": b"\xc3\x01" + b"\x33" * 8 + b"body",
        "the body does not fit its schema": whole[:-6],
        "2 bytes are left over": whole + b"\0\0",
        "there is no trial 'f": encode(frame("f" * 32 + "_0")),
    }


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
    """In every partition, again and again, between the events of writers; and the consumer's memory stays bounded."""
    service = consumer(config)
    with peak_memory(service.pid) as peak:
        async with load(config, writers=2) as running:
            uid = running.trials[0].uid
            kinds = {**wrong(uid), **absurd(uid)}
            kinds.pop("has 16")
            expected = {}
            for partition in range(config.partitions):
                await running.grow(50)
                offsets = await send_compressed(config, kinds.values(), partition)
                expected |= {(partition, offset): reason for offset, reason in zip(offsets, kinds, strict=True)}
            offsets = await send_compressed(config, [bytes(30 * 2**20)], 0)
            expected[0, offsets[0]] = "31457280 bytes, and an event can have 1048576 at most"
            await running.grow(50)
    figures = await check(config, running.journals, strangers=[STRANGER])
    with MongoClient(config.mongo) as client:
        letters = list(client[config.database].dead_letters.find())
    found = {(each["partition"], each["offset"]): each for each in letters}

    assert found.keys() == expected.keys()
    for place, reason in expected.items():
        assert reason in found[place]["reason"]
        assert len(found[place]["reason"]) <= 2000
        assert len(found[place]["value"]) <= MAX_RECORD_BYTES
    assert (figures.lost, figures.dead) == (0, len(expected))
    assert len(told(service, "dead_letter")) == len(expected)
    assert service.running
    assert peak.bytes < RSS_BYTES


async def test_any_flipped_bit_is_folded_as_what_it_says_or_is_a_dead_letter(config, consumer):
    """Kafka's checksum finds what is damaged on the way; what was written so means something else, or nothing."""
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
    log, view = await read_log(config), look(config)
    check_documents(log, view)

    assert len(flipped) / 4 < len(view.dead) < len(flipped)
    assert service.running


async def test_an_unknown_fingerprint_reads_the_schema_topic_to_its_end_first(config, consumer):
    """However much was published before it, and in the same moment: the event behind it is no dead letter."""
    consumer(config)
    newer = next(json.loads(each) for each in SCHEMAS.values() if json.loads(each)["name"].endswith("Heartbeat"))
    newer["fields"].append({"name": "host", "type": "string", "default": ""})
    key = fingerprint(newer)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="a"))
    [partition] = [each.partition for each in await read_log(config) if isinstance(each.event, TrialCreated)]
    junk = [b"no schema"] * 3000
    event = b"\xc3\x01" + key + encode(Heartbeat(**envelope(trial.uid)))[10:] + b"\x08host"
    await send(config, [*junk, json.dumps(newer).encode()], topic=config.schemas_topic, key=b"k")
    await send(config, [b"\xc3\x01" + b"\x44" * 8, event], partition=partition)
    await caught_up(config)
    log, view = await read_log(config), look(config)
    check_documents(log, view)

    assert len(view.dead) == 1
    assert log[-1].event is not None or any(isinstance(each.event, Heartbeat) for each in log)


@pytest.mark.slow
async def test_a_batch_that_takes_too_long_to_write_is_halved(config, consumer, stack):
    """It would be tried for ever otherwise: over a slow line to MongoDB the partition gets on all the same."""
    with mongo_through_proxy(config, stack) as (through, proxy):
        service = consumer(through)
        await caught_up(config)
        proxy.rate = 250_000
        await send(config, [b"x" * 800] * 3500)
        await caught_up(config, 120)
        proxy.heal()
        await run_sync(service.stop)

    sizes = [line["events"] for line in told(service, "write_failed")]

    assert sizes
    assert len(look(config).dead) == 3500
    check_documents(await read_log(config), look(config))


UNBOUNDED = """
import sys
from trialstream_consumer import fold
from trialstream_consumer.cli import main
fold.MAX_DOCUMENT_BYTES = 10**9
sys.argv = ["trialstream", "consume"]
main()
"""


class Unbounded(ConsumerService):
    """A consumer whose fold lets documents grow past what MongoDB takes, as if a bound of ours were wrong."""

    def _command(self):
        return [sys.executable, "-c", UNBOUNDED]


async def test_an_event_whose_document_mongodb_cannot_hold_is_one_dead_letter(config, tmp_path):
    """The batch is halved down to it, and the rest is folded."""
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
    dead = look(config).dead

    assert 3 <= len(dead) <= 6
    assert len(again.parameters) == 45 - len(dead)
    assert again.tags == {"behind": True}
    assert beside.tags == {"i": 44}
