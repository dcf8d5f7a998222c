"""The pace of a replay: how far apart events come."""

from __future__ import annotations

import math
import time

import anyio
from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.messages import shown

__all__ = ["Pace"]

# Shorter waits than this are left to add up: a sleep takes about as long.
_LEAST_SECONDS = 0.002


class Pace:
    """The pace at which events were appended, or a multiple of it.

    Args:
        speed: 1 for the pace of the log, 10 for ten times faster; None for as fast as it goes.

    Raises:
        InvalidType: The speed has another type.
        InvalidValue: The speed is not a positive number.
    """

    def __init__(self, speed: float | None) -> None:
        if speed is not None:
            if isinstance(speed, bool) or not isinstance(speed, int | float):
                raise InvalidType(f"speed: expected a number or None, got {shown(speed)}")
            if not 0 < speed < math.inf:
                raise InvalidValue(
                    f"speed: expected a positive number, or None for as fast as it goes, got {shown(speed)}"
                )
        self._speed = speed
        # When the first event came, on the monotonic clock, and when it was appended.
        self._began: tuple[float, int] | None = None

    async def wait(self, timestamp: int) -> None:
        """Wait until it is the turn of an event.

        Args:
            timestamp: When the event was appended, milliseconds since 1970 UTC.
        """
        if self._speed is None:
            return
        if self._began is None:
            self._began = time.monotonic(), timestamp
        began, first = self._began
        seconds = began + (timestamp - first) / 1000 / self._speed - time.monotonic()
        if seconds > _LEAST_SECONDS:
            await anyio.sleep(seconds)
