"""scikit-learn's callbacks, from version 1.9 on.

    LogisticRegression().set_callbacks(SklearnCallback()).fit(X, y)

scikit-learn calls any object that has the methods of its `FitCallback`; this module does not import it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from trialstream.integrations.target import Target
from trialstream.tracking import Tracker

__all__ = ["SklearnCallback", "SklearnScoringCallback", "parameters_of"]


def parameters_of(estimator: Any) -> dict[str, Any]:
    """Return the parameters of an estimator, and those of the estimators in them with the name of their class.

    Args:
        estimator: The estimator.

    Returns:
        Values by name.
    """
    return {name: _plain(x) for name, x in estimator.get_params(deep=False).items()}


def _plain(x: Any) -> Any:
    if hasattr(x, "get_params") and not isinstance(x, type):
        return {"class": type(x).__name__, **parameters_of(x)}
    if isinstance(x, (list, tuple)):
        return [_plain(each) for each in x]
    if isinstance(x, dict):
        return {name: _plain(each) for name, each in x.items()}
    return x


class SklearnCallback:
    """Logs the parameters of an estimator, and the durations of the tasks of its fit as chronos.

    The parameters are those of the trial, under the name of the class; a chrono has the name `<class>/<task>`.

    Args:
        tracker: The tracker; None for the current one.
    """

    def __init__(self, tracker: Tracker | None = None) -> None:
        self._target = Target(tracker)
        # When the open tasks were started; the fits of a search run in many threads.
        self._started: dict[int, float] = {}

    def __deepcopy__(self, _: object) -> SklearnCallback:
        return self

    def setup(self, estimator: Any, context: Any) -> None:
        """Log the parameters.

        Args:
            estimator: The estimator.
            context: The context of the fit.
        """
        self._target.log_arguments({context.estimator_name: self._target.call("sklearn", parameters_of, estimator)})

    def teardown(self, estimator: Any, context: Any) -> None:
        """Forget the tasks that an exception has ended.

        Args:
            estimator: The estimator.
            context: The context of the fit.
        """
        for task in context:
            self._started.pop(id(task), None)

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Start a chrono.

        Args:
            estimator: The estimator.
            context: The context of the task.
        """
        self._started[id(context)] = time.perf_counter()

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """End the chrono.

        Args:
            estimator: The estimator.
            context: The context of the task.
        """
        started, tracker = self._started.pop(id(context), None), self._target.tracker
        if started is not None and tracker is not None:
            chronos = tracker.chronos
            chronos.finish(chronos.unseen(chronos.checked(_name(context))), time.perf_counter() - started)


class SklearnScoringCallback(SklearnCallback):
    """Also logs scores, of the estimator as it is after each task of its fit.

    Args:
        scoring: Called with an estimator that is fitted so far, the training data and the targets; returns scores by
            name. They are logged as `<class>/<name>`, with the number of the task as the step.
        tracker: The tracker; None for the current one.
    """

    def __init__(self, scoring: Callable[[Any, Any, Any], Mapping[str, Any]], tracker: Tracker | None = None) -> None:
        super().__init__(tracker)
        self._scoring = scoring

    def on_fit_task_end(  # scikit-learn makes the arguments that the signature has
        self, estimator: Any, context: Any, *, X: Any = None, y: Any = None, fitted_estimator: Any = None
    ) -> None:
        """End the chrono, and log the scores.

        Args:
            estimator: The estimator.
            context: The context of the task.
            X: The training data.
            y: The targets.
            fitted_estimator: The estimator, as if the fit had ended with this task; None if there is none.
        """
        super().on_fit_task_end(estimator, context)
        tracker = self._target.tracker
        if fitted_estimator is not None and tracker is not None:
            scores = tracker.faults.call("scoring", self._scoring, fitted_estimator, X, y)
            tracker.log({context.estimator_name: scores}, step=context.task_id)


def _name(context: Any) -> str:
    return f"{context.estimator_name}/{context.task_name}"
