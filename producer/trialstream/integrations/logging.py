"""Handler of Python's `logging`.

    logging.getLogger("train").addHandler(LogHandler())
    logging.getLogger("train").info("epoch done", extra={"metrics": {"loss": 0.1}, "step": 3})

`ts.track(capture=True)` copies the messages that reach the root logger, as `output/logging`. This handler is for chosen
loggers, and for numbers in messages.
"""

from __future__ import annotations

import logging

from trialstream.integrations.messages import Messages
from trialstream.integrations.target import Target
from trialstream.tracking import Tracker

__all__ = ["LogHandler"]

# Their messages report the sending of events: each one would be an event, which is sent, which makes messages.
_OWN = ("trialstream", "aiokafka")


class LogHandler(logging.Handler):
    """Appends each message to the output of a trial, and logs the numbers in its `extra` as a row.

    `extra={"metrics": {…}}` is a row, with the step `extra={"step": …}` if there is one. Messages of trialstream and of
    its Kafka client are left out.

    Args:
        tracker: The tracker; None for the current one.
        level: Lowest level of the messages.
    """

    def __init__(self, tracker: Tracker | None = None, level: int | str = logging.INFO) -> None:
        super().__init__(level)
        self._messages = Messages(Target(tracker))
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Log a message.

        Args:
            record: The message.
        """
        if record.name.partition(".")[0] in _OWN:
            return
        try:
            self._messages.add_metrics(getattr(record, "metrics", None), getattr(record, "step", None))
            self._messages.add(self.format(record))
        except Exception:  # noqa: BLE001 (a message whose arguments do not fit it; as handlers do)
            self.handleError(record)
