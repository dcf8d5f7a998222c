"""Trials that an integration starts by itself: those of a search, which one process runs one by one or at once."""

from __future__ import annotations

from typing import Any

from trialstream.tracking import SyncTracker, track

__all__ = ["MAX_RUN_ID", "start_trial"]

MAX_RUN_ID = 200
"""Longest id of a run, characters."""


def start_trial(name: str, *, run_id: str, **arguments: Any) -> SyncTracker:
    """Start a trial of this process alone, whatever launcher has started the process, and capture nothing.

    A worker of a search may be one rank of a job. Its trials are its own, and end without the other ranks.

    Args:
        name: Name of the trial.
        run_id: Id of the trial in the search: a second call with it goes on with the same trial.
        **arguments: Further arguments of `track`.

    Returns:
        The tracker.
    """
    return track(name, run_id=run_id[:MAX_RUN_ID], ranks=False, capture=False, **arguments).start()
