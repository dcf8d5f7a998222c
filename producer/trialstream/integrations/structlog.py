"""Processor of structlog.

structlog.configure(processors=[structlog.stdlib.add_log_level, StructlogProcessor(), structlog.dev.ConsoleRenderer()])
structlog.get_logger().info("epoch done", metrics={"loss": 0.1}, step=3)
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from trialstream.integrations.messages import Messages
from trialstream.integrations.target import Target
from trialstream.tracking import Tracker

__all__ = ["StructlogProcessor"]


class StructlogProcessor:
    """Appends each event to the output of a trial, logs its `metrics` as a row, and passes it on as it is.

    The row has the step `step` of the event, if there is one.

    Args:
        tracker: The tracker; None for the current one.
    """

    def __init__(self, tracker: Tracker | None = None) -> None:
        self._messages = Messages(Target(tracker))

    def __call__(
        self,
        logger: Any,
        method_name: str,
        event_dict: MutableMapping[str, Any],
    ) -> MutableMapping[str, Any] | Mapping[str, Any]:
        """Log an event.

        Args:
            logger: The wrapped logger.
            method_name: Name of the method that was called, such as `info`.
            event_dict: The event.

        Returns:
            The event.
        """
        self._messages.add_metrics(event_dict.get("metrics"), event_dict.get("step"))
        values = " ".join([f"{name}={x!r}" for name, x in event_dict.items() if name != "event"])
        self._messages.add(f"{method_name.upper()} {event_dict.get('event', '')} {values}".rstrip())
        return event_dict
