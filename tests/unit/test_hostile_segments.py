"""Segments that somebody else has made: numbers in them are compared with the bytes that are there."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import cramjam
import pytest
from children import in_child
from trialstream.spool import container, segment
from trialstream.spool.segment import Container, SpooledEvent, parse_segment
from trialstream_schemas.errors import SpoolError
from trialstream_schemas.wire.varint import long_bytes

PATH = Path("00000001.avro")
HEADER = Container("w", "p", "l").header
SYNC = HEADER[-16:]
EVENTS = [SpooledEvent("trials", b"a" * 32, bytes([i]) * (i + 1)) for i in range(40)]


def snappy(length, elements=b""):
    """Return a block of snappy that claims to unpack to so many bytes."""
    found = bytearray()
    while length >= 0x80:
        found.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*found, length]) + elements


def block(packed, plain=b"", count=1):
    """Return a block of a container with the checksum of its uncompressed bytes."""
    data = packed + zlib.crc32(plain).to_bytes(4, "big")
    return long_bytes(count) + long_bytes(len(data)) + data + SYNC


def packed(plain):
    """Return a block whose bytes unpack to others."""
    return block(bytes(cramjam.snappy.compress_raw(plain)), plain)


def read(data, mebibytes=64):
    """Read a segment in little memory; it must not hang either."""
    return in_child(parse_segment, PATH, data, mebibytes=mebibytes, seconds=30)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(block(snappy(2**32 - 1)), id="4 GiB claimed by five bytes"),
        pytest.param(block(snappy(2**31, b"\xfe\x01\x00" * 20_000)), id="2 GiB claimed by 60 KB"),
        pytest.param(block(snappy(1)), id="one byte claimed, none there"),
        pytest.param(block(b"\xff" * 10), id="a length without an end"),
        pytest.param(long_bytes(1) + long_bytes(2**62) + SYNC, id="a block of 4 EiB"),
        pytest.param(long_bytes(1) + long_bytes(-(2**62)) + SYNC, id="a block of negative size"),
        pytest.param(b"\xff" * 30 + SYNC, id="a count without an end"),
    ],
)
def test_a_block_that_claims_too_much_is_skipped(bad):
    """A block whose numbers do not fit its bytes counts as damaged; those around it are read."""
    data = HEADER + packed(_plain(EVENTS[:3])) + bad + packed(_plain(EVENTS[3:5]))
    contents = read(data)

    assert contents.events == EVENTS[:5]
    assert (contents.lost_bytes, contents.damaged) == (len(bad), True)


def _plain(events):
    return b"".join(
        long_bytes(1) + long_bytes(len(key)) + key + long_bytes(len(value)) + value for _, key, value in events
    )


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        pytest.param(long_bytes(2) + b"\x00\x00", "expected a topic below 2, got 2", id="topic"),
        pytest.param(long_bytes(-1) + b"\x00\x00", "expected a topic below 2, got -1", id="negative topic"),
        pytest.param(b"\x02" + long_bytes(2**40), "expected 1099511627776 bytes, got 0", id="long key"),
        pytest.param(b"\x02\x00" + long_bytes(-5), "expected a length, got -5", id="negative length"),
        pytest.param(b"\x02\x00" + b"\xff" * 11, "more than 64 bits", id="length without an end"),
        pytest.param(b"\x02", "", id="cut off"),
    ],
)
def test_a_whole_block_of_other_records_is_refused(plain, reason):
    """A block with a right checksum was written like this: the file is no segment, rather than damaged."""
    with pytest.raises(
        SpoolError, match=f"00000001.avro: expected events in the block at byte {len(HEADER)}: .*{reason}"
    ):
        read(HEADER + packed(plain))


def test_many_blocks_that_unpack_to_much(monkeypatch):
    """A bomb of honest blocks ends at the bound of all blocks together."""
    bomb = packed(_plain([SpooledEvent("trials", b"", bytes(4 * 1024 * 1024))]))
    monkeypatch.setattr(segment, "_MAX_PLAIN_BYTES", 6 * 1024 * 1024)

    with pytest.raises(SpoolError, match="expected blocks of at most 6291456 bytes together, got more"):
        read(HEADER + bomb + bomb, mebibytes=512)


def test_a_million_empty_events(monkeypatch):
    """The number of events is bounded, whatever little a file needs for them."""
    monkeypatch.setattr(segment, "_MAX_EVENTS", 1000)
    with pytest.raises(SpoolError, match="expected at most 1000 events in a file, got more"):
        read(HEADER + packed(bytes(3 * 1001)))


def test_markers_before_blocks_that_unpack_in_vain(monkeypatch):
    """Blocks with wrong checksums cost as much as whole ones, so their number is bounded, too."""
    monkeypatch.setattr(segment, "_MAX_PLAIN_BYTES", 1024 * 1024)
    wrong = block(bytes(cramjam.snappy.compress_raw(b"\x02\x00\x00")), b"another")

    with pytest.raises(SpoolError, match="expected blocks of at most"):
        read(HEADER + wrong * 1100)


def test_a_file_is_not_read_beyond_the_bound(tmp_path):
    """A file above the size of a segment is refused without being read to its end."""
    path = tmp_path / "00000001.avro"
    with path.open("wb") as file:
        file.truncate(2**40)

    with pytest.raises(
        SpoolError, match=r"00000001\.avro is no spool segment: expected at most 16777216 bytes, got more"
    ):
        in_child(segment.read_segment, path, mebibytes=64)


def test_files_that_are_no_files(tmp_path):
    """A FIFO, a link and the like are refused at once."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, kind in (("fifo", "a FIFO"), ("zero", "a link")):
        with pytest.raises(SpoolError, match=f"{name} cannot be read: expected a file, got {kind}"):
            in_child(segment.read_segment, tmp_path / name, seconds=30)


