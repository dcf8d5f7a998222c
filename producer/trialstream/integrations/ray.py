"""Ray Tune: `RunConfig(callbacks=[RayTuneCallback(project="digits")])`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.logger import LoggerCallback

from trialstream.integrations.target import numbers_in
from trialstream.integrations.trials import start_trial
from trialstream.tracking import SyncTracker

__all__ = ["RayTuneCallback"]

# Entries of a result that Tune adds, and that are no results of the training.
_OWN = frozenset({"config", "pid", "timestamp", "training_iteration", "iterations_since_restore", "time_since_restore"})


class RayTuneCallback(LoggerCallback):
    """Logs each trial of Tune as a trial, in the process of the tuner; its results are rows.

    Args:
        project: Name of their project; None for none.
        group: Name of their group; None for that of the experiment.
        timeout: As for `track`.
        **settings: Settings as for `connect`.
    """

    def __init__(
        self, *, project: str | None = None, group: str | None = None, timeout: float = 30.0, **settings: Any
    ) -> None:
        self._project = project
        self._group = group
        self._timeout = timeout
        self._settings = settings
        self._trackers: dict[str, SyncTracker] = {}

    def log_trial_start(self, trial: Any) -> None:
        """Start a trial; one that Tune starts again goes on.

        Args:
            trial: The trial of Tune.
        """
        if trial.trial_id in self._trackers:
            return
        experiment = self._group or trial.experiment_dir_name
        self._trackers[trial.trial_id] = start_trial(
            f"{trial.trainable_name} {trial.trial_id}",
            project=self._project,
            group=experiment,
            parameters=trial.config,
            tags=["ray"],
            run_id=f"ray {trial.trial_id} {experiment}",
            timeout=self._timeout,
            **self._settings,
        )

    def log_trial_result(self, iteration: int, trial: Any, result: Mapping[str, Any]) -> None:
        """Log a result as a row, with the training iteration as the step.

        Args:
            iteration: Number of the iteration of the tuner.
            trial: The trial of Tune.
            result: The result.
        """
        self.log_trial_start(trial)  # Tune may restore a trial without starting it
        row = {name: x for name, x in result.items() if name not in _OWN}
        self._trackers[trial.trial_id].log(numbers_in(row), step=result.get("training_iteration", iteration))

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """End a trial.

        Args:
            trial: The trial of Tune.
            failed: Whether it has failed.
        """
        if (tracker := self._trackers.pop(trial.trial_id, None)) is not None:
            tracker.finish(RuntimeError(getattr(trial, "error_file", None) or "failed") if failed else None)
