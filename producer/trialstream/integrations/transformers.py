"""Transformers of Hugging Face: `Trainer(…, callbacks=[TransformersCallback()])`, in the block of a tracker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from trialstream.integrations.target import Target, numbers_in
from trialstream.tracking import Tracker

__all__ = ["TransformersCallback"]

# Names of the data that a report of the trainer is about, by the beginning of the name of a value.
_PARTS = {"eval_": "eval/", "test_": "test/"}


class TransformersCallback(TrainerCallback):
    """Logs what the trainer reports as rows, with the global step, its arguments, and its checkpoints.

    `eval_loss` becomes `eval/loss`, and `loss` becomes `train/loss`; `train_loss`, the mean that the trainer reports at
    the end, becomes `train/train_loss`. The arguments are parameters of the trial, under the name `args`. Only the main
    process logs. The trial ends with the block of its tracker.

    Args:
        tracker: The tracker; None for the current one.
    """

    def __init__(self, tracker: Tracker | None = None) -> None:
        self._target = Target(tracker)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Log the arguments, and the configuration of the model as metadata.

        Args:
            args: The arguments of the training.
            state: The state of the training.
            control: Not used.
            model: The model.
        """
        if state.is_world_process_zero:
            self._target.log_arguments({"args": args.to_dict()})
            if (config := getattr(model, "config", None)) is not None and hasattr(config, "to_dict"):
                self._target.log_metadata({"model": config.to_dict()})

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Log a report.

        Args:
            args: Not used.
            state: The state of the training.
            control: Not used.
            logs: The report.
        """
        if state.is_world_process_zero and logs:
            self._target.log({_name(name): x for name, x in numbers_in(logs).items()}, step=state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark the checkpoint that the trainer has written.

        Args:
            args: The arguments of the training.
            state: The state of the training.
            control: Not used.
        """
        tracker = self._target.tracker
        if state.is_world_process_zero and tracker is not None:
            path = Path(args.output_dir, f"checkpoint-{state.global_step}")
            tracker.checkpoint(path, step=state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Set the best result.

        Args:
            args: Not used.
            state: The state of the training.
            control: Not used.
        """
        if state.is_world_process_zero and state.best_metric is not None:
            best = {"best_metric": state.best_metric, "best_model_checkpoint": state.best_model_checkpoint}
            self._target.summarize(best)


def _name(name: str) -> str:
    for begin, part in _PARTS.items():
        if name.startswith(begin):
            return part + name.removeprefix(begin)
    return name if name == "epoch" else f"train/{name}"
