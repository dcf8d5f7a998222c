"""The I/O thread: an event loop of its own, for calls from any loop and thread."""

from __future__ import annotations

import asyncio
import threading

import anyio
import pytest
from trialstream.io_thread import IoThread
from trialstream_schemas.errors import ProtocolClosed


@pytest.fixture
def io():
    """A running thread."""
    thread = IoThread("io-test")
    yield thread
    thread.stop()


async def name_of_thread():
    """Where it runs."""
    return threading.current_thread().name


async def test_calls_run_there(io):
    """With their arguments; what they return comes back."""

    async def add(a, b):
        return a + b

    assert await io.call(name_of_thread) == "io-test"
    assert await io.call(add, 1, 2) == 3


async def test_exceptions_come_back(io):
    """As they were raised."""

    async def fail():
        raise LookupError("there")

    with pytest.raises(LookupError, match="there"):
        await io.call(fail)


def test_calls_come_from_any_loop(io):
    """One after the other, and at the same time."""

    def work():
        return asyncio.run(io.call(name_of_thread))

    async def main():
        return await asyncio.gather(*(asyncio.to_thread(work) for _ in range(8)))

    assert asyncio.run(main()) == ["io-test"] * 8
    assert work() == "io-test"


async def test_it_goes_on_while_the_caller_blocks_its_loop(io):
    """That is what it is for."""
    done = threading.Event()

    async def work():
        await asyncio.sleep(0)
        done.set()

    io.submit(work)

    assert done.wait(10)  # this blocks the loop of the test


async def test_who_is_cancelled_cancels_the_call(io):
    """It ends there too."""
    started, ended = threading.Event(), threading.Event()

    async def work():
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(io.call(work))
    await asyncio.to_thread(started.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await asyncio.to_thread(ended.wait, 10)


async def test_a_deadline_ends_a_call(io):
    """It is the deadline's own exception."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await io.call(asyncio.Event().wait)
    with pytest.raises(TimeoutError), anyio.fail_after(0.01):
        await io.call(asyncio.Event().wait)


async def test_stopping_ends_what_runs():
    """The thread and its loop end; who waits gets a ProtocolClosed and is not cancelled."""
    io = IoThread("io-test")
    started = threading.Event()

    async def work():
        started.set()
        await asyncio.Event().wait()

    waiting = asyncio.create_task(io.call(work))
    await asyncio.to_thread(started.wait, 10)
    io.stop()
    [ended] = await asyncio.gather(waiting, return_exceptions=True)

    assert isinstance(ended, ProtocolClosed)
    assert io.loop.is_closed()
    assert "io-test" not in [each.name for each in threading.enumerate()]


def test_it_does_not_keep_the_interpreter(io):
    """Its thread is a daemon."""
    [thread] = [each for each in threading.enumerate() if each.name == "io-test"]

    assert thread.daemon
