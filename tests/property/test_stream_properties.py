"""Streams: what they return is what the fold takes, wherever they are left and resumed."""

from __future__ import annotations

import asyncio
from unittest import mock

import trialstream as ts
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import HASHES, TRIAL, logs
from streamed import spread, streamed, taken
from trialstream.streaming import decoding
from trialstream_schemas.model.aggregators import timeseries_aggregator
from trialstream_schemas.model.identity import group_uid
from trialstream_schemas.wire import events as e
from trialstream_schemas.wire.codec import encode

CONDITIONS = [
    {},
    {"project": "p"},
    {"group": "g"},
    {"group": group_uid("g", "p")},
    {"project": "p", "group": "g"},
    {"trial": TRIAL},
    {"trial": HASHES[0]},
    {"trial": f"{HASHES[0]}_1", "project": "p"},
]
# Without attachments that are claims, which no version makes: whether they are applied needs the whole fold.
LOGS = logs().map(
    lambda log: [each for each in log if not isinstance(each, e.TrialAttached) or each.if_version is None]
)
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=4)


ADDRESSES = [f"{each}_0" for each in HASHES[:2]]


@st.composite
def many_rows(draw):
    """Two trials, and frames of few rows of several writers, of any form: enough to be decoded at once."""
    created = [
        e.TrialCreated(
            trial=f"{each[:-2]}~r", writer="w", request="r", time=1, name="t", parameters={}, auto_increment=False
        )
        for each in ADDRESSES
    ]
    usual = st.sampled_from([1_700_000_000_000_000] * 9 + [-(2**62)])
    found = []
    for n in range(draw(st.integers(20, 60))):
        rows = draw(st.sampled_from([1] * 9 + [2]))
        steps = draw(st.sampled_from(["steps", "steps", "none", "float_steps"]))
        found.append(
            e.MetricsLogged(
                trial=draw(st.sampled_from([*ADDRESSES, created[0].trial])),
                writer=draw(st.sampled_from(["v", "w"])),
                seq=n + draw(st.sampled_from([1] * 9 + [-3])),
                time=draw(usual) + n,
                aggregator=timeseries_aggregator,
                names=["a", "b"][: draw(st.sampled_from([1, 1, 2]))],
                times=[0] * rows,
                columns=[[n / 2] * rows] * draw(st.sampled_from([1, 1, 2])),
                **({} if steps == "none" else {steps: [draw(st.sampled_from([n, 2**40]))] * rows}),
            )
        )
    return [*created, *found]


async def read(stream, most=None):
    """Read events of a stream, all by default; return them, and the position after them."""
    found = []
    async with stream:
        while (most is None or len(found) < most) and (item := await stream.next_event()) is not None:
            found.append(item)
        return found, stream.position


def values(item):
    """Return what can be compared of an event."""
    event = item.event
    if isinstance(event, ts.Rows):
        return *item[:7], event.writer, str(event.steps), str(event.times), str(event.values)
    return *item[:7], repr(event)


@given(LOGS, st.sampled_from(CONDITIONS), SIZES, st.integers(1, 3))
def test_a_stream_returns_what_the_fold_takes(log, conditions, sizes, partitions):
    """They are the same with any filter, partitions and fetches; those of a partition are in the order of the log."""
    records = spread(log, partitions, encode)
    found, _ = asyncio.run(read(streamed(records, partitions, sizes, since=ts.BEGIN, **conditions)))
    places = [((each.topic, each.partition), each.offset) for each in found]

    assert sorted(places) == sorted(taken(records, partitions, **conditions))
    assert [each.timestamp for each in found] == sorted(each.timestamp for each in found)


@settings(max_examples=60)
@given(many_rows(), st.integers(1, 7))
def test_rows_that_are_decoded_together_are_those_of_each_frame(log, size):
    """It does not matter how many records come at once; a frame that is refused leaves out no other one."""
    records = spread(log, 2, encode)
    found, _ = asyncio.run(read(streamed(records, 2, (1000,), since=ts.BEGIN)))
    ones, _ = asyncio.run(read(streamed(records, 2, (size,), since=ts.BEGIN)))

    assert sorted(map(values, found)) == sorted(map(values, ones))
    assert sorted((each[:2], each.offset) for each in found) == sorted(taken(records, 2))


@settings(max_examples=60)
@given(LOGS, st.sampled_from(CONDITIONS), SIZES, st.data(), st.sampled_from(["together", "one"]))
def test_a_stream_goes_on_where_it_was_left(log, conditions, sizes, data, rows):
    """Nothing comes twice or is lost, in events and in rows, though positions are stored as texts.

    It does not matter how many events are made at once.
    """
    records = spread(log, 2, encode)
    whole, end = asyncio.run(read(streamed(records, 2, since=ts.BEGIN, rows=rows, **conditions)))
    found, position, stops = [], ts.BEGIN, []
    while True:
        most = data.draw(st.integers(1, 20))
        stream = streamed(records, 2, sizes, since=position, rows=rows, **conditions)
        with mock.patch.object(decoding, "_MADE_EVENTS", data.draw(st.sampled_from([1, 2, 64]))):
            part, position = asyncio.run(read(stream, most))
        position = ts.Position.parse(str(position))
        if not part:
            break
        found += part
        stops.append((len(found), position))
    until, _ = asyncio.run(read(streamed(records, 2, since=ts.BEGIN, until=end, rows=rows, **conditions)))
    count, stop = data.draw(st.sampled_from(stops or [(0, end)]))
    before, _ = asyncio.run(read(streamed(records, 2, sizes, since=ts.BEGIN, until=stop, rows=rows, **conditions)))

    # Within a partition; over several, events of one moment may come in any order.
    def by_partition(items):
        return sorted(map(values, items), key=lambda each: each[:2])

    assert by_partition(found) == by_partition(whole)
    assert by_partition(until) == by_partition(whole)
    assert by_partition(before) == by_partition(found[:count])
