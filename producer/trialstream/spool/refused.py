"""Events that Kafka refused, on disk: files `refused-00000001.avro` … in the folder of a spool.

The files have the format of segments. An event is on the disk before it leaves the queue, so an event of the spool is
acknowledged, in a segment or in one of these files; after a kill it may be in a segment and in one of these files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from trialstream.files import create_file, open_file
from trialstream.spool.disk import disk_errors, sync_folder, write_all
from trialstream.spool.folder import REFUSED_NAMES, Spool
from trialstream.spool.segment import Contents, SpooledEvent, parse_segment

__all__ = ["RefusedEvents", "read_refused"]

# Size from which on a new file is begun, bytes: a file is read and sent as a whole, as a segment is.
_FILE_BYTES = 8 * 1024 * 1024


class RefusedEvents:
    """Writer of refused events. Its first file is created with the first event.

    All calls block: make them in a worker thread, one at a time.

    Args:
        spool: The spool whose folder holds the files.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._name = ""
        self._bytes = 0

    def append(self, event: SpooledEvent) -> None:
        """Append an event and flush the file to the disk.

        Raises:
            SpoolFull: The event does not fit below the cap of the spool; nothing was added.
            SpoolError: The write failed; nothing was added.
        """
        if not self._name or self._bytes >= _FILE_BYTES:
            self._name, self._bytes = self._begin(), 0
            self._container = self._spool.container()
            data = self._container.header
        else:
            data = b""
        data += self._container.block([event])
        name, folder = self._name, self._spool.open()
        try:
            self._spool.check_room(len(data))
            with disk_errors(f"{self._spool.folder / name} cannot be written"):
                self._append(name, folder, data)
        except BaseException:
            if self._bytes == 0:
                with suppress(OSError):  # the disk may be read-only by now
                    os.unlink(name, dir_fd=folder)
            self._name = ""  # its end is unknown, so nothing may be added after it
            raise
        self._bytes += len(data)
        self._spool.refused_bytes += len(data)

    def _begin(self) -> str:
        """Return the name of the next file."""
        self._spool.claim()
        numbers = [int(Path(name).stem.partition("-")[2]) for name in self._spool.names(REFUSED_NAMES)]
        return f"refused-{max(numbers, default=0) + 1:08d}.avro"

    def _append(self, name: str, folder: int, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_APPEND
        fd = open_file(name, folder=folder, flags=flags) if self._bytes else create_file(name, folder=folder)
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        sync_folder(folder)


def read_refused(spool: Spool) -> Iterator[tuple[Path, bytes, Contents]]:
    """Read the refused events of a spool, oldest first, one file at a time.

    Args:
        spool: The spool.

    Yields:
        The path, the bytes and the contents of each file.

    Raises:
        SpoolError: A file cannot be read.
    """
    for name in spool.names(REFUSED_NAMES):
        path = spool.folder / name
        try:
            data = spool.read_file(name)
        except FileNotFoundError:  # another process has just sent and deleted it
            continue
        yield path, data, parse_segment(path, data)
