"""The events that wait on the disk of this machine."""

from __future__ import annotations

from pathlib import Path

from trialstream.config import Config
from trialstream.pipeline.push import WaitingSpool, waiting_spools

__all__ = ["own_folder", "own_spools"]


def own_folder(config: Config) -> Path:
    """Return the folder of TRIALSTREAM_SPOOL_DIR, which need not exist.

    Args:
        config: The settings.
    """
    return Path(config.spool_dir).expanduser()


def own_spools(config: Config) -> list[WaitingSpool] | None:
    """Find the spools with events in that folder.

    Args:
        config: The settings.

    Returns:
        The spools; None if there is no such folder.
    """
    folder = own_folder(config)
    return list(waiting_spools([folder])) if folder.is_dir() else None
