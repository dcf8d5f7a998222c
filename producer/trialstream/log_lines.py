"""Bounds of the messages that trialstream logs, which may quote errors and values of others at any length."""

from __future__ import annotations

import logging
import traceback

from trialstream_schemas.messages import MAX_REASON, shortened

__all__ = ["MAX_TRACEBACK", "bound_messages"]

MAX_TRACEBACK = 8000
"""Maximum length of the traceback of a logged error, characters."""


def bound_messages() -> None:
    """Shorten the messages and tracebacks of the logger `trialstream`, whatever handles them."""
    logging.getLogger("trialstream").addFilter(_shorten)


def _shorten(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    if len(message) > MAX_REASON:
        record.msg, record.args = shortened(message), None
    if record.exc_info and record.exc_info[0] is not None:  # a formatter takes this text for that of the exception
        record.exc_text = shortened("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"), MAX_TRACEBACK)
    return True
