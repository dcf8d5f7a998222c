"""Signals between the parts of the pipeline: a wake-up for one task, and a broadcast that entries were processed."""

from __future__ import annotations

import asyncio
import math
import time

import anyio

__all__ = ["ProgressSignal", "WakeUp"]


class WakeUp:
    """A flag that any thread sets and one task of an event loop waits for.

    The task clears the flag before it checks for work, so that work that arrives after the check sets the flag again.

    Args:
        loop: The event loop of the task.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()

    def set(self) -> None:
        """Set the flag, from any thread."""
        self._loop.call_soon_threadsafe(self._event.set)

    def clear(self) -> None:
        """Clear the flag, in the task."""
        self._event.clear()

    async def wait(self, seconds: float = math.inf) -> None:
        """Wait until the flag is set, but at most this number of seconds."""
        with anyio.move_on_after(seconds):
            await self._event.wait()


class ProgressSignal:
    """A broadcast to all tasks that wait until entries are acknowledged, dropped or on disk. Lives in one event loop.

    Attributes:
        last: Time of the last progress, on the monotonic clock; 0 before the first.
    """

    def __init__(self) -> None:
        self.last = 0.0
        self._event = anyio.Event()

    def notify(self) -> None:
        """Record progress, and wake all tasks that wait for it."""
        self.last = time.monotonic()
        self._event.set()
        self._event = anyio.Event()

    async def wait(self) -> None:
        """Return at the next progress."""
        await self._event.wait()
