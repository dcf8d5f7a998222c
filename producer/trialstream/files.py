"""Files and folders in places where other users can write, too: opened by descriptor, and checked once they are open.

A name proves nothing: after any check of it, another user may put a link, a FIFO or a device there. So

- a name is opened relative to the descriptor of its folder, without following a link in its place and without blocking
  (a FIFO would wait for its writer), and type and owner are read from the open descriptor;
- a file is created under a name that does not exist, with mode 0600, and a folder with mode 0700, whatever the umask;
- a whole file is written under a temporary name, which is then renamed.

Paths that users give may be links: they are opened with `follow`.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path
from typing import BinaryIO

from trialstream_schemas.errors import InvalidValue

__all__ = [
    "ForeignFile",
    "UnexpectedFile",
    "create_file",
    "make_folder",
    "new_file",
    "open_file",
    "open_folder",
    "open_given",
    "own_folder",
    "read_limited",
    "tighten",
    "user_name",
]

_FILE_MODE, _FOLDER_MODE = 0o600, 0o700
# Errors of a name that is something else, or somebody else's.
_UNEXPECTED = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EISDIR, errno.EACCES)
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class UnexpectedFile(OSError):
    """A name stands for a link, a FIFO, a device or the like instead of a file or folder; `strerror` says for what."""


class ForeignFile(UnexpectedFile):
    """A file or folder belongs to another user; `strerror` names the user."""


def user_name(uid: int) -> str:
    """Return the name of a user and the number, for messages."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return str(uid)


def open_file(
    path: str | os.PathLike[str],
    *,
    folder: int | None = None,
    flags: int = os.O_RDONLY,
    follow: bool = False,
    own: bool = False,
) -> int:
    """Open a regular file.

    Args:
        path: Path of the file, or its name in the folder.
        folder: Descriptor of the folder; None for a path.
        flags: How to open it; a file that `O_CREAT` makes has mode 0600, whatever the umask.
        follow: Whether the last part of the path may be a link.
        own: Whether the file must belong to the user of this process.

    Returns:
        The descriptor.

    Raises:
        UnexpectedFile: There is no regular file under this name.
        ForeignFile: The file belongs to another user.
        OSError: The file cannot be opened.
    """
    return _open(path, folder, flags | os.O_NONBLOCK, stat.S_IFREG, follow=follow, own=own)


def open_folder(
    path: str | os.PathLike[str], *, folder: int | None = None, follow: bool = False, own: bool = False
) -> int:
    """Open a folder: see `open_file`."""
    return _open(path, folder, os.O_RDONLY | os.O_DIRECTORY, stat.S_IFDIR, follow=follow, own=own)


def _open(path: str | os.PathLike[str], folder: int | None, flags: int, kind: int, *, follow: bool, own: bool) -> int:
    try:
        flags |= os.O_CLOEXEC | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
        fd = os.open(path, flags, _FILE_MODE, dir_fd=folder)
    except OSError as error:
        if error.errno in _UNEXPECTED:  # find out what is there instead, and whose it is
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                _check(os.stat(path, dir_fd=folder, follow_symlinks=follow), kind, path, own=own)
        raise
    try:
        _check(os.fstat(fd), kind, path, own=own)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check(found: os.stat_result, kind: int, path: str | os.PathLike[str], *, own: bool) -> None:
    got = stat.S_IFMT(found.st_mode)
    if got != kind:
        what = f"expected {_KINDS[kind]}, got {_KINDS.get(got, 'something else')}"
        raise UnexpectedFile(errno.EINVAL, what, os.fspath(path))
    if own and found.st_uid != os.geteuid():
        raise ForeignFile(errno.EPERM, f"it belongs to the user {user_name(found.st_uid)}", os.fspath(path))


