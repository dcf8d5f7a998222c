"""The spool: events on disk that Kafka has not acknowledged yet, one folder for each writer.

A folder holds segments `00000001.avro`, `00000002.avro` … in the order of the events (`segment.py` has their format).
Invariants:

- a block is appended whole, and the bytes of a failed write are cut off: a segment consists of whole blocks and, after
  a kill, at most a torn tail;
- a segment is deleted when Kafka has acknowledged all of its events: the files hold all events that must still be sent,
  and possibly some acknowledged ones, which are then sent again;
- a process that writes to a folder, or sends its events, holds the folder's lock, which the operating system releases
  when the process ends;
- all files are opened relative to the descriptor of the folder, so another user who can rename the folder, or put a
  link in its place, leads no call to other files.

Events that Kafka refused lie beside the segments, in `refused-00000001.avro` … (`refused.py`).

All calls block: make them in a worker thread, one at a time; `claim` and `check_room` at any time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trialstream_schemas.errors import SpoolError, SpoolFull

from trialstream.files import create_file
from trialstream.spool.disk import disk_errors, sync_folder, write_all, write_whole
from trialstream.spool.locked import LockedFolder
from trialstream.spool.segment import Container, Contents, SpooledEvent, parse_segment

__all__ = ["REFUSED_NAMES", "SEGMENT_NAMES", "Segment", "Spool"]

# Pattern of the names of segments.
SEGMENT_NAMES = "[0-9]" * 8 + ".avro"
# Pattern of the names of files with refused events.
REFUSED_NAMES = "refused-" + SEGMENT_NAMES
# Size of the uncompressed events of the open segment from which on a new one is begun, bytes.
_PLAIN_BYTES = 32 * 1024 * 1024


@dataclass(eq=False, slots=True)
class Segment:
    """One file of a spool.

    The spool maintains `records`, `bytes`, `closed` and `damaged`; the backlog maintains `first`, `pending` and
    `on_disk`.

    Attributes:
        path: Path of the file.
        records: Number of events in the file.
        bytes: Size of the file.
        first: Number of its first event in the backlog.
        pending: Number of its events that are in memory and not acknowledged.
        on_disk: Whether its events are on disk only.
        closed: Whether nothing will be added to the file.
        damaged: Whether parts of the file could not be read.
    """

    path: Path
    records: int = 0
    bytes: int = 0
    first: int = 0
    pending: int = 0
    on_disk: bool = False
    closed: bool = False
    damaged: bool = False


@dataclass(slots=True)
class _Output:
    """The open segment, which is being written."""

    segment: Segment
    fd: int
    container: Container
    plain: int = 0


class Spool(LockedFolder):
    """The spool of one writer. Its folder is created with the first event.

    Args:
        folder: Path of the folder.
        prefix: Prefix of the log that the events belong to.
        writer: Id of the writer.
        max_bytes: Bound of the total size of all files.
        base: As for `LockedFolder`.
        others_allowed: As for `LockedFolder`.

    Attributes:
        folder: Path of the folder.
        bytes: Total size of the segments that this object has read or written.
        refused_bytes: Total size of the files with refused events that were written for this object.
    """

    def __init__(
        self,
        folder: Path,
        prefix: str,
        writer: str,
        max_bytes: int,
        *,
        base: Path | None = None,
        others_allowed: bool = False,
    ) -> None:
        super().__init__(folder, base=base, others_allowed=others_allowed)
        self.bytes = self.refused_bytes = 0
        self._log = ""
        self._prefix = prefix
        self._writer = writer
        self._max_bytes = max_bytes
        self._output: _Output | None = None
        # Number of the last segment.
        self._number = 0

    # --- Opening

    def set_log(self, log_id: str) -> None:
        """Set the id of the log, which is written into all segments that are created from now on."""
        self._log = log_id

    def container(self) -> Container:
        """Make the encoder of a new file."""
        return Container(self._writer, self._prefix, self._log)

    def check_room(self, size: int) -> None:
        """Check that a block of `size` bytes fits below the cap; from any thread.

        Raises:
            SpoolFull: It does not.
        """
        if self.bytes + self.refused_bytes + size > self._max_bytes:
            raise SpoolFull(
                f"spool {self.folder} has reached its cap of {self._max_bytes} bytes (TRIALSTREAM_SPOOL_BYTES)"
            )

    def leftovers(self) -> Iterator[tuple[Segment, Contents]]:
        """The segments that an earlier process left in the folder, oldest first, and their contents.

        Raises:
            SpoolError: A segment cannot be read.
        """
        for name in self.names(SEGMENT_NAMES):
            path = self.folder / name
            try:
                data = self.read_file(name)
            except FileNotFoundError:  # the process that holds the lock has just sent and deleted it
                continue
            contents = parse_segment(path, data)
            segment = Segment(path, len(contents.events), len(data), closed=True, damaged=contents.damaged)
            self.bytes += segment.bytes
            yield segment, contents

    # --- Writing

    def append(self, events: Sequence[SpooledEvent], *, on_disk: bool, segment_bytes: int) -> Segment:
        """Append events as one block and return their segment.

        Args:
            events: The events.
            on_disk: Whether they are on disk only; a segment does not mix such events with others.
            segment_bytes: Size of the open segment from which on a new one is begun, bytes.

        Raises:
            SpoolFull: The block does not fit below the cap; nothing was added.
            SpoolError: The write failed; nothing was added.
        """
        output = self._output
        if output is not None and (
            output.segment.on_disk != on_disk or output.segment.bytes >= segment_bytes or output.plain >= _PLAIN_BYTES
        ):
            self.close_segment()
            output = None
        if output is None:
            output = self._open_segment(on_disk=on_disk)
        block = output.container.block(events)
        self.check_room(len(block))
        self._write(output, block)
        output.segment.records += len(events)
        output.plain += sum(len(event.value) for event in events)
        return output.segment

    def close_segment(self) -> None:
        """Close the open segment, if there is one, and flush the file to the disk.

        Raises:
            SpoolError: The disk did not confirm the write.
        """
        output, self._output = self._output, None
        if output is not None:
            output.segment.closed = True
            try:
                with disk_errors(f"{output.segment.path} may not be on the disk"):
                    os.fsync(output.fd)
            finally:
                os.close(output.fd)

    def sync(self) -> None:
        """Flush the open segment to the disk: all events that were added then survive a crash of the machine.

        Raises:
            SpoolError: The disk did not confirm the write.
        """
        if self._output is not None:
            with disk_errors(f"{self._output.segment.path} may not be on the disk"):
                os.fsync(self._output.fd)

    def _open_segment(self, *, on_disk: bool) -> _Output:
        container = self.container()
        name = f"{self._number + 1:08d}.avro"
        self.claim()
        folder = self.open()
        with disk_errors(f"spool {self.folder} cannot be written"):
            fd = create_file(name, folder=folder, flags=os.O_WRONLY | os.O_APPEND)
        output = _Output(Segment(self.folder / name, on_disk=on_disk), fd, container)
        try:
            self._write(output, container.header)
            with disk_errors(f"spool {self.folder} cannot be written"):
                sync_folder(folder)
        except SpoolError:
            with suppress(OSError):
                os.close(fd)
            with suppress(OSError):  # the disk may be read-only by now
                os.unlink(name, dir_fd=folder)
            raise
        self._number += 1
        self._output = output
        return output

    def _write(self, output: _Output, data: bytes) -> None:
        """Append all of the data or nothing."""
        try:
            write_all(output.fd, data)
        except OSError as error:
            try:
                os.ftruncate(output.fd, output.segment.bytes)
            except OSError:  # the torn tail stays, so nothing may be added after it
                self._output = None
                output.segment.closed = True
                os.close(output.fd)
            raise SpoolError(f"spool {self.folder} cannot be written: {error.strerror}") from error
        output.segment.bytes += len(data)
        self.bytes += len(data)

    # --- Reading and deleting

    def read(self, segment: Segment) -> Contents:
        """Read the contents of a segment; an open segment is closed first.

        Raises:
            SpoolError: The segment cannot be read.
        """
        if self._output is not None and self._output.segment is segment:
            self.close_segment()
        with disk_errors(f"{segment.path} cannot be read"):
            contents = parse_segment(segment.path, self.read_file(segment.path.name))
        segment.damaged = contents.damaged
        return contents

    def keep(self, segment: Segment, contents: Contents) -> None:
        """Rewrite a closed segment with other contents: with fewer of its events.

        Raises:
            SpoolError: The write failed; the segment is unchanged.
        """
        size = self._write_segment(segment.path.name, contents)
        self.bytes += size - segment.bytes
        segment.bytes, segment.records = size, len(contents.events)

    def add_segment(self, contents: Contents) -> None:
        """Write a closed segment after all others, and flush the file to the disk.

        Raises:
            SpoolError: The write failed; nothing was added.
        """
        last = max((int(Path(name).stem) for name in self.names(SEGMENT_NAMES)), default=0)
        self._write_segment(f"{last + 1:08d}.avro", contents)

    def _write_segment(self, name: str, contents: Contents) -> int:
        """Write a whole segment in one step, over the one that is there, and return its size."""
        container = Container(contents.writer, contents.prefix, contents.log, contents.schemas)
        data = container.header + (container.block(contents.events) if contents.events else b"")
        with disk_errors(f"spool {self.folder} cannot be written"):
            write_whole(name, self.open(), data)
        return len(data)

    def remove(self, segment: Segment) -> None:
        """Delete a segment that was sent; a damaged one is renamed to `*.damaged` and kept.

        Raises:
            SpoolError: The segment cannot be deleted. Its events may be sent again, and the fold skips them.
        """
        fd, name = self.open(), segment.path.name
        with disk_errors(f"{segment.path} cannot be deleted"), suppress(FileNotFoundError):
            if segment.damaged:
                kept = segment.path.with_suffix(".damaged").name
                os.replace(name, kept, src_dir_fd=fd, dst_dir_fd=fd)
            else:
                os.unlink(name, dir_fd=fd)
        self.bytes -= segment.bytes

    def close(self) -> None:
        """Close the open segment and unlock the folder; remove the folder and the folder of its prefix if empty.

        Raises:
            SpoolError: The disk did not confirm the last write.
        """
        try:
            self.close_segment()
        finally:
            self.remove_empty()
            self.unlock()
