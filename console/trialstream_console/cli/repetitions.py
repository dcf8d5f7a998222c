"""Repeated log messages are left out: each is logged at once, then once a minute, with how many were left out.

During an outage, drivers and workers log a line for each attempt: aiokafka logs a hundred a second. Only equal messages
count as repeated, whatever logger they come from, so no distinct message is lost. Equal messages have the same logger,
level, text and fields, with the same names, addresses, partitions and offsets; timestamps are not compared, and neither
are decimal numbers, such as the 7.9997 seconds of a timeout.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

import structlog

__all__ = ["RepetitionFilter", "add_left_out"]

_SECONDS = 60.0
# Number of messages whose repetitions are recognized, 2 MB at most. An outage has some twenty; each dead letter is one.
_MESSAGES = 1000
# Length of the longest text that is kept itself; a hash stands for a longer one.
_CHARACTERS = 2000
# A number with one decimal point, and no part of an address or a version.
_DECIMAL = re.compile(r"(?<![\w.])\d+\.\d+(?![\d.])")


class RepetitionFilter(logging.Filter):
    """Filter of a handler that drops the repetitions of warnings and errors; all other records pass.

    Args:
        clock: Returns the time in seconds; never decreases.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()  # handlers apply their filters before they take their own lock
        # By message, the time of its last line and the number of repetitions left out since; the oldest line first.
        self._lines: OrderedDict[tuple[str, int, str], tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged, and set its `left_out`: the repetitions left out since its last line.

        Args:
            record: A record of structlog or of the standard library.
        """
        if record.levelno < logging.WARNING:
            return True
        message = record.name, record.levelno, _text(record)
        now = self._clock()
        with self._lock:
            logged, left_out = self._lines.get(message, (-math.inf, 0))
            if now - logged < _SECONDS:
                self._lines[message] = logged, left_out + 1
                return False
            record.left_out = left_out
            self._lines[message] = now, 0
            self._lines.move_to_end(message)
            if len(self._lines) > _MESSAGES:
                self._lines.popitem(last=False)
        return True


def add_left_out(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Processor of structlog that adds `left_out` to the event of a record, if it is not 0.

    Args:
        event: The event, with the record as `_record`.
    """
    if left_out := getattr(event["_record"], "left_out", 0):
        event["left_out"] = left_out
    return event


def _text(record: logging.LogRecord) -> str:
    """Return what is compared of a record."""
    if isinstance(record.msg, dict):  # an event of structlog
        text = repr({key: value for key, value in record.msg.items() if key != "timestamp"})
    else:
        text = record.getMessage()
    if record.exc_info:
        text = f"{text} {record.exc_info[1]!r}"
    text = _DECIMAL.sub("#", text)
    return text if len(text) <= _CHARACTERS else hashlib.blake2b(text.encode(errors="replace")).hexdigest()
