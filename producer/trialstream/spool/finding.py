"""Finds the spools at and below a path, without following links, and without entering folders of other users."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from trialstream_schemas.errors import SpoolError

from trialstream.files import ForeignFile, open_folder, user_name
from trialstream.spool.folder import REFUSED_NAMES, SEGMENT_NAMES, Spool

__all__ = ["Found", "abandoned", "find_spools", "search"]

# Further files of a spool: damaged segments that were sent, and rewritten segments that a kill left behind.
_REMAINS = ("[0-9]" * 8 + ".damaged", "[0-9]" * 8 + ".partial")
# Number of folders on the way from a path to a spool: three below `spool_dir`, which may be in some others.
_MAX_DEPTH = 16


@dataclass
class Found:
    """Result of a search.

    Attributes:
        spools: The folders that hold events, sorted.
        foreign: Folders of other users, which were not entered → whose they are, for messages.
        others: Files that are no part of a spool.
        errors: Folders that cannot be read → why.
    """

    spools: list[Path] = field(default_factory=list)
    foreign: dict[Path, str] = field(default_factory=dict)
    others: list[Path] = field(default_factory=list)
    errors: dict[Path, str] = field(default_factory=dict)


def search(path: Path, names: Sequence[str] = (SEGMENT_NAMES, REFUSED_NAMES), *, others_allowed: bool = False) -> Found:
    """Search the folders at and below a path, 16 levels deep.

    A process that ends removes its empty folder, so a folder that was found may be gone when it is opened.

    Args:
        path: The path, which may be a link.
        names: Patterns of the files, one of which a spool must hold.
        others_allowed: Whether folders of other users are searched, too.
    """
    found = Found()
    try:
        fd = open_folder(path, follow=True)
    except OSError as error:
        found.errors[path] = error.strerror or str(error)
        return found
    _search(found, fd, path, names, _MAX_DEPTH, others_allowed=others_allowed)
    return found


def _search(found: Found, fd: int, path: Path, names: Sequence[str], depth: int, *, others_allowed: bool) -> None:
    """Search a folder, and close its descriptor."""
    try:
        with os.scandir(fd) as entries:
            kinds = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        files = [name for name, is_folder in kinds if not is_folder]
        if any(fnmatch(file, name) for file in files for name in names):
            owner = os.fstat(fd).st_uid
            if others_allowed or owner == os.geteuid():
                found.spools.append(path)
            else:
                found.foreign[path] = f"it belongs to the user {user_name(owner)}"
        found.others += [path / file for file in files if not any(fnmatch(file, each) for each in (*names, *_REMAINS))]
        for name, is_folder in kinds:
            if is_folder and depth:
                try:
                    inner = open_folder(name, folder=fd, own=not others_allowed)
                except ForeignFile as error:
                    found.foreign[path / name] = str(error.strerror)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    found.errors[path / name] = error.strerror or str(error)
                else:
                    _search(found, inner, path / name, names, depth - 1, others_allowed=others_allowed)
    finally:
        os.close(fd)


def find_spools(path: Path) -> list[Path]:
    """Find the folders of this user, at and below a path, that hold segments."""
    return search(path, (SEGMENT_NAMES,)).spools


def abandoned(path: Path) -> list[Path]:
    """Find the folders of this user, at and below a path, that hold segments and that no running process has locked."""
    found = []
    for folder in find_spools(path):
        spool = Spool(folder, "", "", 0)
        try:
            if not spool.is_busy():
                found.append(folder)
        except SpoolError:
            continue
        finally:
            spool.unlock()
    return found
