"""Signals between the parts of the pipeline: a wake-up for one task, a broadcast of progress, and ticks."""

from __future__ import annotations

import asyncio
import math
import time

import anyio

__all__ = ["ProgressSignal", "WakeUp", "until_tick"]


def until_tick(seconds: float) -> float:
    """Return the seconds until the next tick: a multiple of a period on the monotonic clock.

    Tasks do at ticks what they do regularly, so that they wake the I/O thread together. A wake-up costs more than their
    work: 0.1 to 0.3 ms of processor time on a busy machine, in which training waits for the interpreter.

    Args:
        seconds: The period.
    """
    return seconds - time.monotonic() % seconds


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
        timer = None if seconds == math.inf else self._loop.call_later(seconds, self._event.set)
        try:
            await self._event.wait()
        finally:
            if timer is not None:
                timer.cancel()


class ProgressSignal:
    """A broadcast to all tasks that wait until entries are acknowledged, dropped or on disk. Lives in one event loop.

    Attributes:
        last: Time of the last progress, on the monotonic clock; 0 before the first.
    """

    def __init__(self) -> None:
        self.last = 0.0
        # Of the tasks that wait; None if none does.
        self._event: anyio.Event | None = None

    def notify(self) -> None:
        """Record progress, and wake all tasks that wait for it."""
        self.last = time.monotonic()
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self) -> None:
        """Return at the next progress."""
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()
