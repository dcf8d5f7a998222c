"""Ignite: `IgniteLogger().attach_output_handler(engine, Events.EPOCH_COMPLETED, tag="train", metric_names="all")`."""

from __future__ import annotations

from typing import Any

from ignite.handlers.base_logger import BaseLogger, BaseOptimizerParamsHandler, BaseOutputHandler

from trialstream.integrations.target import Target
from trialstream.tracking import Tracker

__all__ = ["IgniteLogger", "OptimizerParamsHandler", "OutputHandler"]


class OutputHandler(BaseOutputHandler):
    """Logs the output, the metrics and attributes of an engine as a row `<tag>/<name>`."""

    def __call__(self, engine: Any, logger: IgniteLogger, event_name: Any) -> None:
        """Log a row.

        Args:
            engine: The engine.
            logger: The logger.
            event_name: The event, which has the step.
        """
        row = self._setup_output_metrics_state_attrs(engine, log_text=False, key_tuple=False)
        logger.target.log(row, step=self.global_step_transform(engine, event_name))


class OptimizerParamsHandler(BaseOptimizerParamsHandler):
    """Logs a parameter of the groups of an optimizer, such as the learning rate."""

    def __call__(self, engine: Any, logger: IgniteLogger, event_name: Any) -> None:
        """Log a row.

        Args:
            engine: The engine.
            logger: The logger.
            event_name: The event, which has the step.
        """
        tag = f"{self.tag}/" if self.tag else ""
        groups = enumerate(self.optimizer.param_groups)
        row = {f"{tag}{self.param_name}/group_{i}": float(group[self.param_name]) for i, group in groups}
        logger.target.log(row, step=engine.state.get_event_attrib_value(event_name))


class IgniteLogger(BaseLogger):
    """Logs to a trial what is attached to engines. The trial ends with the block of its tracker.

    Args:
        tracker: The tracker; None for the current one.

    Attributes:
        target: The trial.
    """

    def __init__(self, tracker: Tracker | None = None) -> None:
        self.target = Target(tracker)

    def _create_output_handler(self, *args: Any, **kwargs: Any) -> OutputHandler:
        return OutputHandler(*args, **kwargs)

    def _create_opt_params_handler(self, *args: Any, **kwargs: Any) -> OptimizerParamsHandler:
        return OptimizerParamsHandler(*args, **kwargs)
