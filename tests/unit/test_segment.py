"""Segments: files that any Avro tool reads, and whose complete blocks are read if a file is torn or damaged."""

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
    """Return the bytes of a segment: header, then blocks."""
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
    """A segment is read with its events in order, its writer, prefix, log and schemas."""
    contents = written(b"".join(parts))

    assert contents.events == EVENTS
    assert (contents.writer, contents.prefix, contents.log, contents.lost_bytes) == ("w", "p", "l", 0)
    assert contents.schemas.keys() == SCHEMAS.keys()


def test_other_avro_tools_read_a_segment(parts):
    """The plain reader of an Avro library reads the events and the schemas of a segment."""
    data = b"".join(parts)
    reader = fastavro.reader(io.BytesIO(data))

    assert reader.codec == "snappy"
    assert [SpooledEvent(**each) for each in reader] == EVENTS
    assert {bytes.fromhex(key) for key in json.loads(reader.metadata["trialstream.schemas"])} == SCHEMAS.keys()


def test_every_torn_tail_is_cut_at_the_last_whole_block(parts, written):
    """A segment that is torn at any byte has the events of its complete blocks."""
    whole = b"".join(parts)
    ends = [sum(map(len, parts[: i + 1])) for i in range(len(parts))]
    for length in range(len(parts[0]), len(whole)):
        contents = written(whole[:length])
        blocks = sum(end <= length for end in ends) - 1

        assert contents.events == [event for block in BLOCKS[:blocks] for event in block]
        assert (contents.lost_bytes, contents.damaged) == (length - ends[blocks], False)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 100, -1])
def test_a_segment_with_a_torn_header_is_empty(parts, written, length):
    """A segment with a torn header has no events: its writer was killed before it confirmed any."""
    contents = written(parts[0][:length])

    assert contents.events == []
    assert contents.lost_bytes == len(parts[0][:length])


@pytest.mark.parametrize("block", [1, 2, 3])
def test_a_flipped_bit_affects_its_block_only(parts, written, block):
    """The checksum detects any flipped bit, and the blocks behind the damaged one are read."""
    start, end = sum(map(len, parts[:block])), sum(map(len, parts[: block + 1]))
    whole = b"".join(parts)
    others = [event for number, events in enumerate(BLOCKS, 1) if number != block for event in events]
    for at in range(start, end):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        contents = written(bytes(damaged))

        if contents.events == EVENTS:  # the count and the marker, which readers do not need
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
    """A file that is no segment is an error with its name."""
    if data is None:
        out = io.BytesIO()
        fastavro.writer(out, {"type": "record", "name": "a", "fields": []}, [])
        data = out.getvalue()

    with pytest.raises(SpoolError, match=r"00000001\.avro is not a trialstream spool segment"):
        written(data)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    """A file that cannot be read is an error with its name and the reason."""
    with pytest.raises(SpoolError, match=r"folder\.avro cannot be read: expected a file, got a folder"):
        (tmp_path / "folder.avro").mkdir()
        read_segment(tmp_path / "folder.avro")


def test_a_damaged_header_is_refused_or_harmless(parts, written):
    """With any byte of the header changed, the file is refused and stays, or all of its events are read."""
    header, whole = len(parts[0]), b"".join(parts)
    # A sample of all positions, and all lengths, which are directly before or behind a key of the metadata.
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
