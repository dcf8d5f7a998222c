"""Messages of programs as output of the trial, and numbers in them as metrics: for `logging` and structlog."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trialstream.integrations.target import Target
from trialstream.tracking.capture.output import Pieces

__all__ = ["Messages"]

# Ranks share one document, so each keeps less: as a run of 64 ranks does (tracking/capture/output.py).
_MANY = 64


class Messages:
    """Appends messages to the output of a trial, as the metadata `output/messages`.

    Of a rank of a distributed run, it is `rank<n>/output/messages`.

    Args:
        target: The trial.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._alone = Pieces(1)
        self._ranked = Pieces(_MANY)

    def add(self, text: str) -> None:
        """Append a message.

        Args:
            text: The message; the end of it if it is longer than what the trial keeps.
        """
        tracker = self._target.tracker
        if tracker is None:
            return
        name, pieces = "output/messages", self._alone
        if tracker.rank is not None:
            name, pieces = f"rank{tracker.rank}/{name}", self._ranked
        for piece in pieces.split(f"{text}\n"):  # not `take`, which has the messages of other threads, of other trials
            tracker.log_metadata({name: piece}, aggregator=pieces.aggregator)

    def add_metrics(self, metrics: object, step: Any) -> None:
        """Log the numbers of a message as a row.

        Args:
            metrics: Numbers by name; anything else is no row.
            step: Step of the row, or None.
        """
        if isinstance(metrics, Mapping):
            self._target.log(metrics, step=step)
