"""Keras 3, over any backend: `model.fit(…, callbacks=[KerasCallback()])`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from trialstream.integrations.target import Target
from trialstream.tracking import Tracker
from trialstream.tracking.chronos import Chrono

__all__ = ["KerasCallback"]


class KerasCallback(keras.callbacks.Callback):
    """Logs the metrics of each epoch as a row, with the epoch as the step, and the chrono `epoch`.

    The parameters of the fit and of the optimizer are those of the trial, under the name `keras`.

    Args:
        tracker: The tracker; None for the current one.
        batches: Interval of the batches whose metrics are logged too, as `batch/<name>` with the number of the batch in
            the whole training; 0 for none. Keras then waits for the device at these batches.
    """

    def __init__(self, tracker: Tracker | None = None, *, batches: int = 0) -> None:
        super().__init__()
        self._target = Target(tracker)
        self._every = batches
        self._batch = 0
        self._epoch: Chrono | None = None

    def __deepcopy__(self, _: object) -> KerasCallback:
        return self

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Log the parameters.

        Args:
            logs: Nothing yet.
        """
        optimizer = getattr(self.model, "optimizer", None)
        found = dict(self.params or {})
        if optimizer is not None:
            found["optimizer"] = self._target.call("keras", optimizer.get_config)
        self._target.log_arguments({"keras": found})

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Start the chrono.

        Args:
            epoch: Number of the epoch, counted from 0.
            logs: Nothing yet.
        """
        tracker = self._target.tracker
        self._epoch = None if tracker is None else tracker.chrono("epoch").__enter__()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Log the metrics of a batch, if it is one of those to log.

        Args:
            batch: Number of the batch in its epoch.
            logs: Metrics by name.
        """
        self._batch += 1
        if self._every and logs and self._batch % self._every == 0:
            self._target.log({"batch": logs}, step=self._batch)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Log the metrics of an epoch, and end the chrono.

        Args:
            epoch: Number of the epoch, counted from 0.
            logs: Metrics by name.
        """
        self._target.log(logs, step=epoch)
        if self._epoch is not None:
            self._epoch.__exit__(None, None, None)