def entry(key, value):
    """Return an entry of the metadata."""
    return b"".join(long_bytes(len(each)) + each for each in (key, value))


def header(*entries, count=None):
    """Return a header with some entries."""
    return b"Obj\x01" + long_bytes(len(entries) if count is None else count) + b"".join(entries) + b"\x00" + SYNC


PLAIN = [(b"trialstream.writer", b"w"), (b"trialstream.prefix", b"p"), (b"trialstream.log", b"l")]
WHOLE = [*PLAIN, (b"trialstream.schemas", b"{}")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(header(count=2**40), "at most 64 entries of metadata, got 1099511627776", id="2^40 entries"),
        pytest.param(header(count=-(2**40)), "at most 64 entries", id="2^40 entries of known size"),
        pytest.param(header(entry(b"a", b""), count=1)[:6] + long_bytes(-1) * 40, "a length", id="negative length"),
        pytest.param(header(entry(b"\xff\xfe", b"")), "a key of at most 256 printable characters", id="binary key"),
        pytest.param(header(entry(b"k" * 2000, b"")), "a key of at most 256", id="long key"),
        pytest.param(header(), "expected trialstream.writer in the metadata, got none", id="no metadata"),
        pytest.param(
            header(*(entry(k, v) for k, v in WHOLE[:1]), entry(b"trialstream.prefix", b"a\nb"), entry(*PLAIN[2])),
            r"trialstream.prefix of at most 256 printable characters, got b'a\\nb'",
            id="line break in the prefix",
        ),
        pytest.param(header(*(entry(k, v) for k, v in PLAIN)), "no entry 'trialstream.schemas'", id="no schemas"),
        pytest.param(
            header(*(entry(k, v) for k, v in PLAIN), entry(b"trialstream.schemas", b"[" * 200_000)),
            "expected a JSON object of schemas",
            id="nested schemas",
        ),
    ],
)
def test_a_hostile_header_is_refused(data, reason):
    """A header is refused in little memory, with its reason."""
    with pytest.raises(SpoolError, match=f"is not a trialstream spool segment, or its header is damaged: .*{reason}"):
        read(data)


def test_a_header_beyond_the_bound():
    """Metadata above the bound of a header are not read."""
    large = entry(b"trialstream.schemas", b" " * container.MAX_HEADER_BYTES)

    with pytest.raises(SpoolError, match=r"its header is damaged: expected \d+ bytes, got \d+"):
        read(header(*(entry(k, v) for k, v in PLAIN), large))


def test_a_short_file_of_anything_is_searched_for_blocks_in_bounded_time():
    """Bytes that may be a torn header are searched for blocks at each offset; each takes a part of the bound."""
    hostile = b"Obj\x01" + long_bytes(1) + long_bytes(2**30) + block(snappy(2**20, b"\xfe\x01\x00" * 16_000))

    assert read(hostile).events == []


def test_a_segment_is_closed_before_its_events_unpack_to_too_much(tmp_path, monkeypatch):
    """A segment of events can be read even if they compress well."""
    from trialstream.spool import folder

    monkeypatch.setattr(folder, "_PLAIN_BYTES", 10_000)
    spool = folder.Spool(tmp_path / "p" / "w", "p", "w", 10**9)
    for _ in range(5):
        spool.append([SpooledEvent("trials", b"a", bytes(6000))], on_disk=False, segment_bytes=10**9)
    spool.close()

    assert sorted(each.name for each in spool.folder.iterdir()) == [f"0000000{i}.avro" for i in (1, 2, 3)]
