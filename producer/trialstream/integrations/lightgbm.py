"""LightGBM: `lightgbm.train(params, data, valid_sets=…, callbacks=[LightGBMCallback()])`. It is not imported here."""

from __future__ import annotations

from typing import Any

from trialstream.integrations.target import Target
from trialstream.tracking import Tracker

__all__ = ["LightGBMCallback"]


class LightGBMCallback:
    """Logs each evaluation as a row `<data>/<metric>`, with the iteration as the step, and the parameters.

    Of `lightgbm.cv`, the mean has that name and the standard deviation `<data>/<metric>-std`. The parameters are those
    of the trial, under the name `lightgbm`.

    Args:
        tracker: The tracker; None for the current one.

    Attributes:
        order: Position among the callbacks, before that of early stopping, which ends an iteration by an exception.
        before_iteration: Whether LightGBM calls it before an iteration.
    """

    order = 25
    before_iteration = False

    def __init__(self, tracker: Tracker | None = None) -> None:
        self._target = Target(tracker)

    def __call__(self, env: Any) -> None:
        """Log an iteration.

        Args:
            env: State of the training.
        """
        if env.iteration == env.begin_iteration:
            self._target.log_arguments({"lightgbm": env.params})
        row: dict[str, float] = {}
        for data, metric, value, _, *deviation in env.evaluation_result_list or ():
            row[f"{data}/{metric}"] = value
            if deviation and deviation[0] is not None:
                row[f"{data}/{metric}-std"] = deviation[0]
        self._target.log(row, step=env.iteration)
