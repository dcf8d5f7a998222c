"""Heads of events: what is read for many at once is what is read for each by itself."""

from __future__ import annotations

import dataclasses

from hypothesis import example, given
from hypothesis import strategies as st
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.model.aggregators import timeseries_aggregator
from trialstream_schemas.wire.codec import encode
from trialstream_schemas.wire.events import Heartbeat, MetricsLogged
from trialstream_schemas.wire.heads import KINDS, PREFIX_BYTES, known_heads, read_head, subject_bytes

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


def subjects(records):
    """The bytes of the subjects of events → trial, writer, and the same bytes."""
    found = {}
    for data in records:
        try:
            trial, writer, *_ = read_head(data) if data[:PREFIX_BYTES] in KINDS else ("", "")
        except SchemaError:
            continue
        if trial and (key := subject_bytes(data)) is not None:
            assert found.setdefault(key, (trial, writer, key)) == (trial, writer, key)
    return found


@given(st.lists(events(), max_size=5), st.data())
@example([encode(dataclasses.replace(BEAT, writer="w" * 64))], None)
@example([b"", encode(BEAT)[:-1], encode(BEAT)], None)
def test_known_heads_are_heads(records, data):
    """A head that is known has the subject and the `seq` of the head, which is no request; others are None."""
    known = subjects(records)
    if known and data is not None:
        del known[data.draw(st.sampled_from(sorted(known)))]
    for record, found in zip(records, known_heads(records, known), strict=True):
        if found is None:
            continue
        (trial, writer, key), seq = found

        assert read_head(record) == (trial, writer, seq, None)
        assert record.startswith(key)


def test_the_usual_head_is_known():
    """The heads of two writers with ids of different lengths, in turn, are known, with any `seq`."""
    seqs = (1, 63, 64, 8191, 8192, 2**40)
    records = [encode(dataclasses.replace(BEAT, writer=writer, seq=seq)) for seq in seqs for writer in ("w", "writer")]

    assert [found and found[1] for found in known_heads(records, subjects(records))] == [n for n in seqs for _ in "ab"]


def test_an_endless_integer_is_left_at_once():
    """Reading does not go on to the end of what a hostile record has for a `seq`, which would take minutes."""
    key = subject_bytes(encode(BEAT))
    assert key is not None

    assert [*known_heads([key + b"\x80" * 2**20] * 100, {key: key})] == [None] * 100
