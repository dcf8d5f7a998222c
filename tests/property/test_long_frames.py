"""Long frames that are checked and not decoded: the check promises what decoding gives."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trialstream.streaming.rows import Rows, rows_of
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.model.aggregators import timeseries_aggregator
from trialstream_schemas.wire.codec import HEADER_BYTES, SchemaStore, encode
from trialstream_schemas.wire.events import MetricsLogged
from trialstream_schemas.wire.frames import columns_size
from trialstream_schemas.wire.long_frames import check_long_frame


@st.composite
def frames(draw):
    """Encoded frames of 24 rows or more, some with a few bytes changed, inserted or left out."""
    rows, names = draw(st.integers(24, 200)), draw(st.integers(1, 3))
    whole = st.integers(-(2**62), 2**62) if draw(st.booleans()) else st.integers(-9, 2**30)
    event = MetricsLogged(
        trial="a" * 32 + "_0",
        writer="w",
        seq=draw(st.integers(1, 2**40)),
        time=draw(st.sampled_from([1_700_000_000_000_000, 0, -(2**62), 253_402_300_799_999_999])),
        aggregator=timeseries_aggregator,
        names=[f"n{i}" for i in range(names)],
        steps=draw(st.lists(whole, min_size=rows, max_size=rows)) if draw(st.booleans()) else [],
        times=draw(st.lists(whole, min_size=rows, max_size=rows)),
        columns=[array("d", [0.5] * rows) for _ in range(names)],
    )
    data = bytearray(encode(event))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(HEADER_BYTES, len(data) - 1))
        data[place : place + draw(st.integers(0, 2))] = draw(
            st.sampled_from([b"", b"\0", b"\2", b"\x80", b"\xff", b"0"])
        )
    return bytes(data)


@given(frames())
def test_a_frame_that_is_checked_decodes(data):
    """It decodes to as many rows, and to the same values as at once."""
    frame = check_long_frame(data, HEADER_BYTES)
    try:
        event = SchemaStore().decode(data)
    except SchemaError:
        assert frame is None
        return
    decoded = rows_of(event)
    if frame is not None:
        assert decoded is not None
        lazy = Rows.of(frame, data)
        assert (len(lazy), lazy.writer, tuple(lazy.names)) == (len(decoded), decoded.writer, tuple(decoded.names))
        assert str((lazy.steps, lazy.times, lazy.values)) == str((decoded.steps, decoded.times, decoded.values))


def test_a_usual_frame_is_checked():
    """A frame as a writer sends it is not decoded."""
    event = MetricsLogged(
        trial="a" * 32 + "_0", writer="w", seq=1, time=1_700_000_000_000_000, aggregator=timeseries_aggregator,
        names=["a", "b"], steps=range(256), times=range(0, 256_000, 1000), columns=[array("d", [0.5] * 256)] * 2,
    )  # fmt: skip
    frame = check_long_frame(encode(event), HEADER_BYTES)

    assert frame is not None
    assert (frame.rows, frame.names) == (256, ("a", "b"))


@pytest.mark.parametrize("more", [b"\x80", b"\x81", b"\xd7"])
def test_an_end_that_is_longer_than_needed(more):
    """A frame whose times seem to end, by the last byte of a longer integer, is left to `decode`, which refuses it."""
    event = MetricsLogged(
        trial="a" * 34, writer="w", seq=1, time=1_700_000_000_000_000, aggregator=timeseries_aggregator,
        names=["a", "b"], times=[5] * 256, columns=[array("d", [0.5] * 256)] * 2,
    )  # fmt: skip
    usual = encode(event)
    at = len(usual) - columns_size(2, 256) - 1
    data = usual[:at] + more + usual[at:]

    assert check_long_frame(usual, HEADER_BYTES) is not None
    assert check_long_frame(data, HEADER_BYTES) is None
    with pytest.raises(SchemaError):
        SchemaStore().decode(data)
