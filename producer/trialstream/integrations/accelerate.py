"""Accelerate: `Accelerator(log_with=AccelerateTracker())`, in the block of a tracker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerate.tracking import GeneralTracker

from trialstream.integrations.target import Target, numbers_in
from trialstream.tracking import Tracker

__all__ = ["AccelerateTracker"]


class AccelerateTracker(GeneralTracker):
    """Logs what `Accelerator.log` gets, in the main process. The trial ends with the block of its tracker.

    Args:
        tracker: The tracker; None for the current one.

    Attributes:
        name: Name of this tracker, for `Accelerator.get_tracker`.
        requires_logging_directory: Whether it writes into a folder.
        main_process_only: Whether Accelerate calls it in the main process only.
    """

    name = "trialstream"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self, tracker: Tracker | None = None) -> None:
        self._target = Target(tracker)
        super().__init__()  # reads `tracker`

    @property
    def tracker(self) -> Tracker | None:
        """The tracker; None without one."""
        return self._target.tracker

    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        """Merge the configuration into the parameters of the trial.

        Args:
            values: Values by name.
        """
        self._target.log_arguments(values)

    def log(self, values: Mapping[str, Any], step: int | None = None, **_: Any) -> None:
        """Log numbers as a row, and texts as metadata.

        Args:
            values: Values by name.
            step: Step of the row.
        """
        self._target.log(numbers_in(values), step=step)
        if texts := {name: x for name, x in values.items() if isinstance(x, str)}:
            self._target.log_metadata(texts)

    def finish(self) -> None:
        """Do nothing: the trial ends with the block of its tracker."""
