"""Streams of the real log: filters, positions, restarts of the broker, hostile records, many readers."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from array import array
from contextlib import AsyncExitStack

import anyio
import pytest
import trialstream as ts
import trialstream.sync
from anyio.to_thread import run_sync
from raw_batches import send_batch, zstd_bomb
from service_load import connected
from service_support import admin, cli, records_of, send
from test_kafka_transactions import Place, transactions
from trialstream.event_log import receiving
from trialstream.event_log.topics import partition_of
from trialstream_console.local.consumer import environment
from trialstream_schemas.model.aggregators import timeseries_aggregator
from trialstream_schemas.wire.codec import encode
from trialstream_schemas.wire.events import MetricsLogged


def logging(config):
    """Return a protocol that only logs: no consumer is needed."""
    return ts.connect(kafka=config.kafka, mongo="", prefix=config.prefix, partitions=config.partitions)


async def read(config, **given):
    """Return the events that a stream finds in a log now, and how many records it skipped."""
    async with ts.stream(config=config, follow=False, **given) as stream:
        return [item async for item in stream], stream.skipped


def places(items):
    """Return where events are in the log."""
    return [(each.topic, each.partition, each.offset) for each in items]


def values(items, name="loss"):
    """Return the values of a metric, in the order of the events."""
    return [x for each in items if isinstance(each.event, ts.Rows) for x in each.event.values[name].tolist()]


async def test_a_log_of_every_kind_of_event(folded):
    """All of it, by filters, in parts by stored positions: what the documents were folded from, each event once."""
    config, _ = folded
    found, skipped = await read(config)
    kinds = collections.Counter(each.kind for each in found)
    async with connected(config) as protocol:
        trials = await protocol.fetch_trials()
    dead = [each for each in await records_of(config, config.trials_topic) if len(each.value) < 10]

    assert len(dead) == skipped == 3
    assert kinds["TrialCreated"] == len(trials)
    assert {each.trial for each in found} - {None} == {each.uid for each in trials}
    assert [each.timestamp for each in found] == sorted(each.timestamp for each in found)
    for trial in trials[:4]:
        ours, _ = await read(config, trial=trial)
        assert places(ours) == places(each for each in found if each.trial == trial.uid)
    [project] = {each.project for each in found} - {None}
    ours, _ = await read(config, project=project, kinds=["TrialAttached", ts.events.ProjectCreated])
    assert [each.kind for each in ours] == ["ProjectCreated", "TrialAttached", "TrialAttached"]

    parts, position = [], ts.BEGIN
    while True:
        async with ts.stream(config=config, since=position, follow=False) as stream:
            part = [item for _ in range(len(found) // 4) if (item := await stream.next_event()) is not None]
            position = str(stream.position)
        if not part:
            break
        parts += part
    assert sorted(places(parts)) == sorted(places(found))
    time = found[len(found) // 2].appended
    before, _ = await read(config, until=time)
    after, _ = await read(config, since=time.isoformat())
    assert places([*before, *after]) == places(found)

    lines = cli(config, "tail", "--since", "begin", "--json").stdout.splitlines()
    assert sorted(json.loads(each)["offset"] for each in lines) == sorted(each.offset for each in found)
    last = cli(config, "tail", "-n", "3", "--until", json.loads(lines[-1])["position"])
    assert [each.split("  ")[2] for each in last.stdout.splitlines()] == [each.kind for each in found[-3:]]
    assert "left out 3 records" in last.stderr
    await run_sync(interrupted_tail, config, found[-1].kind)


def interrupted_tail(config, kind):
    """Follow the log by the command, and end it by Ctrl-C once it has shown the last event."""
    command = [sys.executable, "-m", "trialstream_console.cli", "tail", "-f", "-n", "1"]
    with subprocess.Popen(
        command, env={**os.environ, **environment(config)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert kind in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=30)
    assert (running.returncode, "Traceback" in errors) == (128 + signal.SIGINT, False)


async def test_a_log_of_many_fetches(config, monkeypatch):
    """All of it comes, in order, while it is fetched ahead; a position in the middle of a fetch goes on there.

    The responses are received in place: this fails if aiokafka no longer reads them as it did.
    """
    received, resized = [], receiving._resized
    monkeypatch.setattr(receiving, "_resized", lambda memory, size: received.append(size) or resized(memory, size))
    async with logging(config) as protocol:
        trials = [await protocol.new_trial(ts.Trial(name=name)) for name in "ab"]
        await protocol.commit()
    partitions = [partition_of(each.hash.encode(), config.partitions) for each in trials]
    columns = [array("d", range(256))] * 256
    for trial, partition in zip(trials, partitions, strict=True):
        frames = [
            MetricsLogged(
                trial=trial.uid, writer="w", seq=seq, time=1_700_000_000_000_000, aggregator=timeseries_aggregator,
                names=[f"m{n}" for n in range(256)], steps=range(seq, seq + 256), times=range(256), columns=columns,
            )
            for seq in range(1, 13)
        ]  # fmt: skip
        await send(config, [encode(each) for each in frames], partition=partition)  # half a MiB each
    async with ts.stream(config=config, kinds=["Rows"], follow=False) as stream:
        found = [await anext(stream) for _ in range(7)]
        rest, _ = await read(config, kinds=["Rows"], since=stream.position)
        found += [item async for item in stream]
    firsts = collections.defaultdict(list)
    for each in found:
        firsts[each.trial].append(int(each.event.steps[0]))

    assert [*firsts.values()] == [[*range(1, 13)]] * 2
    assert sorted(places(rest)) == sorted(places(found[7:]))
    assert sum(received) > 24 * 2**19


async def test_a_stream_follows_across_a_restart_of_the_broker(config, stack):
    """It waits while Kafka is away, and goes on; a cancelled wait, and many readers beside it, lose nothing."""
    async with AsyncExitStack() as opened:
        protocol = await opened.enter_async_context(logging(config))
        streams = [await opened.enter_async_context(ts.stream(config=config)) for _ in range(5)]
        trial = await protocol.new_trial(ts.Trial(name="t"))
        await protocol.log_trial_metrics(trial, step=0, loss=0.0)
        await protocol.commit()
        for stream in streams:
            assert [(await anext(stream)).kind, (await anext(stream)).kind] == ["TrialCreated", "Rows"]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(streams[0]), 0.1)
        await run_sync(stack.kafka.kill)
        await protocol.log_trial_metrics(trial, step=1, loss=1.0)
        with anyio.move_on_after(0.5):
            await anext(streams[0])
        await run_sync(stack.kafka.start)
        await protocol.commit(timeout=60)
        with anyio.fail_after(60):
            found = [await anext(stream) for stream in streams]

        assert [values([each]) for each in found] == [[1.0]] * len(streams)
        assert len({str(stream.position) for stream in streams}) == 1
        async with admin(config) as client:
            groups = [name for name, *_ in await client.list_consumer_groups()]
        assert not [name for name in groups if name.startswith(config.prefix)]


async def test_hostile_records_end_no_stream(config):
    """Bytes that are no events, bombs, events of no trial and repetitions are left out; the first three are counted."""
    async with logging(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        await protocol.log_trial_metrics(trial, step=0, loss=0.0)
        await protocol.commit()
        partition = partition_of(trial.hash.encode(), config.partitions)
        await send_batch(config, partition, await run_sync(zstd_bomb, 2**26))
        rows = [each.value for each in await records_of(config, config.trials_topic) if each.key][-1]
        unknown = b"\xc3\x01" + bytes(8) + rows[10:]
        await send(config, [b"garbage", b"", unknown, rows[:-1], rows], partition=partition)
        await protocol.log_trial_metrics(trial, step=1, loss=1.0)
        await protocol.commit()
        found, skipped = await read(config)

        assert values(found) == [0.0, 1.0]
        assert skipped == 4  # the one that is cut off has the head of a repetition
        assert "~" in trial.uid
        assert places((await read(config, trial=trial))[0]) == places(found)

        uid = found[0].trial
        ours, _ = await read(config, trial=uid, rows="one")
        assert [each.event.values for each in ours[1:]] == [{"loss": 0.0}, {"loss": 1.0}]


async def test_transactions_of_other_programs(config):
    """Events come once they are committed, also those that were open when the stream began; aborted ones never."""
    async with logging(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        await protocol.commit()
        [created], _ = await read(config)
        place = Place(config, dataclasses.replace(trial, request=None), created.partition)
        async with transactions(config) as producer:
            await place.transact(producer, 1, abort=True, a=1)
            await producer.begin_transaction()
            await place.send(producer, 2, b=2)
            with pytest.raises(ts.KafkaUnavailable, match="a transaction of another program is open"):
                await read(config, timeout=0.3)
            async with ts.stream(config=config, since=ts.NOW) as stream:
                await producer.commit_transaction()
                with anyio.fail_after(20):
                    item = await anext(stream)
        assert item.event.values == {"b": 2}
        assert ([each.kind for each in (await read(config))[0]], stream.skipped) == (["TrialCreated", "TagsAdded"], 0)


async def test_a_stream_in_plain_code(config):
    """`trialstream.sync.stream` returns the same events and positions."""
    async with logging(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        for step in range(3):
            await protocol.log_trial_metrics(trial, step=step, loss=step)
        await protocol.commit()
    found, _ = await read(config)

    def plain():
        with trialstream.sync.stream(config=config, follow=False, rows="one") as stream:
            rows = [(each.event.step, stream.position) for each in stream if isinstance(each.event, ts.Row)]
        rest = [
            each.event.step
            for each in trialstream.sync.stream(config=config, follow=False, since=rows[0][1], rows="one")
        ]
        return [step for step, _ in rows], rest

    assert values(found) == [0.0, 1.0, 2.0]
    assert await run_sync(plain) == ([0, 1, 2], [1, 2])


async def test_what_is_no_log(config):
    """A stream of no log, of another log's position, and of a broker that is away are errors at the opening."""
    with pytest.raises(ts.ItemNotFound, match="there is no log to stream"):
        await read(config)
    async with logging(config) as protocol:
        await protocol.new_trial(ts.Trial(name="t"))
        await protocol.commit()
    other = ts.Position("another", 0, (0, 0, 0, 0))
    with pytest.raises(ts.LogMismatch, match="since: the position belongs to log another"):
        await read(config, since=other)
    with pytest.raises(ts.KafkaUnavailable):
        await read(dataclasses.replace(config, kafka="127.0.0.1:1"))


