"""Refused events on disk, and their way back into a spool."""

from __future__ import annotations

import errno
import os

import pytest
from trialstream.pipeline.readmission import drop_refused, readmit
from trialstream.spool import disk, refused
from trialstream.spool.folder import Spool
from trialstream.spool.refused import RefusedEvents
from trialstream.spool.segment import SpooledEvent, read_segment
from trialstream_schemas.errors import SpoolError, SpoolFull
from trialstream_schemas.wire.codec import SchemaStore, encode
from trialstream_schemas.wire.events import TagsAdded, TrialCreated


def update(number, seq, trial="a_0"):
    """Make an event of a trial."""
    event = TagsAdded(trial=trial, writer="w", time=7, seq=seq, values={"number": number})
    return SpooledEvent("trials", b"a", encode(event))


CREATION = SpooledEvent(
    "trials",
    b"a",
    encode(TrialCreated(trial="a~r", writer="w", time=7, request="r", name="n", parameters={}, auto_increment=True)),
)
UNKNOWN = SpooledEvent("trials", b"a", b"\xc3\x01" + bytes(20))


@pytest.fixture
def spool(tmp_path):
    """A spool with free space."""
    made = Spool(tmp_path / "p" / "w", "p", "w", 10**6)
    made.set_log("l")
    yield made
    made.unlock()


def refused_files(spool):
    """Return the files of refused events, and their contents."""
    return [(path, read_segment(path)) for path in sorted(spool.folder.glob("refused-*.avro"))]


def kept(spool):
    """Return the names of the files of refused events, and their events."""
    files = refused_files(spool)
    return [path.name for path, _ in files], [event for _, contents in files for event in contents.events]


def segments(spool):
    """Return the events of the segments, in their order."""
    return [event for path in sorted(spool.folder.glob("0*.avro")) for event in read_segment(path).events]


def test_each_event_is_in_the_file_at_once(spool):
    """An event is in the file when the call returns; the file names its writer, prefix and log."""
    file = RefusedEvents(spool)
    assert not spool.folder.exists()
    for number in (1, 2, 3):
        file.append(update(number, number))
        assert kept(spool) == (["refused-00000001.avro"], [update(i, i) for i in range(1, number + 1)])
    [(path, contents)] = refused_files(spool)

    assert (contents.writer, contents.prefix, contents.log, contents.lost_bytes) == ("w", "p", "l", 0)
    assert spool.refused_bytes == path.stat().st_size


def test_files_are_bounded_and_never_reopened(spool, monkeypatch):
    """A file that is large enough is followed by another one; an existing file is never touched."""
    monkeypatch.setattr(refused, "_FILE_BYTES", 1)
    file = RefusedEvents(spool)
    file.append(update(1, 1))
    file.append(update(2, 2))
    RefusedEvents(spool).append(update(3, 3))

    assert kept(spool) == ([f"refused-0000000{i}.avro" for i in (1, 2, 3)], [update(i, i) for i in (1, 2, 3)])


@pytest.mark.parametrize("after", [0, 1], ids=["at the first event", "later"])
def test_a_disk_that_fails(spool, monkeypatch, after):
    """A failed write adds nothing that can be read, and the next event goes to another file."""
    file = RefusedEvents(spool)
    for number in range(after):
        file.append(update(number, number + 1))
    real = os.write

    def full(fd, data):
        real(fd, bytes(data[:20]))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk.os, "write", full)
    with pytest.raises(SpoolError, match=r"refused-00000001\.avro cannot be written: No space left on device"):
        file.append(update(8, 8))
    monkeypatch.undo()
    file.append(update(9, 9))

    assert kept(spool)[1] == [update(i, i + 1) for i in range(after)] + [update(9, 9)]


def test_the_cap_counts_refused_events(spool):
    """Segments and refused events share the cap of the spool."""
    file = RefusedEvents(spool)
    large = [SpooledEvent("trials", b"a", os.urandom(300_000)) for _ in range(4)]
    file.append(large[0])
    spool.append([large[1]], on_disk=False, segment_bytes=1)
    with pytest.raises(SpoolFull, match="has reached its cap of 1000000 bytes"):
        spool.append(large[2:], on_disk=False, segment_bytes=10**6)
    file.append(large[2])
    with pytest.raises(SpoolFull, match="has reached its cap"):
        file.append(large[3])

    assert kept(spool)[1] == [large[0], large[2]]


def test_a_spool_with_refused_events_keeps_its_folder(spool):
    """Closing a spool leaves refused events in their place."""
    RefusedEvents(spool).append(update(1, 1))
    spool.close()

    assert kept(spool)[1] == [update(1, 1)]


def test_readmitted_events_come_from_another_writer(spool):
    """Readmitted events follow all segments, with another writer and new numbers; requests stay as they are."""
    spool.append([update(0, 4)], on_disk=False, segment_bytes=1)
    file = RefusedEvents(spool)
    for each in (update(1, 1), update(2, 2, "b_0"), CREATION, UNKNOWN, update(3, 3)):
        file.append(each)
    copies = {path: path.read_bytes() for path, _ in refused_files(spool)}
    readmit(spool)
    first, *rest = segments(spool)
    events = [SchemaStore().decode(each.value) for each in rest if each != UNKNOWN]
    for path, data in copies.items():  # as if the process was killed before it deleted them
        path.write_bytes(data)
    readmit(spool)

    assert first == update(0, 4)
    assert rest[2:4] == [CREATION, UNKNOWN]
    updates = [each for each in events if isinstance(each, TagsAdded)]
    assert [(each.trial, each.seq, each.values["number"]) for each in updates] == [
        ("a_0", 1, 1),
        ("b_0", 1, 2),
        ("a_0", 2, 3),
    ]
    assert {each.writer for each in updates} != {"w"}
    assert len({each.writer for each in updates}) == 1
    assert segments(spool) == [first, *rest, *rest]
    assert kept(spool) == ([], [])
    contents = read_segment(spool.folder / "00000002.avro")
    assert (contents.writer, contents.prefix, contents.log) == ("w", "p", "l")


def test_an_event_in_both_places_is_dropped_from_its_segment(spool):
    """After a kill, events may be in a segment and among the refused ones: they are sent once, from there."""
    spool.append([update(i, i) for i in range(1, 5)], on_disk=False, segment_bytes=1)
    spool.append([update(5, 5)], on_disk=False, segment_bytes=1)
    spool.close_segment()
    file = RefusedEvents(spool)
    for number in (2, 5):
        file.append(update(number, number))
    drop_refused(spool)

    assert segments(spool) == [update(i, i) for i in (1, 3, 4)]
    assert kept(spool)[1] == [update(2, 2), update(5, 5)]


def test_a_file_that_cannot_be_read_keeps_all_from_being_sent(spool):
    """Its events may be in a segment, too, and would be sent from there, and counted again once it can be read."""
    file = RefusedEvents(spool)
    file.append(update(1, 1))
    [(path, _)] = refused_files(spool)
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")

    for function in (drop_refused, readmit):
        with pytest.raises(SpoolError, match=r"refused-00000001\.avro cannot be read: expected a file, got a link"):
            function(spool)
