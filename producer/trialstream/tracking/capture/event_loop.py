"""Lag and number of tasks of the event loop, as metrics `event_loop/…`."""

from __future__ import annotations

import asyncio
import time

from trialstream.tracking.tracker import Tracker

__all__ = ["EventLoop"]

# Interval of the measurements, seconds, and how many of them become a row: that of the largest lag.
_INTERVAL = 0.1
_COUNT = 10


class EventLoop:
    """Measures the running event loop, in a task of its own.

    Args:
        tracker: Takes the rows.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name="trialstream event loop")

    def stop(self) -> None:
        """End the task; from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def _run(self) -> None:
        while True:
            lag = 0.0
            for _ in range(_COUNT):
                due = time.perf_counter() + _INTERVAL
                await asyncio.sleep(_INTERVAL)
                lag = max(lag, time.perf_counter() - due)
            # without this task
            row = {"event_loop/lag": lag, "event_loop/tasks": len(asyncio.all_tasks()) - 1}
            self._tracker.log(row)
