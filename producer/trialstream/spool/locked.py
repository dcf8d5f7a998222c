"""A folder on disk that one process has locked at a time; its files are opened relative to its descriptor."""

from __future__ import annotations

import errno
import fcntl
import fnmatch
import os
import threading
import weakref
from contextlib import suppress
from pathlib import Path

from trialstream_schemas.errors import SpoolBusy, SpoolError

from trialstream.files import open_folder
from trialstream.spool.disk import close_to_others, disk_errors, make_folders
from trialstream.spool.segment import read_file

__all__ = ["LockedFolder"]

# Open folders. A forked child inherits each lock and would hold it after its parent has ended, so it releases all.
_opened: weakref.WeakSet[LockedFolder] = weakref.WeakSet()


class LockedFolder:
    """A folder, not opened yet, and its lock, which the operating system releases when the process ends.

    Args:
        folder: Path of the folder.
        base: Folder above it that users configure, below which no link is followed; by default the one two levels
            above.
        others_allowed: Whether the folder and its files may belong to another user.

    Attributes:
        folder: Path of the folder.
    """

    def __init__(self, folder: Path, *, base: Path | None = None, others_allowed: bool = False) -> None:
        self.folder = folder
        self._base = folder.parent.parent if base is None else base
        self._others_allowed = others_allowed
        # Descriptor of the folder, which also holds the lock.
        self._fd: int | None = None
        self._is_locked = False
        self._claiming = threading.Lock()

    def claim(self) -> None:
        """Create the folder if there is none, and lock it for this process; from any thread.

        Raises:
            SpoolBusy: Another process has locked the folder.
            SpoolError: The folder cannot be created, opened or locked.
        """
        with self._claiming:
            if self._fd is not None and not os.fstat(self._fd).st_nlink:  # the folder was deleted
                self.unlock()
            if self._fd is None:
                with disk_errors(f"spool {self.folder} cannot be written"):
                    self._fd = make_folders(self.folder, self._base)
                _opened.add(self)
            self.lock()

    def lock(self) -> None:
        """Lock the folder for this process.

        Raises:
            SpoolBusy: Another process has locked the folder.
            SpoolError: There is no such folder, or it cannot be opened or locked.
        """
        if self._is_locked:
            return
        fd = self.open()
        close_to_others(fd, self.folder)  # who can open a folder can also lock it
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpoolBusy(f"spool {self.folder} is in use by a running process, which sends its events") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # else a file system without locks: use none
                raise SpoolError(f"spool {self.folder} cannot be locked: {error.strerror}") from error
        self._is_locked = True

    def is_busy(self) -> bool:
        """Whether another process has locked the folder, which is open and not locked afterwards.

        Raises:
            SpoolError: The folder cannot be opened or locked.
        """
        try:
            self.lock()
        except SpoolBusy:
            return True
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self.open(), fcntl.LOCK_UN)
        self._is_locked = False
        return False

    def open(self) -> int:
        """Open the folder, if it is not open yet, and return its descriptor.

        Raises:
            SpoolError: There is no such folder, or it cannot be opened, or belongs to another user.
        """
        if self._fd is None:
            with disk_errors(f"spool {self.folder} cannot be opened"):
                self._fd = open_folder(self.folder, own=not self._others_allowed)
            _opened.add(self)
        return self._fd

    def names(self, pattern: str) -> list[str]:
        """Return the names of the files that match a pattern, sorted.

        Raises:
            SpoolError: The folder cannot be read.
        """
        fd = self.open()
        with disk_errors(f"spool {self.folder} cannot be read"):
            return sorted(fnmatch.filter(os.listdir(fd), pattern))  # noqa: PTH208 (of a descriptor)

    def read_file(self, name: str) -> bytes:
        """Read a file of the folder.

        Raises:
            FileNotFoundError: There is no such file.
            SpoolError: It cannot be read: see `segment.read_file`.
        """
        return read_file(self.folder / name, folder=self.open(), others_allowed=self._others_allowed)

    def unlock(self) -> None:
        """Close the folder, if it is open; this releases the lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            self._is_locked = False

    def remove_empty(self) -> None:
        """Remove the folder, if it is locked, and the one above it, if they are empty."""
        if self._is_locked:
            with suppress(OSError):  # not empty: the rest waits for `trialstream push`
                _remove(self.open(), self.folder)


def _remove(fd: int, folder: Path) -> None:
    outer = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    try:
        os.rmdir(folder.name, dir_fd=outer)
        outermost = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=outer)
        try:
            os.rmdir(folder.parent.name, dir_fd=outermost)
        finally:
            os.close(outermost)
    finally:
        os.close(outer)


def _after_fork() -> None:
    for spool in list(_opened):
        spool.unlock()


os.register_at_fork(after_in_child=_after_fork)
