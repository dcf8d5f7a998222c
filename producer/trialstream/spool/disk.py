"""Writing to the disk: folders, whole files, whole blocks, and errors with their reason."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trialstream_schemas.errors import SpoolError

from trialstream.files import ForeignFile, create_file, make_folder, open_folder, tighten, user_name

__all__ = ["close_to_others", "disk_errors", "make_folders", "sync_folder", "write_all", "write_whole"]

logger = logging.getLogger("trialstream")


@contextmanager
def disk_errors(message: str) -> Iterator[None]:
    """Translate errors of the operating system.

    Args:
        message: Message of the raised error, to which the reason is added.

    Raises:
        SpoolError: The operating system reported an error.
    """
    try:
        yield
    except OSError as error:
        raise SpoolError(f"{message}: {error.strerror or error}") from error


def make_folders(path: Path, base: Path) -> int:
    """Open a folder, and create those that are missing on the way.

    Below the base, links are not followed, and no folder may belong to another user, unless that user owns the base,
    too: some file systems show one owner for everything.

    Args:
        path: The folder.
        base: The folder above it that users configure; it may be a link.

    Returns:
        The descriptor of the folder.

    Raises:
        OSError: A folder can be neither created nor opened, or belongs to another user.
    """
    base.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        base.mkdir(0o700)
    fd = open_folder(base, follow=True)
    owners = {os.geteuid(), os.fstat(fd).st_uid}
    for part in path.relative_to(base).parts:
        base /= part
        outer = fd
        try:
            fd = make_folder(part, folder=outer)
        finally:
            os.close(outer)
        if (owner := os.fstat(fd).st_uid) not in owners:
            os.close(fd)
            raise ForeignFile(errno.EPERM, f"{part} belongs to the user {user_name(owner)}")
        close_to_others(fd, base)
    return fd


def close_to_others(fd: int, path: Path) -> None:
    """Set the mode of a folder of this user to 0700, with a warning if others had rights on it.

    Args:
        fd: Descriptor of the folder.
        path: Its path, for the warning.
    """
    if (mode := tighten(fd)) is not None:
        logger.warning("the mode of the spool's folder %s was %o, and is 700 now", path, mode)


def write_all(fd: int, data: bytes) -> None:
    """Write all of the data to a file descriptor."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def write_whole(name: str, folder: int, data: bytes) -> None:
    """Write a file in one step, over the one that is there, and flush it to the disk.

    Args:
        name: Its name in the folder.
        folder: Descriptor of the folder.
        data: The bytes.
    """
    partial = Path(name).with_suffix(".partial").name
    with suppress(FileNotFoundError):
        os.unlink(partial, dir_fd=folder)
    fd = create_file(partial, folder=folder)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
    sync_folder(folder)


def sync_folder(folder: int) -> None:
    """Flush the list of files of an open folder to the disk, so that a new file survives a crash of the machine."""
    os.fsync(folder)
