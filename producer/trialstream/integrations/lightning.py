"""PyTorch Lightning: `Trainer(logger=LightningLogger())`, in the block of a tracker."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

try:
    from lightning.pytorch.loggers.logger import Logger
    from lightning.pytorch.utilities import rank_zero_only
except ImportError:  # the same under its older name
    from pytorch_lightning.loggers.logger import Logger
    from pytorch_lightning.utilities import rank_zero_only

from trialstream.integrations.target import Target
from trialstream.tracking import Tracker

__all__ = ["LightningLogger"]


class LightningLogger(Logger):
    """Logs metrics, hyperparameters and checkpoints, on rank 0, which Lightning has reduced the metrics for.

    The trial ends with the block of its tracker.

    Args:
        tracker: The tracker; None for the current one.
    """

    def __init__(self, tracker: Tracker | None = None) -> None:
        super().__init__()
        self._target = Target(tracker)
        self._step = 0
        self._best = ""

    @property
    def name(self) -> str | None:
        """Name of the trial; None without one."""
        tracker = self._target.tracker
        return None if tracker is None else tracker.trial.name

    @property
    def version(self) -> str | None:
        """Uid of the trial; None without one."""
        tracker = self._target.tracker
        return None if tracker is None else tracker.uid

    @property
    def experiment(self) -> Tracker | None:
        """The tracker, for all else; None without one."""
        return self._target.tracker

    @rank_zero_only  # type: ignore[untyped-decorator,unused-ignore]
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log a row.

        Args:
            metrics: Numbers by name.
            step: Step of the row.
        """
        self._step = self._step if step is None else step
        self._target.log(metrics, step=step)

    @rank_zero_only  # type: ignore[untyped-decorator,unused-ignore]
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Merge hyperparameters into the parameters of the trial.

        Args:
            params: The hyperparameters.
        """
        self._target.log_arguments(params)

    @rank_zero_only  # type: ignore[untyped-decorator,unused-ignore]
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Mark a checkpoint that was just written, with the last step that was logged.

        Args:
            checkpoint_callback: The `ModelCheckpoint`.
        """
        tracker = self._target.tracker
        if tracker is None:
            return
        if last := checkpoint_callback.last_model_path:  # written anew each time
            tracker.checkpoint(last, step=self._step)
        if (best := checkpoint_callback.best_model_path) and best != self._best:
            self._best = best
            tracker.checkpoint(best, step=self._step)
