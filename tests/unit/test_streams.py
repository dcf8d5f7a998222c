"""Streams of logs without servers, positions, and the arguments of a stream."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import trialstream as ts
import trialstream.sync
from streamed import spread, streamed
from trialstream.event_log.topics import Route
from trialstream.streaming import decoding, filters
from trialstream.streaming.stream import Stream
from trialstream.streaming.sync_stream import SyncStream
from trialstream_console.cli.event_text import event_record, event_text
from trialstream_consumer.archive import ArchiveLog
from trialstream_consumer.archive.file import new_archive
from trialstream_consumer.archived import archive
from trialstream_schemas.model.aggregators import timeseries_aggregator
from trialstream_schemas.wire.codec import SchemaStore, encode
from trialstream_schemas.wire.events import LogCreated, MetricsLogged, TagsAdded, TrialCreated
from trialstream_schemas.wire.heads import KINDS, PREFIX_BYTES, read_head
from trialstream_schemas.wire.schemas import SCHEMAS

HASH = "a" * 32
START = 1_700_000_000_000_000


@pytest.fixture
def log(request):
    """A log in memory with two trials, one of which enters a project later: its URL and the trials."""
    url = f"memory:{request.node.name}"
    with trialstream.sync.connect(url) as protocol:
        project = protocol.new_project(ts.Project(name="p"))
        inside = protocol.new_trial(ts.Trial(name="inside", project_id="p"))
        later = protocol.new_trial(ts.Trial(name="later"))
        for step in range(3):
            protocol.log_trial_metrics(inside, step=step, loss=step / 2, nan=float("nan"))
            protocol.log_trial_metrics(later, loss=step)
        protocol.add_project_trial(project, later)
        protocol.set_trial_status(later, ts.Status.Running)
        protocol.commit()
    return url, inside, later


def kinds(url, **given):
    """Return the kinds of events and the names of their trials."""
    return [(each.kind, each.trial) for each in trialstream.sync.stream(url=url, follow=False, **given)]


def test_filters(log):
    """A trial is in a project from its creation, or from its attachment, on."""
    url, inside, later = log

    assert kinds(url, project="p") == [
        ("ProjectCreated", None),
        ("TrialCreated", inside.uid),
        ("TrialAttached", later.uid),
        ("StatusSet", later.uid),
        ("Rows", inside.uid),
    ]
    assert kinds(url, trial=later, kinds=[ts.Rows, "StatusSet"]) == [("Rows", later.uid), ("StatusSet", later.uid)]
    assert kinds(url, group="none") == []


def test_rows(log):
    """Rows are columns, or one after the other."""
    url, inside, later = log
    [found] = trialstream.sync.stream(url=url, follow=False, trial=inside, kinds=["Rows"])
    rows = found.event

    assert (len(rows), rows.names, rows.aggregator) == (3, ("loss", "nan"), timeseries_aggregator)
    assert (rows.steps.tolist(), rows.steps.dtype) == ([0, 1, 2], np.int64)
    assert (rows.values["loss"].tolist(), np.isnan(rows.values["nan"]).all()) == ([0.0, 0.5, 1.0], True)
    assert rows.times.dtype == "datetime64[us]"
    [found] = trialstream.sync.stream(url=url, follow=False, trial=later, kinds=["Rows"])
    assert found.event.steps.tolist() == [None, None, None]
    ones = list(trialstream.sync.stream(url=url, follow=False, trial=inside, kinds=["Rows"], rows="one"))
    assert [(each.event.step, each.event.values["loss"]) for each in ones] == [(0, 0.0), (1, 0.5), (2, 1.0)]
    assert [np.datetime64(each.event.time.replace(tzinfo=None)) for each in ones] == rows.times.tolist()
    assert "3 rows, step 0 to 2: loss 1, nan nan" in event_text(ones[0]._replace(event=rows))
    assert event_record(ones[1])["event"]["values"] == {"loss": 0.5, "nan": {"%float": "nan"}}


def test_positions_in_the_middle_of_rows(log):
    """A stream ends and begins at any position, also if it returned all records that were fetched."""
    url, *_ = log
    whole = list(trialstream.sync.stream(url=url, follow=False, rows="one"))
    for count in range(1, len(whole)):
        with trialstream.sync.stream(url=url, follow=False, rows="one") as stream:
            found = [next(stream) for _ in range(count)]
            position = stream.position
        before = list(trialstream.sync.stream(url=url, follow=False, rows="one", until=position))
        after = list(trialstream.sync.stream(url=url, follow=False, rows="one", since=position))

        assert str(found) == str(whole[:count])
        assert sorted(map(str, [*before, *after])) == sorted(map(str, whole))
        assert len(before) == count


def test_records_that_are_left_out_are_counted_once(monkeypatch):
    """An interrupt while events are made counts none of them."""
    monkeypatch.setattr(decoding, "_MADE_EVENTS", 3)
    head = {"trial": f"{HASH}_0", "writer": "w", "time": START}
    created = TrialCreated(
        trial=f"{HASH}~r", writer="w", request="r", time=START, name="t", parameters={}, auto_increment=False
    )
    tags = [encode(TagsAdded(**head, seq=i + 1, values={"a": "x"})) for i in range(9)]
    records = spread([created], 1, encode)
    records[Route("trials", 0)] += [(START, each[:-1] if i % 3 == 1 else each) for i, each in enumerate(tags)]
    stream = SyncStream(streamed(records, 1, (100,), since=ts.BEGIN))
    found = [next(stream)]
    for _ in range(2):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(decoding, "made", interrupted)
            while True:
                found.append(next(stream))
    found += [*stream]

    assert [each.offset for each in found] == [0, 1, 3, 4, 6, 7, 9]
    assert stream.skipped == 3


async def test_a_trial_is_read_from_its_creation_on(request, monkeypatch):
    """Events before it cannot be about the trial, unless it is a later revision: earlier ones decide on its number."""
    monkeypatch.setattr(filters, "_CLOCK_DIFFERENCE", timedelta(0))
    url = f"memory:{request.node.name}"
    async with ts.connect(url) as protocol:
        for name in ("a", "b", "b"):
            trial = await protocol.new_trial(ts.Trial(name=name), auto_increment=True)
            await protocol.set_trial_status(trial, ts.Status.Running)
            await protocol.commit()
            await asyncio.sleep(0.002)
        firsts = []
        for trial in sorted(await protocol.fetch_trials(), key=lambda each: each.uid):
            async with ts.stream(url=url, trial=trial, follow=False) as stream:
                [partition] = stream._partitions.values()
                firsts.append((trial.name, trial.revision, partition.following))
                found = [item async for item in stream]
                end = stream.position
            assert found == [item async for item in ts.stream(url=url, trial=trial.uid, follow=False)]
            assert [each.kind for each in found] == ["TrialCreated", "StatusSet"]
            assert [item async for item in ts.stream(url=url, trial=trial, since=str(end), follow=False)] == []

    assert sorted(firsts) == [("a", 0, 0), ("b", 0, 2), ("b", 1, 0)]


async def test_a_stream_waits_for_events(request):
    """It follows a log in memory; a wait that is cancelled loses nothing, and `NOW` leaves out what was before."""
    url = f"memory:{request.node.name}"
    async with ts.connect(url) as protocol, ts.stream(url=url) as stream:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        async with ts.stream(url=url, since=ts.NOW) as late:
            for waiting in (stream, late):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        while True:
                            await anext(waiting)
            await protocol.set_trial_status(trial, ts.Status.Running)

            assert (await anext(stream)).kind == (await anext(late)).kind == "StatusSet"
            assert str(stream.position) == str(late.position)
            assert not stream.is_behind
    with pytest.raises(ts.ProtocolClosed):
        async with stream:
            pass


def test_an_interrupt_ends_no_loop_for_good(log, monkeypatch):
    """A loop that is left while events are made goes on with them, also in the middle of rows."""
    url, *_ = log
    monkeypatch.setattr(decoding, "_MADE_EVENTS", 1)
    for rows, count in (("together", 7), ("one", 11)):
        found = []
        with trialstream.sync.stream(url=url, follow=False, rows=rows) as stream:
            found.append(next(stream))
            with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
                patched.setattr(decoding, "made", interrupted)
                next(stream)
            found += [*stream]

        assert len(found) == count


def test_large_events_are_decoded_one_by_one():
    """Those that are decoded at once have 1 MiB of records in all, or are one."""
    store = SchemaStore()
    sizes = [700_000, 10, 700_000, 10, 10, 1_000_000]
    head = {"trial": f"{HASH}_0", "writer": "w", "time": START}
    events = [TagsAdded(**head, seq=i + 1, values={"a": "x" * each}) for i, each in enumerate(sizes)]
    places = [(f"{HASH}_0", None, None)] * len(events)
    numbers, zeros = range(len(events)), [0] * len(events)
    waiting = decoding.Events(
        [Route("trials", 0)] * len(events), numbers, numbers, places, ["w"] * len(events), [*map(encode, events)], zeros
    )

    found, counts, stop = [], [], 0
    while stop < len(events):
        made, stop = waiting.next_items(stop, partial(decoding.decode, store))
        found += [each.event for each in made]
        counts.append(len(made))
    assert counts == [2, 3, 1]
    assert found == events


def interrupted(_fields):
    """Raise what a signal raises."""
    raise KeyboardInterrupt


def test_times(log):
    """A stream begins at a time, inclusive, and ends at one, exclusive."""
    url, *_ = log
    found = list(trialstream.sync.stream(url=url, follow=False))
    middle = found[3].appended

    before = list(trialstream.sync.stream(url=url, follow=False, until=middle))
    after = list(trialstream.sync.stream(url=url, follow=False, since=middle.isoformat()))
    assert [*before, *after] == found or len(before) + len(after) == len(found)
    assert all(each.appended < middle for each in before)
    assert kinds(url, since=datetime.now(UTC) + timedelta(hours=1)) == []


def test_spools_are_streamed(tmp_path):
    """The events of offline runs are a log, too."""
    with trialstream.sync.connect(offline=True, spool_dir=tmp_path) as protocol:
        trial = protocol.new_trial(ts.Trial(name="t"), auto_increment=True)
        protocol.log_trial_metrics(trial, loss=1.0)
        protocol.commit("spooled")

        assert [kind for kind, _ in kinds(f"spool:{tmp_path}")] == ["TrialCreated", "Rows"]


@pytest.fixture
def file(tmp_path) -> Path:
    """An archive of a log with two partitions."""
    created = {"writer": "w", "request": "r", "name": "t", "parameters": {}, "auto_increment": False}
    events = [
        ("registry", 0, LogCreated(time=START, log="l", partitions=2)),
        *(("trials", n, TrialCreated(trial=f"{x * 32}~r", time=START, **created)) for n, x in enumerate("ac")),
    ]
    path = tmp_path / "log.avro"
    with new_archive(path, SCHEMAS, {}) as write:
        for offset, (topic, partition, event) in enumerate(events):
            place = {"topic": topic, "partition": partition, "offset": offset, "timestamp": 3 - offset}
            write({**place, "key": None, "value": encode(event)})
    return path


async def test_archives_are_streamed(file):
    """An archive is a log, in the order of its append times."""
    protocol = archive(str(file), {"read_only": True}, 1.0)
    stream = ts.stream(url="memory:any", follow=False)
    stream = Stream(protocol.log_source(), stream._filter, ts.BEGIN, None, follow=False, rows="together", timeout=1.0)
    found = [each async for each in stream]

    assert [(each.partition, each.offset, each.timestamp) for each in found] == [(1, 2, 1), (0, 1, 2)]
    assert isinstance(protocol.log_source(), ArchiveLog)
    async with protocol:
        assert sorted(each.name for each in await protocol.fetch_trials()) == ["t", "t"]


def test_heads():
    """A head is what decoding the event gives, for every kind and for times and requests of any form."""
    frame = MetricsLogged(
        trial=f"{HASH}_0", writer="w", time=START, seq=3, aggregator=timeseries_aggregator, names=["a"], times=[0],
        columns=[[1.0]],
    )  # fmt: skip
    for changes in (
        {},
        {"time": 0},
        {"time": -5},
        {"if_version": 7},
        {"request": "r"},
        {"request": "é", "if_version": 1},
    ):
        event = dataclasses.replace(frame, **changes)
        data = encode(event)

        assert KINDS[data[:PREFIX_BYTES]] is MetricsLogged
        assert read_head(data) == (event.trial, event.writer, event.seq, event.request)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        pytest.param({"trial": "x"}, ts.InvalidValue, "trial: expected the uid of a trial", id="no uid"),
        pytest.param({"project": 3}, ts.InvalidType, "project: expected a Project or its uid, got 3", id="no project"),
        pytest.param({"kinds": ["X"]}, ts.InvalidValue, "kinds: expected some of TrialCreated", id="unknown kind"),
        pytest.param({"kinds": "Rows"}, ts.InvalidType, "kinds: expected several classes", id="one kind"),
        pytest.param({"since": "soon"}, ts.InvalidValue, "since: expected a time in ISO 8601", id="no time"),
        pytest.param({"since": 3}, ts.InvalidType, "since: expected BEGIN, NOW", id="a number"),
        pytest.param({"since": "{}"}, ts.InvalidValue, "position: expected the text of a position", id="no position"),
        pytest.param({"until": ts.BEGIN}, ts.InvalidValue, "until: expected NOW", id="ends at the beginning"),
        pytest.param({"rows": "two"}, ts.InvalidValue, "rows: expected 'together' or 'one'", id="rows"),
        pytest.param({"follow": 1}, ts.InvalidType, "follow: expected a bool", id="follow"),
        pytest.param({"timeout": -1}, ts.ConfigError, "timeout: expected 0 or more seconds", id="timeout"),
        pytest.param({"url": "memory:"}, ts.ConfigError, "with the name of a log", id="a log of its own"),
        pytest.param({"url": "nothing:"}, ts.ConfigError, "url: expected one of", id="unknown place"),
        pytest.param({"url": "memory:x", "kafka": "k:1"}, ts.ConfigError, "kafka: expected no value", id="a server"),
        pytest.param({"config": ts.Config(), "prefix": "x"}, ts.ConfigError, "config: expected no url", id="both"),
        pytest.param({"wrong": 1}, TypeError, "wrong", id="unknown setting"),
    ],
)
def test_invalid_arguments(given, error, message):
    """Each is an error at the call that names it."""
    with pytest.raises(error, match=message):
        ts.stream(**given)


def test_positions():
    """A position is a small text that is read back; other texts are refused."""
    position = ts.Position("log", 3, (0, 5, 2**62), {1: 7})

    assert str(position) == '{"log":"log","registry":3,"trials":[0,5,4611686018427387904],"rows":{"1":7}}'
    assert ts.Position.parse(str(position)) == position
    for text in ("", "[]", "null", '{"log":"x"}', str(position).replace("3", "-3"), str(position).replace("5", "true"),
                 str(position).replace('"1"', '"9"'), "[" * 100_000):  # fmt: skip
        with pytest.raises(ts.InvalidValue, match="expected the text of a position"):
            ts.Position.parse(text)


async def test_a_replay_keeps_the_pace(log):
    """Events come as far apart as they were appended, divided by the speed; the order stays."""
    url, *_ = log
    found = []
    began = time.monotonic()
    count = await ts.replay(ts.stream(url=url, follow=False), lambda item: found.append(item.offset), speed=1.0)
    first, *_, last = trialstream.sync.stream(url=url, follow=False)

    assert count == len(found) == 7
    assert time.monotonic() - began >= (last.timestamp - first.timestamp) / 1000
    for speed, error in ((0, ts.InvalidValue), (True, ts.InvalidType), (float("nan"), ts.InvalidValue)):
        with pytest.raises(error, match="speed: expected"):
            await ts.replay(ts.stream(url=url, follow=False), print, speed=speed)
    with pytest.raises(ts.InvalidType, match="handler: expected"):
        await ts.replay(ts.stream(url=url, follow=False), None)
