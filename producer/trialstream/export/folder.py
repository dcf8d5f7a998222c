"""The folder of an export."""

from __future__ import annotations

import os
from pathlib import Path

from trialstream_schemas.errors import InvalidValue

__all__ = ["make_folder"]


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """Create a folder for this user alone, if it does not exist.

    Raises:
        InvalidValue: The folder cannot be created, or the path is a file.
    """
    path = Path(folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise InvalidValue(f"folder: expected a folder, got {path}: {error}") from error
    return path