@contextmanager
def open_given(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that a user has named, for reading; the path may be a link to a regular file.

    Args:
        path: Path of the file.

    Yields:
        The file.

    Raises:
        InvalidValue: It cannot be opened or read, or is no regular file.
    """
    try:
        with open(open_file(path, follow=True), "rb") as file:
            yield file
    except OSError as error:
        raise InvalidValue(f"{path}: expected a file that can be read: {error.strerror or error}") from error


def read_limited(fd: int, limit: int) -> bytes:
    """Read a file from its position to its end, but no more than one byte beyond a limit.

    Args:
        fd: Descriptor of the file.
        limit: Number of bytes.
    """
    parts = []
    left = limit + 1
    while left and (part := os.read(fd, min(left, 1024 * 1024))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def make_folder(path: str | os.PathLike[str], *, folder: int | None = None) -> int:
    """Open a folder, and create it with mode 0700 if there is none.

    Args:
        path: Path of the folder, or its name in the other folder.
        folder: Descriptor of the other folder; None for a path.

    Returns:
        The descriptor.

    Raises:
        UnexpectedFile: Under this name there is a link, or anything else that is no folder.
        OSError: The folder can be neither created nor opened.
    """
    with suppress(FileExistsError):
        os.mkdir(path, _FOLDER_MODE, dir_fd=folder)
    return open_folder(path, folder=folder)


def own_folder(path: Path) -> Path:
    """Return the folder of this user in a folder that users may share.

    Args:
        path: The folder.

    Returns:
        The folder itself if it belongs to this user, or does not exist; otherwise `uid-<number of this user>` in it.
    """
    with suppress(OSError):
        if path.stat().st_uid != os.geteuid():
            return path / f"uid-{os.geteuid()}"
    return path


def tighten(fd: int) -> int | None:
    """Set the mode of a folder of this user to 0700 if others have rights on it.

    Args:
        fd: Descriptor of the folder.

    Returns:
        The mode before, if it was changed; otherwise None. A file system without modes keeps its own.
    """
    found = os.fstat(fd)
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid() or not mode & 0o077:
        return None
    with suppress(OSError):
        os.fchmod(fd, _FOLDER_MODE)
        return mode
    return None


def create_file(name: str, *, folder: int, flags: int = os.O_WRONLY) -> int:
    """Create a file with mode 0600.

    Args:
        name: Its name in the folder.
        folder: Descriptor of the folder.
        flags: How to open it.

    Returns:
        The descriptor.

    Raises:
        FileExistsError: There is a file, a link or anything else under this name.
        OSError: The file cannot be created.
    """
    return os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _FILE_MODE, dir_fd=folder)


@contextmanager
def new_file(path: Path, partial: str) -> Iterator[BufferedRandom]:
    """Write a file of mode 0600, which gets its name when the block has ended and the file is on the disk.

    If the block fails or is cancelled, an earlier file of this name stays as it was.

    Args:
        path: Path of the file. Its folder exists.
        partial: Temporary name of the file, in the same folder; what a killed process has left under it is replaced.

    Yields:
        The file, for writing and reading.

    Raises:
        OSError: The file cannot be written, or another process writes it, too.
    """
    folder = open_folder(path.parent, follow=True)
    try:
        with suppress(FileNotFoundError):
            os.unlink(partial, dir_fd=folder)
        with open(create_file(partial, folder=folder, flags=os.O_RDWR), "w+b") as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if not _is_named(file.fileno(), partial, folder):
                    raise OSError(errno.EBUSY, f"another process has replaced {partial}")
                os.replace(partial, path.name, src_dir_fd=folder, dst_dir_fd=folder)
                os.fsync(folder)
            except BaseException:
                if _is_named(file.fileno(), partial, folder):
                    os.unlink(partial, dir_fd=folder)
                raise
    finally:
        os.close(folder)


def _is_named(fd: int, name: str, folder: int) -> bool:
    """Whether a name in a folder is that of an open file."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(name, dir_fd=folder, follow_symlinks=False))
    except OSError:
        return False
