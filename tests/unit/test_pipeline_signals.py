"""Signals of the pipeline: wake-ups, progress and ticks."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from trialstream.pipeline.signals import ProgressSignal, WakeUp, until_tick


@pytest.mark.parametrize("period", [0.25, 0.5, 1.0, 10.0])
def test_ticks_are_multiples_of_their_period(period, monkeypatch):
    """The next tick is the next multiple of the period on the monotonic clock, also at a tick."""
    for now in (0.0, 0.125, 3.75, 1234.5, 98765.4375):
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        left = until_tick(period)

        assert 0 < left <= period
        assert (now + left) % period == 0


async def test_a_wake_up_ends_a_wait():
    """A thread that sets the flag ends the wait of the task; a flag that is set already is not waited for."""
    wake_up = WakeUp(asyncio.get_running_loop())
    waiting = asyncio.ensure_future(wake_up.wait())
    threading.Thread(target=wake_up.set).start()
    await asyncio.wait_for(waiting, 30)
    await asyncio.wait_for(wake_up.wait(), 30)


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.01])
async def test_a_wait_ends_after_its_time(seconds):
    """A wait without a wake-up ends after its time, a second one too, and a later one without a time does not."""
    wake_up = WakeUp(asyncio.get_running_loop())
    for _ in range(2):
        wake_up.clear()
        await asyncio.wait_for(wake_up.wait(seconds), 30)
    wake_up.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wake_up.wait(), 0.05)


async def test_a_cancelled_wait_sets_no_flag_later():
    """The timer of a wait that was cancelled ends no later wait."""
    wake_up = WakeUp(asyncio.get_running_loop())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wake_up.wait(0.05), 0.001)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wake_up.wait(), 0.2)


async def test_progress_wakes_all_that_wait():
    """Progress wakes the tasks that wait for it, and none that waits afterwards."""
    progress = ProgressSignal()
    progress.notify()
    waiting = [asyncio.ensure_future(progress.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(each.done() for each in waiting)
    progress.notify()
    await asyncio.wait_for(asyncio.gather(*waiting), 30)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(progress.wait(), 0.01)
