"""Streams of the real log: filters, positions, restarts of the broker, hostile records, many readers."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import uuid

import anyio
import pytest
import trialstream as ts
import trialstream.sync
from anyio.to_thread import run_sync
from raw_batches import send_batch, zstd_bomb
from service_load import connected
from service_support import records_of
from trialstream.event_log.topics import partition_of


def fresh(config):
    """Return the settings of a log that does not exist yet."""
    return dataclasses.replace(config, prefix=f"stream-{uuid.uuid4().hex[:12]}")


async def read(config, **given):
    """Return the events that a stream finds in a log now, and how many records it skipped."""
    async with ts.stream(config=config, follow=False, **given) as stream:
        return [item async for item in stream], stream.skipped


def places(items):
    """Return where events are in the log."""
    return [(each.topic, each.partition, each.offset) for each in items]


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
    for trial in trials:
        ours, _ = await read(config, trial=trial)
        assert places(ours) == [*places(each for each in found if each.trial == trial.uid)]
        rows = sum(len(each.event) for each in ours if isinstance(each.event, ts.Rows))
        assert rows <= sum(len(each) for each in (await histories(config, trial)).values())
    [project] = {each.project for each in found} - {None}
    ours, _ = await read(config, project=project, kinds=["TrialAttached", ts.events.ProjectCreated])
    assert [each.kind for each in ours] == ["ProjectCreated", "TrialAttached", "TrialAttached"]

    parts, position = [], ts.BEGIN
    while True:
        async with ts.stream(config=config, since=position, follow=False) as stream:
            part = [item for _ in range(97) if (item := await stream.next_event()) is not None]
            position = str(stream.position)
        if not part:
            break
        parts += part
    assert sorted(places(parts)) == sorted(places(found))


async def histories(config, trial):
    """Return the histories of a trial."""
    async with connected(config) as protocol:
        return await protocol.fetch_metrics(trial)
