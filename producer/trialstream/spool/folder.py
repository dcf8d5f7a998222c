"""The spool: events on disk that Kafka has not acknowledged yet, one folder for each writer.

A folder holds segments `00000001.avro`, `00000002.avro` … in the order of the events (`segment.py` is their format).
Invariants:

- a block is appended whole, and what a failed write has left is cut off: a segment is whole blocks and, after a kill, a
  torn tail at most;
- a segment is deleted when Kafka has acknowledged all of its events: the files are what has to be sent, with
  repetitions of what was acknowledged at most;
- whoever adds to a folder or sends it holds its lock, which the operating system releases when the process ends.

All of it blocks: it belongs into a thread, one call at a time.
"""

from __future__ import annotations

import errno
import fcntl
import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from trialstream_schemas.errors import SpoolBusy, SpoolError, SpoolFull

from trialstream.spool.segment import Container, Contents, Row, read_segment

__all__ = ["Segment", "Spool", "abandoned", "find_spools"]

_PATTERN = "[0-9]" * 8 + ".avro"
# A forked child has a copy of each lock, which would outlive the parent's.
_locked: weakref.WeakSet[Spool] = weakref.WeakSet()


@dataclass(eq=False, slots=True)
class Segment:
    """One file, and what the backlog knows of its events.

    Attributes:
        path: The file.
        records: Events in it.
        bytes: Its size.
        first: Number of its first event in the backlog.
        pending: Events of it that are in memory and not acknowledged.
        cold: Whether its events are on disk only.
        closed: Whether nothing will be added to it.
        damaged: Whether there is more in it than could be read.
    """

    path: Path
    records: int = 0
    bytes: int = 0
    first: int = 0
    pending: int = 0
    cold: bool = False
    closed: bool = False
    damaged: bool = False


@dataclass(slots=True)
class _Output:
    """The segment that is being written."""

    segment: Segment
    fd: int
    container: Container


