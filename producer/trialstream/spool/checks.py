"""Checks of paths that users give: folders of spools to read, and folders to write spools to."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from trialstream_schemas.errors import SpoolError

from trialstream.files import open_folder
from trialstream.spool.disk import disk_errors, make_folders
from trialstream.spool.finding import Found, search

__all__ = ["check_spools", "check_writable"]


def check_spools(path: Path, *, files_allowed: bool = False, others_allowed: bool = False) -> Found:
    """Check that a path is a spool, or a folder of spools, which may be empty.

    Args:
        path: The path.
        files_allowed: Whether a folder may hold other files and no spool.
        others_allowed: Whether folders of other users are searched, too.

    Returns:
        What is there.

    Raises:
        SpoolError: There is no such path, it is a file, it cannot be read, or it holds only other files.
    """
    wanted = f"{path}: expected a spool or a folder of spools, got"
    try:
        if not path.exists():
            raise SpoolError(f"{wanted} a path that does not exist")
        if not path.is_dir():
            raise SpoolError(f"{wanted} a file: give the folder of the spool")
    except OSError as error:
        raise SpoolError(f"{path} cannot be read: {error.strerror or error}") from error
    found = search(path, others_allowed=others_allowed)
    for folder, reason in found.errors.items():
        raise SpoolError(f"{folder} cannot be read: {reason}")
    if found.others and not found.spools and not found.foreign and not files_allowed:
        raise SpoolError(f"{wanted} a folder without spools, which holds other files such as {found.others[0]}")
    return found


def check_writable(path: Path, base: Path) -> None:
    """Check that a folder can be written, or can be created; nothing is left on the disk.

    Args:
        path: The folder.
        base: The folder above it that users configure: see `make_folders`.

    Raises:
        SpoolError: It cannot.
    """
    with disk_errors(f"{path} cannot be written"):
        existing = next(each for each in (path, *path.parents) if each.exists())
        fd = make_folders(existing, base) if existing.is_relative_to(base) else open_folder(existing, follow=True)
        try:
            # A trial, since permissions do not say it all: file systems may be read-only or virtual.
            name = f".trialstream-{secrets.token_hex(8)}"
            os.mkdir(name, dir_fd=fd)
            os.rmdir(name, dir_fd=fd)
        finally:
            os.close(fd)
