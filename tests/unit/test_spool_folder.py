"""The folder of a spool: appending, the cap, locks, and disks that fail."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
from trialstream.spool import folder as module
from trialstream.spool.finding import abandoned, find_spools
from trialstream.spool.folder import Spool
from trialstream.spool.segment import SpooledEvent, read_segment
from trialstream_schemas.errors import SpoolBusy, SpoolError, SpoolFull

KIB = 1024


def events(n, length=10):
    """Make events that do not compress."""
    return [SpooledEvent("trials", b"key", os.urandom(length)) for _ in range(n)]


@pytest.fixture
def spool(tmp_path):
    """A spool with free space."""
    made = Spool(tmp_path / "p" / "w", "p", "w", 10**9)
    yield made
    made.unlock()


def append(spool, these, *, on_disk=False, segment_bytes=10**9):
    """Append one block."""
    return spool.append(these, on_disk=on_disk, segment_bytes=segment_bytes)


def stored(spool):
    """Return all events of all segments, in their order."""
    return [event for path in sorted(spool.folder.glob("*.avro")) for event in read_segment(path).events]


def test_nothing_is_made_before_the_first_event(spool):
    """Opening a spool creates no folder; the first event does."""
    spool.close()

    assert not spool.folder.parent.exists()


def test_appended_events_are_in_the_file_at_once(spool):
    """An appended event is in the file when the append returns, so a process killed then does not lose it."""
    first, second = events(3), events(2)
    segment = append(spool, first)

    assert stored(spool) == first
    assert append(spool, second) is segment
    assert stored(spool) == first + second
    assert (segment.records, segment.bytes) == (5, segment.path.stat().st_size)
    assert spool.bytes == segment.bytes


def test_segments_are_closed_by_size_and_stage(spool):
    """Events that are on disk only have segments of their own, so that a segment is loaded as a whole."""
    one = append(spool, events(1))
    two = append(spool, events(1), on_disk=True)
    three = append(spool, events(1), on_disk=True, segment_bytes=1)

    assert [each.path.name for each in (one, two, three)] == ["00000001.avro", "00000002.avro", "00000003.avro"]
    assert [each.closed for each in (one, two, three)] == [True, True, False]


def test_a_folder_without_segments_is_removed(spool):
    """A spool without segments removes its folder, and the folder of its prefix if that is empty."""
    segment = append(spool, events(1))
    spool.close_segment()
    spool.remove(segment)
    spool.close()

    assert not spool.folder.parent.exists()
    assert spool.bytes == 0


def test_events_that_were_not_sent_stay(spool):
    """Closing a spool keeps the segments with events that were not sent."""
    these = events(4)
    append(spool, these)
    spool.close()

    assert stored(spool) == these
    [(segment, contents)] = Spool(spool.folder, "p", "", 0).leftovers()
    assert (segment.records, segment.closed, contents.events) == (4, True, these)


def test_the_cap_counts_all_files(spool, tmp_path):
    """The cap counts all files: a block beyond it is not written at all, and a sent segment frees its size."""
    spool = Spool(tmp_path / "small", "p", "w", 80 * KIB)
    first = append(spool, events(10, KIB))
    with pytest.raises(SpoolFull, match="small has reached its cap of 81920 bytes"):
        append(spool, events(60, KIB))
    before = first.path.stat().st_size
    spool.close_segment()
    append(spool, events(1))
    spool.remove(first)
    append(spool, events(30, KIB))

    assert before == first.bytes
    assert len(stored(spool)) == 31
    spool.unlock()


@pytest.mark.parametrize("written", [0, 1, 500])
@pytest.mark.parametrize("cut", [True, False], ids=["the file can be cut", "the file cannot be cut"])
def test_a_block_is_written_completely_or_not_at_all(spool, monkeypatch, written, cut):
    """The bytes of a failed write are cut off; if that fails too, readers skip them."""
    first, lost, last = events(3), events(50), events(2)
    append(spool, first)
    real = os.write

    def full(fd, data):
        if written:
            real(fd, bytes(data[:written]))
        raise OSError(errno.ENOSPC, "No space left on device")

    def uncut(fd, length):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module.os, "write", full)
    if not cut:
        monkeypatch.setattr(module.os, "ftruncate", uncut)
    with pytest.raises(SpoolError, match="cannot be written: No space left on device"):
        append(spool, lost)
    monkeypatch.undo()
    append(spool, last)

    assert stored(spool) == first + last


def test_a_partial_write_is_completed(spool, monkeypatch):
    """A block is complete if the operating system writes it in several parts."""
    real = os.write
    monkeypatch.setattr(module.os, "write", lambda fd, data: real(fd, bytes(data[:7])))
    these = events(20)
    append(spool, these)

    assert stored(spool) == these


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    """A folder that cannot be written is an error with its path and the reason."""
    (tmp_path / "file").write_text("")
    spool = Spool(tmp_path / "file" / "w", "p", "w", 10**9)

    with pytest.raises(SpoolError, match="file/w cannot be written: expected a folder, got a file"):
        append(spool, events(1))


def test_a_segment_can_be_thinned(spool):
    """A thinned segment has the kept events, and its new size is counted."""
    these = events(10)
    segment = append(spool, these)
    spool.close_segment()
    spool.keep(segment, spool.read(segment)._replace(events=these[2:4]))

    assert stored(spool) == these[2:4]
    assert (segment.records, spool.bytes) == (2, segment.path.stat().st_size)


def test_one_process_has_a_folder_at_a_time(spool):
    """A second process that opens a locked folder gets an error."""
    append(spool, events(1))
    other = Spool(spool.folder, "p", "", 0)
    with pytest.raises(SpoolBusy, match="in use by a running process"):
        other.lock()
    assert abandoned(spool.folder.parent) == []
    spool.close()

    assert abandoned(spool.folder.parent) == [spool.folder]
    other.lock()
    other.unlock()


def test_a_killed_process_releases_its_folder(tmp_path):
    """The folder of a killed process is free, even if a forked child of the process still runs."""
    script = (
        "import os, sys, signal\n"
        "from pathlib import Path\n"
        "from trialstream.spool.segment import SpooledEvent\n"
        "from trialstream.spool.folder import Spool\n"
        "spool = Spool(Path(sys.argv[1]), 'p', 'w', 10**9)\n"
        "spool.append([SpooledEvent('trials', b'a', b'b')], on_disk=False, segment_bytes=1)\n"
        "reading, writing = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.write(writing, b'.')\n"
        "    os.close(1)\n"
        "    sys.stdin.read()\n"
        "    os._exit(0)\n"
        "os.read(reading, 1)\n"
        "print('ready', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "w")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    process.wait(10)

    assert abandoned(tmp_path) == [tmp_path / "w"]
    process.stdin.close()  # ends the child
    process.stdout.close()


def test_spools_are_found_below_a_path(spool, tmp_path):
    """Spools are found at any depth below a path; a path that does not exist has none."""
    append(spool, events(1))
    other = Spool(tmp_path / "deep" / "er" / "w", "p", "w", 10**9)
    append(other, events(1))
    (tmp_path / "deep" / "notes.avro").write_text("not a segment")

    assert list(find_spools(tmp_path)) == [other.folder, spool.folder]
    assert list(find_spools(tmp_path / "nowhere")) == []
    other.unlock()


def test_a_damaged_segment_is_renamed_and_kept(spool):
    """A damaged segment is renamed and kept, although its readable events were sent: the rest is not deleted."""
    append(spool, events(1))
    segment = append(spool, events(5))
    spool.close_segment()
    data = bytearray(segment.path.read_bytes())
    data[-30] ^= 1
    segment.path.write_bytes(data)
    contents = spool.read(segment)
    spool.remove(segment)

    assert len(contents.events) == 1
    assert [each.name for each in spool.folder.iterdir()] == ["00000001.damaged"]
    assert list(find_spools(spool.folder)) == []