async def test_a_replay(config):
    """Each event is handled once, in order, by a plain or an async function."""
    async with logging(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        for step in range(3):
            await protocol.log_trial_metrics(trial, step=step, loss=step)
            await protocol.commit()
    found = []

    async def handle(item):
        found.append(item)

    assert await ts.replay(ts.stream(config=config, follow=False), handle, speed=1000) == 4
    assert await ts.replay(ts.stream(config=config, follow=False), found.append, speed=None) == 4
    assert values(found[:4]) == values(found[4:]) == [0.0, 1.0, 2.0]


async def test_a_replay_to_another_prefix(folded, tmp_path):
    """A copy holds the same events, whether it comes from the log or from an archive; repeated, it changes nothing."""
    config, _ = folded
    other = dataclasses.replace(config, prefix=f"{config.prefix}-copy")
    found, _ = await read(config)
    first = cli(config, "replay", "--to", other.prefix)
    assert first.returncode == 0, first.stderr
    assert re.match(r"replayed \d+ records to", first.stdout)
    copied, skipped = await read(other)
    assert collections.Counter(map(contents, copied)) == collections.Counter(map(contents, found))
    assert skipped == 3

    cli(config, "export", str(tmp_path / "log.avro"))
    again = cli(config, "replay", str(tmp_path / "log.avro"), "--to", other.prefix, "--speed", "1000")
    assert again.returncode == 0, again.stderr
    assert len((await read(other))[0]) == len(found)
    refused = cli(config, "replay", "--to", config.prefix)
    assert "to: expected another prefix" in refused.stderr


def contents(item):
    """Return what can be compared of an event in another log."""
    event = item.event
    return item.trial, item.project, str(event.values) if isinstance(event, ts.Rows) else repr(event)
