"""Writing to the disk: whole files, whole blocks, and errors with their reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trialstream_schemas.errors import SpoolError

__all__ = ["disk_errors", "sync_folder", "write_all", "write_whole"]


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


def write_all(fd: int, data: bytes) -> None:
    """Write all of the data to a file descriptor."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def write_whole(path: Path, data: bytes) -> None:
    """Write a file in one step, over the one that is there, and flush it to the disk."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush the folder's list of files to the disk, so that a new file survives a crash of the machine."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
