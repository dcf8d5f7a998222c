"""Events that Kafka refused, on disk: files `refused-00000001.avro` … in the folder of a spool.

The files have the format of segments. An event is on the disk before it leaves the queue, so an event of the spool is
acknowledged, in a segment or in one of these files; after a kill it may be in a segment and in one of these files.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from trialstream.spool.disk import disk_errors, sync_folder, write_all
from trialstream.spool.folder import REFUSED_NAMES, Spool
from trialstream.spool.segment import Contents, SpooledEvent, read_segment

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
        self._path: Path | None = None
        self._bytes = 0

    def append(self, event: SpooledEvent) -> None:
        """Append an event and flush the file to the disk.

        Raises:
            SpoolFull: The event does not fit below the cap of the spool; nothing was added.
            SpoolError: The write failed; nothing was added.
        """
        if self._path is None or self._bytes >= _FILE_BYTES:
            self._path, self._bytes = self._begin(), 0
            self._container = self._spool.container()
            data = self._container.header
        else:
            data = b""
        data += self._container.block([event])
        path = self._path
        try:
            self._spool.check_room(len(data))
            with disk_errors(f"{path} cannot be written"):
                self._append(path, data)
        except BaseException:
            if self._bytes == 0:
                with suppress(OSError):  # the disk may be read-only by now
                    path.unlink()
            self._path = None  # its end is unknown, so nothing may be added after it
            raise
        self._bytes += len(data)
        self._spool.refused_bytes += len(data)

    def _begin(self) -> Path:
        """Return the path of the next file."""
        self._spool.claim()
        numbers = [int(path.stem.partition("-")[2]) for path in self._spool.folder.glob(REFUSED_NAMES)]
        return self._spool.folder / f"refused-{max(numbers, default=0) + 1:08d}.avro"

    def _append(self, path: Path, data: bytes) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        sync_folder(path.parent)


def read_refused(folder: Path) -> list[tuple[Path, Contents]]:
    """Read the refused events of a spool, oldest first.

    Args:
        folder: Folder of the spool.

    Returns:
        The files and their contents.

    Raises:
        SpoolError: A file cannot be read.
    """
    return [(path, read_segment(path)) for path in sorted(folder.glob(REFUSED_NAMES))]
