"""Checks of paths that users give: folders of spools to read, and folders to write spools to."""

from __future__ import annotations

import os
import tempfile
from fnmatch import fnmatch
from pathlib import Path

from trialstream_schemas.errors import SpoolError

from trialstream.spool.folder import REFUSED_NAMES, SEGMENT_NAMES

__all__ = ["check_spools", "check_writable"]

# Further files of a spool: damaged segments that were sent, and rewritten segments that a kill left behind.
_REMAINS = ("[0-9]" * 8 + ".damaged", "[0-9]" * 8 + ".partial")


def check_spools(path: Path, *, others_allowed: bool = False) -> None:
    """Check that a path is a spool, or a folder of spools, which may be empty.

    Args:
        path: The path.
        others_allowed: Whether a folder may hold other files and no spool.

    Raises:
        SpoolError: There is no such path, it is a file, it cannot be read, or it holds only other files.
    """
    wanted = f"{path}: expected a spool or a folder of spools, got"
    try:
        if not path.exists():
            raise SpoolError(f"{wanted} a path that does not exist")
        if not path.is_dir():
            raise SpoolError(f"{wanted} a file: give the folder of the spool")
        other = _other_file(path)
    except OSError as error:
        raise SpoolError(f"{path} cannot be read: {error.strerror or error}") from error
    if other is not None and not others_allowed:
        raise SpoolError(f"{wanted} a folder without spools, which holds other files such as {other}")


def _other_file(path: Path) -> Path | None:
    """Return a file that is no part of a spool; None if there is none, or if there are events."""

    def fail(error: OSError) -> None:
        raise error

    other: Path | None = None
    for folder, _, files in os.walk(path, onerror=fail):
        for file in files:
            if fnmatch(file, SEGMENT_NAMES) or fnmatch(file, REFUSED_NAMES):
                return None
            if not any(fnmatch(file, each) for each in _REMAINS):
                other = other or Path(folder, file)
    return other


def check_writable(path: Path) -> None:
    """Check that a folder can be written, or can be created; nothing is left on the disk.

    Raises:
        SpoolError: It cannot.
    """
    try:
        existing = next(each for each in (path, *path.parents) if each.exists())
        # A trial, since permissions do not say it all: file systems may be read-only or virtual.
        with tempfile.TemporaryDirectory(prefix=".trialstream-", dir=existing):
            pass
    except OSError as error:
        raise SpoolError(f"{path} cannot be written: {error.strerror or error}") from error
