"""Rows with values that a device is still computing: the I/O thread reads them once they are there.

At each of its looks into the inbox, the I/O thread looks whether the device has reached the copies of the values. It
never waits for that: a device may be busy for minutes, such as in a collective operation that waits for another
process. Meanwhile heartbeats, and what is logged for other trials, are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trialstream.pipeline.frames import MetricsFrame

__all__ = ["LateRow"]


class LateRow:
    """A row of metrics some of whose values are still being computed. Apart from its making, for the I/O thread.

    Args:
        frame: The frame that gathers the row.
        done: For each of these values, whether it is there; raises an exception if the device has failed.
        read: Returns the row as items of the inbox have it, once all values are there.
        size: Estimated memory, bytes.

    Attributes:
        frame: As given.
        size: As given.
    """

    __slots__ = ("_done", "_read", "frame", "size")

    def __init__(
        self, frame: MetricsFrame, done: Sequence[Callable[[], bool]], read: Callable[[], Any], size: int
    ) -> None:
        self.frame = frame
        self.size = size
        self._done = done
        self._read = read

    def is_ready(self) -> bool:
        """Whether all values are there, or the device has failed, so that they never will be."""
        try:
            return all(done() for done in self._done)
        except Exception:  # noqa: BLE001 (of any library; `read` raises it)
            return True

    def read(self) -> Any:
        """Return the row as items of the inbox have it.

        Raises:
            TimeoutError: Not all values are there.
            Exception: The error of the device, of a type of its library.
        """
        if not all([done() for done in self._done]):
            raise TimeoutError("the device has not computed it")
        return self._read()
