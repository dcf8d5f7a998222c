"""Segments: files that any Avro tool reads, and of which all whole blocks are read when they are torn or damaged."""

from __future__ import annotations

import io
import json
import re

import fastavro
import pytest
from trialstream.spool.segment import Container, SpooledEvent, read_segment
from trialstream_schemas.errors import SpoolError
from trialstream_schemas.wire.schemas import SCHEMAS

EVENTS = [SpooledEvent("trials", b"a" * 32, bytes([i]) * (i + 1)) for i in range(40)]
BLOCKS = [EVENTS[:10], EVENTS[10:11], EVENTS[11:40]]


@pytest.fixture
def parts():
    """The bytes of a segment: header, then blocks."""
    container = Container("w", "p", "l")
    return [container.header, *(container.block(events) for events in BLOCKS)]


@pytest.fixture
def written(tmp_path):
    """Write bytes and read them as a segment."""

    def write(data):
        path = tmp_path / "00000001.avro"
        path.write_bytes(data)
        return read_segment(path)

    return write


def test_a_segment_is_read_as_it_was_written(parts, written):
    """Events in order, writer, prefix, log and schemas."""
    contents = written(b"".join(parts))

    assert contents.events == EVENTS
    assert (contents.writer, contents.prefix, contents.log, contents.lost_bytes) == ("w", "p", "l", 0)
    assert contents.schemas.keys() == SCHEMAS.keys()


def test_other_avro_tools_read_it(parts):
    """The plain reader of an Avro library finds the events and the schemas."""
    data = b"".join(parts)
    reader = fastavro.reader(io.BytesIO(data))

    assert reader.codec == "snappy"
    assert [SpooledEvent(**each) for each in reader] == EVENTS
    assert {bytes.fromhex(key) for key in json.loads(reader.metadata["trialstream.schemas"])} == SCHEMAS.keys()


def test_every_torn_tail_is_cut_at_the_last_whole_block(parts, written):
    """At every length of the file."""
    whole = b"".join(parts)
    ends = [sum(map(len, parts[: i + 1])) for i in range(len(parts))]
    for length in range(len(parts[0]), len(whole)):
        contents = written(whole[:length])
        blocks = sum(end <= length for end in ends) - 1

        assert contents.events == [event for block in BLOCKS[:blocks] for event in block]
        assert (contents.lost_bytes, contents.damaged) == (length - ends[blocks], False)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 100, -1])
def test_a_torn_header_holds_nothing(parts, written, length):
    """A writer that is killed so early has not confirmed any event."""
    contents = written(parts[0][:length])

    assert contents.events == []
    assert contents.lost_bytes == len(parts[0][:length])


@pytest.mark.parametrize("block", [1, 2, 3])
def test_every_flipped_bit_costs_its_block_alone(parts, written, block):
    """The checksum finds it, and the blocks behind it are read."""
    start, end = sum(map(len, parts[:block])), sum(map(len, parts[: block + 1]))
    whole = b"".join(parts)
    others = [event for number, events in enumerate(BLOCKS, 1) if number != block for event in events]
    for at in range(start, end):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        contents = written(bytes(damaged))

        if contents.events == EVENTS:  # the count and the marker, which are not needed
            assert at == start or at >= end - 16
            assert (contents.lost_bytes, contents.damaged) == (0, False)
        else:
            assert contents.events == others, at
            assert (contents.lost_bytes, contents.damaged) == (end - start, True)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"no Avro at all" * 10_000, id="something else"),
        pytest.param(None, id="another Avro file"),
    ],
)
def test_another_file_is_refused(data, written, tmp_path):
    """The message has its name."""
    if data is None:
        out = io.BytesIO()
        fastavro.writer(out, {"type": "record", "name": "a", "fields": []}, [])
        data = out.getvalue()

    with pytest.raises(SpoolError, match=r"00000001\.avro is not a trialstream spool segment"):
        written(data)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    """The message has its name and the reason."""
    with pytest.raises(SpoolError, match=r"folder\.avro cannot be read: Is a directory"):
        (tmp_path / "folder.avro").mkdir()
        read_segment(tmp_path / "folder.avro")


def test_a_damaged_header_is_not_taken_as_torn(parts, written):
    """Whichever byte is changed, the file is refused and stays, or all of its events are read."""
    header, whole = len(parts[0]), b"".join(parts)
    # A sample, and all lengths: each stands right before a key of the metadata or behind it.
    keys = [each.start() for each in re.finditer(rb"avro\.|trialstream\.(schemas|writer|prefix|log)", parts[0])]
    lengths = {at for key in keys for at in range(key - 4, key + 26)}
    refused = 0
    for at in sorted({*range(4, header - 16, 97), *lengths} & set(range(4, header - 16))):
        damaged = bytearray(whole)
        damaged[at] ^= 0x80
        try:
            contents = written(bytes(damaged))
        except SpoolError:
            refused += 1
        else:
            assert contents.events == EVENTS

    assert refused
