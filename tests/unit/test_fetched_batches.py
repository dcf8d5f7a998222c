"""Screening of batches: what is unpacked, what becomes a note, and what stays as it is."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
import trialstream as ts
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st
from raw_batches import CODECS, CONTROL, TRANSACTIONAL, built, flagged, signed, zstd_bomb
from trialstream.event_log import batches
from trialstream.event_log.batches import MAX_BATCH_RECORDS, MAX_UNPACKED_BYTES, UNREADABLE, DamagedBatch, screened
from trialstream.event_log.notes import Note, header_of, note_of, notes_of
from trialstream.event_log.unpacking import NotUnpacked, unpack
from trialstream_schemas.wire.limits import MAX_RECORD_BYTES


def parsed(data):
    """Return the records of batches by aiokafka, with their notes."""
    found, position = [], 0
    memory = MemoryRecords(data)
    while memory.has_next():
        batch = memory.next_batch()
        found += [(each.offset, each.value, note_of(each)) for each in batch]
        position = batch.next_offset
    return found, position


def read(data, position=0, aborted=(), damaged=True):
    """Read all batches with fetches one after the other, as aiokafka does; return the records, and the next offset."""
    found = []
    while True:
        made = b"".join(each.data for each in screened(data, position, aborted, damaged=damaged))
        records, reached = parsed(made)
        found += [each for each in records if each[0] >= position]
        if reached <= position:
            return found, position
        position = reached
        data = data[first_batch_with(data, position) :]


def first_batch_with(data, position):
    """Return where the batch begins that has an offset."""
    start = 0
    while start < len(data):
        first, length = struct.unpack_from(">qi", data, start)
        [delta] = struct.unpack_from(">i", data, start + 23)
        if first + delta >= position:
            return start
        start += 12 + length
    return start


def test_plain_batches_stay_as_they_are():
    """Batches of our writers are handed on without a copy, up to a last one that is cut off."""
    data = built([b"a", b"b"], first=3) + built([b"c"], first=5)
    [piece] = screened(data + built([b"d"], first=6)[:-1], 3, (), damaged=False)

    assert piece.data == data
    assert piece.data.obj is not data
    assert isinstance(piece.data, memoryview)


@pytest.mark.parametrize("codec", CODECS)
def test_compressed_batches_have_the_same_records(codec):
    """Offsets, values, keys and times of a compressed batch are those of the plain one."""
    values = [b"%d" % each * 50 for each in range(100)]
    plain, packed = built(values, first=7, key=b"key"), built(values, codec, first=7, key=b"key")
    [piece] = screened(packed, 7, (), damaged=False)

    def records(data):
        return [(each.offset, each.timestamp, each.key, each.value) for each in MemoryRecords(data).next_batch()]

    assert len(packed) < len(plain)
    assert records(piece.data) == records(plain)


@pytest.mark.parametrize("codec", CODECS)
def test_unpacking_ends_at_its_limit(codec):
    """A batch unpacks to exactly the limit, and not to one byte more."""
    packed = memoryview(built([bytes(9000)], codec)[61:])
    size = len(built([bytes(9000)])) - 61

    assert len(unpack(codec, packed, size)) == size
    with pytest.raises(NotUnpacked, match=f"{codec} does not unpack to at most {size - 1} bytes"):
        unpack(codec, packed, size - 1)


@given(st.sampled_from([*CODECS]), st.binary(max_size=200), st.integers(0, 100), st.integers(0, 7))
def test_any_bytes_are_unpacked_or_refused(codec, noise, cut, bit):
    """Damaged and random bytes end in bytes within the limit or in the one error, whatever sizes they claim."""
    whole = built([b"abc" * 100], codec)[61:]
    changed = bytearray(whole)
    changed[cut % len(whole)] ^= 1 << bit
    for data in (noise, whole[:cut], whole[:cut] + noise, bytes(changed), b"\x82SNAPPY\0" + bytes(8) + noise):
        with suppress(NotUnpacked):
            assert len(unpack(codec, memoryview(data), 4096)) <= 4096


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        (zstd_bomb(2**28), "zstd does not unpack to at most 16777216 bytes"),
        (built([bytes(MAX_UNPACKED_BYTES)], "gzip"), "gzip does not unpack to at most 16777216 bytes"),
        (built([b""] * (MAX_BATCH_RECORDS + 1)), "expected at most 131072 records, got 131073"),
        (built([b""] * (MAX_BATCH_RECORDS + 1), "lz4"), "expected at most 131072 records, got 131073"),
        (
            signed(built([b"v"], headers=[("name", b"")]).replace(b"name", b"\xff\xff\xff\xff")),
            "cannot be parsed: 'utf-8'",
        ),
        (signed(built([b"v"])[:-1]), "its records cannot be parsed"),
        (flagged(built([b"v"]), 7, -1), "there is no codec 7"),
        (built([b"value"]).replace(b"value", b"volue"), "its checksum is wrong"),
    ],
    ids=["zstd", "gzip", "records", "packed records", "header", "cut", "codec", "checksum"],
)
def test_a_batch_that_cannot_be_read_is_one_note(batch, reason):
    """The note has the last offset of the batch, and names both; the batches beside it are read."""
    [count] = struct.unpack_from(">i", batch, 23)
    data = built([b"before"]) + struct.pack(">q", 1) + batch[8:] + built([b"behind"], first=count + 2)
    found, position = read(data)
    [(_, before, _), (last, value, note), (_, behind, _)] = found

    assert (before, value, behind) == (b"before", None, b"behind")
    assert (note.first, last, position) == (1, count + 1, count + 3)
    assert f"batch of offsets 1 to {count + 1} ({len(batch)} bytes): " in note.reason
    assert reason in note.reason


def test_a_checksum_that_is_wrong_is_looked_at_again_first():
    """A batch that was damaged on its way is read by the next fetch."""
    data = built([b"good"]) + built([b"value"], first=1).replace(b"value", b"volue")
    with pytest.raises(DamagedBatch):
        list(screened(data, 0, (), damaged=False))


@pytest.mark.parametrize(
    "damage",
    [
        lambda batch: batch[:16] + b"\x03" + batch[17:],
        lambda batch: batch[:23] + struct.pack(">i", 10) + batch[27:],
        lambda batch: batch[:23] + struct.pack(">i", -3) + batch[27:],
        lambda batch: batch[:8] + struct.pack(">i", -40) + batch[12:],
    ],
    ids=["format", "beyond the next batch", "negative", "length"],
)
def test_a_batch_whose_offsets_are_unknown_stops_its_partition(damage):
    """The consumer of aiokafka raises an error for what stands in its place, and does not skip an offset."""
    data = built([b"a"], first=3) + damage(built([b"b"], first=4)) + built([b"c"], first=5)
    pieces = [each.data for each in screened(data, 3, (), damaged=True)]

    assert bytes(pieces[0]) == built([b"a"], first=3)
    assert pieces[1:] == [UNREADABLE]
    with pytest.raises(Exception, match="CorruptRecord"):
        MemoryRecords(UNREADABLE).next_batch()


def test_a_record_over_the_limit_is_a_note_of_its_own():
    """Of a compressed batch, the other records are read."""
    found, _ = read(built([b"a", bytes(MAX_RECORD_BYTES + 1), b"b"], "zstd"))
    [(_, first, _), (offset, value, note), (_, last, _)] = found

    assert (first, last) == (b"a", b"b")
    assert (offset, note.first, len(value)) == (1, 1, MAX_RECORD_BYTES)
    assert "a record of 1048577 bytes, and an event can have at most 1048576" in note.reason


@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=30),
    st.sampled_from(["", *CODECS]),
    st.integers(0, 30),
    st.integers(600, 2000),
)
def test_parts_of_a_batch_are_read_one_after_the_other(sizes, codec, start, part):
    """Each record is read once, in order, to the end, for any size of a part and any beginning of a fetch."""
    values = [bytes([number]) * size for number, size in enumerate(sizes)]
    data = built(values, codec) + built([b"behind"], first=len(values))
    start = min(start, len(values))
    data = data[first_batch_with(data, start) :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "_PART_BYTES", part)
        found, position = read(data, start)

    assert [each[:2] for each in found] == [*enumerate([*values, b"behind"])][start:]
    assert position == len(values) + 1


def test_the_work_of_a_fetch_is_bounded():
    """Of many batches that unpack to too much, a fetch takes a few; all others are left to the next ones."""
    bomb = zstd_bomb(2**26)
    data = b"".join(struct.pack(">q", number) + bomb[8:] for number in range(20))
    pieces = list(screened(data, 0, (), damaged=False))

    assert len(pieces) == 4
    assert sum(each.work for each in pieces) == 4 * MAX_UNPACKED_BYTES
    assert [each[0] for each in read(data)[0]] == [*range(20)]


def test_transactions_are_read_as_they_ended():
    """Aborted batches and markers are notes without a reason; the batches of other producers between them are read."""
    data = b"".join(
        [
            flagged(built([b"a", b"b"], "gzip", first=0), TRANSACTIONAL, 1),
            flagged(built([b"c"], first=2), TRANSACTIONAL, 2),
            built([b"d"], first=3),
            flagged(built([b""], first=4), TRANSACTIONAL | CONTROL, 1),  # aborts
            flagged(built([b"e"], first=5), TRANSACTIONAL, 1),
            flagged(built([b""], first=6), TRANSACTIONAL | CONTROL, 1),
            flagged(built([b""], first=7), TRANSACTIONAL | CONTROL, 2),
        ]
    )
    found, position = read(data, aborted=[(1, 0)])

    assert [value for _, value, note in found if note is None] == [b"c", b"d", b"e"]
    assert [(note, offset) for offset, _, note in found if note] == [
        (Note(0, None), 1),
        (Note(4, None), 4),
        (Note(6, None), 6),
        (Note(7, None), 7),
    ]
    assert position == 8


PLACE = TopicPartition("t", 1)


def record(offset, headers=()):
    """Return a record of a partition."""
    return ConsumerRecord("t", 1, offset, 0, 1, None, b"", None, -1, 0, tuple(headers))


def test_offsets_without_a_note_are_missing():
    """Notes stand for the offsets before them; any other gap is a loss."""
    notes = notes_of([record(3), record(9, [header_of(Note(4, None))]), record(10, [("theirs", b"")])], 3, PLACE)

    assert notes == {1: Note(4, None)}
    assert notes_of([record(5, [header_of(Note(2, "no"))])], 4, PLACE) == {0: Note(2, "no")}
    for found, following in (
        ([record(3)], 2),
        ([record(3), record(5)], 3),
        ([record(5, [header_of(Note(3, None))])], 2),
        ([record(5, [("trialstream.note", struct.pack(">q", 3))])], 3),
    ):
        with pytest.raises(ts.LogMismatch, match=f"t/1: expected offset {4 if len(found) > 1 else following}, got 5|3"):
            notes_of(found, following, PLACE)
