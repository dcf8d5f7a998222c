"""XGBoost: `xgboost.train(params, data, evals=…, callbacks=[XGBoostCallback()])`."""

from __future__ import annotations

from typing import Any

from xgboost import Booster
from xgboost.callback import TrainingCallback

from trialstream.integrations.target import Target
from trialstream.tracking import Tracker

__all__ = ["XGBoostCallback"]


class XGBoostCallback(TrainingCallback):
    """Logs each evaluation as a row `<data>/<metric>`, with the iteration as the step.

    Of `xgboost.cv`, the mean has that name and the standard deviation `<data>/<metric>-std`. After early stopping, the
    summary has the best iteration and its score.

    Args:
        tracker: The tracker; None for the current one.
    """

    def __init__(self, tracker: Tracker | None = None) -> None:
        super().__init__()
        self._target = Target(tracker)

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Log the evaluations of an iteration.

        Args:
            model: The model.
            epoch: Number of the iteration.
            evals_log: All evaluations so far, by data and metric.

        Returns:
            False: training goes on.
        """
        row: dict[str, Any] = {}
        for data, metrics in evals_log.items():
            for metric, values in metrics.items():
                last = values[-1]
                if isinstance(last, tuple):
                    last, row[f"{data}/{metric}-std"] = last
                row[f"{data}/{metric}"] = last
        self._target.log(row, step=epoch)
        return False

    def after_training(self, model: Any) -> Any:
        """Set the results.

        Args:
            model: The model.

        Returns:
            The model.
        """
        if isinstance(model, Booster) and model.attr("best_iteration") is not None:  # of a cross-validation, none
            self._target.summarize({"best_iteration": model.best_iteration, "best_score": model.best_score})
        return model