class Spool:
    """The folder of one writer; it is made when the first event comes.

    Args:
        folder: Where it is.
        prefix: Prefix of the log that its events are for.
        writer: Id of the writer.
        max_bytes: What all of its files may take together.

    Attributes:
        folder: As given.
        log: Id of the log, once it is known.
        bytes: What its files take.
    """

    def __init__(self, folder: Path, prefix: str, writer: str, max_bytes: int) -> None:
        self.folder = folder
        self.log = ""
        self.bytes = 0
        self._prefix = prefix
        self._writer = writer
        self._max_bytes = max_bytes
        self._lock: int | None = None
        self._output: _Output | None = None
        self._number = 0

    # --- Opening

    def lock(self) -> None:
        """Take the folder for this process.

        Raises:
            SpoolBusy: another process has it.
            SpoolError: there is no such folder, or it cannot be opened.
        """
        if self._lock is not None:
            return
        with _errors(f"spool {self.folder} cannot be opened"):
            fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise SpoolBusy(f"spool {self.folder} is in use by a running process, which sends it itself") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # a file system without locks: nobody else is known
                os.close(fd)
                raise SpoolError(f"spool {self.folder} cannot be locked: {error.strerror}") from error
        self._lock = fd
        _locked.add(self)

    def leftovers(self) -> Iterator[tuple[Segment, Contents]]:
        """The segments that the folder holds from before, oldest first, and what is in them.

        Raises:
            SpoolError: one cannot be read.
        """
        for path in sorted(self.folder.glob(_PATTERN)):
            try:
                size = path.stat().st_size
                contents = read_segment(path)
            except FileNotFoundError:  # whoever has the folder has sent it meanwhile
                continue
            segment = Segment(path, len(contents.rows), size, closed=True, damaged=contents.damaged)
            self.bytes += segment.bytes
            yield segment, contents

    # --- Writing

    def append(self, rows: Sequence[Row], *, cold: bool, segment_bytes: int) -> Segment:
        """Add events as one block; return the segment that has them now.

        Args:
            rows: The events.
            cold: Kept in the segment: one holds either events that are on disk only, or none of these.
            segment_bytes: Size from which on a segment is closed.

        Raises:
            SpoolFull: they do not fit below the cap; nothing was added.
            SpoolError: the disk does not take them; nothing was added.
        """
        output = self._output
        if output is not None and (output.segment.cold != cold or output.segment.bytes >= segment_bytes):
            self.close_segment()
            output = None
        if output is None:
            output = self._open_segment(cold=cold)
        block = output.container.block(rows)
        if self.bytes + len(block) > self._max_bytes:
            raise SpoolFull(
                f"spool {self.folder} has reached its cap of {self._max_bytes} bytes (TRIALSTREAM_SPOOL_BYTES)"
            )
        self._write(output, block)
        output.segment.records += len(rows)
        return output.segment

    def close_segment(self) -> None:
        """Add nothing more to the present segment, and see that it is on the disk.

        Raises:
            SpoolError: the disk does not say so.
        """
        output, self._output = self._output, None
        if output is not None:
            output.segment.closed = True
            try:
                with _errors(f"{output.segment.path} may not be on the disk"):
                    os.fsync(output.fd)
            finally:
                os.close(output.fd)

    def sync(self) -> None:
        """See that what was added survives a crash of the machine too.

        Raises:
            SpoolError: the disk does not say so.
        """
        if self._output is not None:
            with _errors(f"{self._output.segment.path} may not be on the disk"):
                os.fsync(self._output.fd)

    def _open_segment(self, *, cold: bool) -> _Output:
        container = Container(self._writer, self._prefix, self.log)
        path = self.folder / f"{self._number + 1:08d}.avro"
        with _errors(f"spool {self.folder} cannot be written"):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock()
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        output = _Output(Segment(path, cold=cold), fd, container)
        try:
            self._write(output, container.header)
            _sync_folder(self.folder)
        except SpoolError:
            with suppress(OSError):
                os.close(fd)
            path.unlink(missing_ok=True)
            raise
        self._number += 1
        self._output = output
        return output

    def _write(self, output: _Output, data: bytes) -> None:
        """Append all or nothing."""
        try:
            _write_all(output.fd, data)
        except OSError as error:
            try:
                os.ftruncate(output.fd, output.segment.bytes)
            except OSError:  # the torn tail stays, so nothing may come behind it
                self._output = None
                output.segment.closed = True
                os.close(output.fd)
            raise SpoolError(f"spool {self.folder} cannot be written: {error.strerror}") from error
        output.segment.bytes += len(data)
        self.bytes += len(data)

    # --- Reading and taking away

    def read(self, segment: Segment) -> Contents:
        """What a segment holds; it is closed first.

        Raises:
            SpoolError: it cannot be read.
        """
        if self._output is not None and self._output.segment is segment:
            self.close_segment()
        with _errors(f"{segment.path} cannot be read"):
            contents = read_segment(segment.path)
        segment.damaged = contents.damaged
        return contents

    def keep(self, segment: Segment, rows: Sequence[Row]) -> None:
        """Let a closed segment hold no more than these of its events.

        Raises:
            SpoolError: the disk does not take them; the segment is as it was.
        """
        container = Container(self._writer, self._prefix, self.log)
        data = container.header + (container.block(rows) if rows else b"")
        partial = segment.path.with_suffix(".partial")
        with _errors(f"spool {self.folder} cannot be written"):
            partial.write_bytes(data)
            partial.replace(segment.path)
        self.bytes += len(data) - segment.bytes
        segment.bytes, segment.records = len(data), len(rows)

    def remove(self, segment: Segment) -> None:
        """Delete a segment that was sent; a damaged one is set aside.

        Raises:
            SpoolError: the disk does not let it go; what it holds would be sent again, and skipped by the fold.
        """
        with _errors(f"{segment.path} cannot be deleted"):
            if segment.damaged:
                segment.path.replace(segment.path.with_suffix(".damaged"))
            else:
                segment.path.unlink(missing_ok=True)
        self.bytes -= segment.bytes

    def close(self) -> None:
        """Let go of the folder, and remove it, and the one of its prefix, if nothing is left there.

        Raises:
            SpoolError: what was added last may not be on the disk.
        """
        try:
            self.close_segment()
        finally:
            if self._lock is not None:
                with suppress(OSError):  # it is not empty: the rest waits for `trialstream push`
                    self.folder.rmdir()
                    self.folder.parent.rmdir()
                self.let_go()

    def let_go(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _after_fork() -> None:
    for spool in list(_locked):
        spool.let_go()


os.register_at_fork(after_in_child=_after_fork)


def find_spools(path: Path) -> list[Path]:
    """The folders at and below a path that hold segments; processes that end take theirs away meanwhile."""
    return sorted(Path(folder) for folder, _, files in os.walk(path) if any(fnmatch(each, _PATTERN) for each in files))


def abandoned(path: Path) -> list[Path]:
    """The folders at and below a path that hold segments and that no process is using."""
    found = []
    for folder in find_spools(path):
        spool = Spool(folder, "", "", 0)
        try:
            spool.lock()
        except SpoolError:
            continue
        spool.let_go()
        found.append(folder)
    return found


@contextmanager
def _errors(what: str) -> Iterator[None]:
    """Translate errors of the operating system.

    Raises:
        SpoolError: with the reason.
    """
    try:
        yield
    except OSError as error:
        raise SpoolError(f"{what}: {error.strerror or error}") from error


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _sync_folder(folder: Path) -> None:
    """See that a new file is found again after a crash of the machine."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
