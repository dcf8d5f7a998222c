"""Heads of events: what is read for many at once is what is read for each by itself."""

from __future__ import annotations

import dataclasses

from hypothesis import example, given
from hypothesis import strategies as st
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.model.aggregators import timeseries_aggregator
from trialstream_schemas.wire.codec import encode
from trialstream_schemas.wire.events import Heartbeat, MetricsLogged
from trialstream_schemas.wire.heads import KINDS, PREFIX_BYTES, plain_heads, read_head, subject_bytes

BEAT = Heartbeat(trial="a" * 32 + "_0", writer="w", seq=1, time=1_700_000_000_000_000)
FRAME = MetricsLogged(
    trial="", writer="", time=0, aggregator=timeseries_aggregator, names=["a"], times=[0], columns=[[0.5]]
)


@st.composite
def events(draw):
    """Encoded events with heads of any form, some with a few bytes changed, inserted or left out."""
    event = dataclasses.replace(
        draw(st.sampled_from([BEAT, FRAME])),
        trial=draw(st.text("aé~_0", max_size=70)),
        writer=draw(st.text("wé-", max_size=70)),
        seq=draw(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 300)),
        time=draw(st.sampled_from([1_700_000_000_000_000, 0, -5, 2**62])),
        if_version=draw(st.none() | st.integers(0, 9)),
        request=draw(st.none() | st.text("ré", max_size=3)),
    )
    data = bytearray(encode(event))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(PREFIX_BYTES, len(data) - 1))
        data[place : place + draw(st.integers(0, 2))] = draw(st.sampled_from([b"", b"\0", b"\x80", b"\xff", b"\2"]))
    return bytes(data)


@given(st.lists(events(), max_size=5))
@example([encode(dataclasses.replace(BEAT, writer="w" * 64))])
@example([b"", encode(BEAT)[:-1], encode(BEAT)])
def test_plain_heads_are_heads(records):
    """A plain head has the `seq` of the head, which is no request; equal bytes before it are equal subjects."""
    subjects = {}
    for data, plain in zip(records, plain_heads(records), strict=True):
        try:
            head = read_head(data) if data[:PREFIX_BYTES] in KINDS else None
        except SchemaError:
            head = None
        if head is None or (key := subject_bytes(data)) is None:
            continue
        trial, writer, seq, request = head

        assert subjects.setdefault(key, (trial, writer)) == (trial, writer)
        if plain is not None:
            assert (*plain, None) == (key, seq, request)


def test_the_usual_head_is_plain():
    """The head of an event of a writer is a plain one, with any `seq`."""
    for seq in (1, 63, 64, 8191, 8192, 2**40):
        data = encode(dataclasses.replace(BEAT, seq=seq))

        assert [*plain_heads([data])] == [(subject_bytes(data), seq)]


def test_an_endless_integer_is_left_at_once():
    """Reading does not go on to the end of what a hostile record has for a `seq`, which would take minutes."""
    key = subject_bytes(encode(BEAT))
    assert key is not None

    assert [*plain_heads([key + b"\x80" * 2**20] * 100)] == [None] * 100
