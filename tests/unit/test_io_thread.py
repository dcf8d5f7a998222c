"""The I/O thread: an event loop in a thread of its own, for calls from any loop and thread."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import weakref

import anyio
import pytest
from tracing import each_instruction
from trialstream.runtime.io_thread import IoThread
from trialstream_schemas.errors import ProtocolClosed


@pytest.fixture
def io():
    """A running I/O thread."""
    thread = IoThread("io-test")
    yield thread
    thread.stop()


@pytest.fixture
def no_collection():
    """Run no finalizers of earlier tests: Python may run them at any instruction, and drops interrupts in them."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def interrupt(call, place: int) -> set[str]:
    """Raise KeyboardInterrupt at an instruction of byte code that a call executes; return the files of its code."""
    files, instructions = set(), 0

    def look(frame):
        nonlocal instructions
        files.add(frame.f_code.co_filename)
        instructions += 1
        if instructions == place:
            raise KeyboardInterrupt

    each_instruction(call, look)
    return files


async def name_of_thread():
    """Return the name of the thread in which this runs."""
    return threading.current_thread().name


async def test_calls_run_in_the_io_thread(io):
    """A call runs in the I/O thread with its arguments, and its result is returned."""

    async def add(a, b):
        return a + b

    assert await io.call(name_of_thread) == "io-test"
    assert await io.call(add, 1, 2) == 3


async def test_exceptions_come_back(io):
    """An exception of a call is raised to the caller as it is."""

    async def fail():
        raise LookupError("there")

    with pytest.raises(LookupError, match="there"):
        await io.call(fail)


def test_calls_come_from_any_loop(io):
    """Calls come from any loop, one after the other or at the same time."""

    def work():
        return asyncio.run(io.call(name_of_thread))

    async def main():
        return await asyncio.gather(*(asyncio.to_thread(work) for _ in range(8)))

    assert asyncio.run(main()) == ["io-test"] * 8
    assert work() == "io-test"


async def test_the_io_thread_runs_while_the_caller_blocks_its_loop(io):
    """A call runs on while its caller blocks its own loop, which is the purpose of the thread."""
    done = threading.Event()

    async def work():
        await asyncio.sleep(0)
        done.set()

    io.submit(work)

    assert done.wait(10)  # this blocks the loop of the test


async def test_cancelling_the_caller_cancels_the_call(io):
    """The cancellation of a caller also ends the call in the I/O thread."""
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
    """A deadline around a call ends it with the exception of the deadline."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await io.call(asyncio.Event().wait)
    with pytest.raises(TimeoutError), anyio.fail_after(0.01):
        await io.call(asyncio.Event().wait)


async def test_stopping_ends_running_calls():
    """Stopping ends the thread, its loop and all calls; their callers get ProtocolClosed and are not cancelled."""
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


def test_stopping_ends_a_call_without_a_loop():
    """A caller without a loop gets ProtocolClosed if the thread stops during its call or before it."""
    io = IoThread("io-test")
    outcomes = []

    def wait():
        with pytest.raises(ProtocolClosed, match="during the call"):
            io.run(asyncio.Event().wait)
        outcomes.append("refused")

    waiting = threading.Thread(target=wait)
    waiting.start()
    while not any(io._tasks.values()):
        pass
    io.stop()
    waiting.join(10)

    assert outcomes == ["refused"]
    with pytest.raises(ProtocolClosed, match="inside its block"):
        io.run(name_of_thread)
    io.stop()  # a second stop has no effect


def test_a_call_during_stopping_is_cancelled():
    """A call that the loop no longer starts is cancelled, so that its caller does not wait for ever."""
    io = IoThread("io-test")
    stopping, go_on = threading.Event(), threading.Event()

    def hold():
        io.loop.stop()
        stopping.set()
        go_on.wait(10)

    io.call_soon(hold)
    stopping.wait(10)
    late = io.submit(name_of_thread)
    go_on.set()
    io._thread.join(10)

    assert late.cancelled()
    assert io._tasks == {}


def test_run_returns_and_raises(io):
    """`run` returns the result and raises the errors of its function, also a TypeError for wrong arguments."""

    async def divide(a, b):
        return a / b

    assert io.run(divide, 6, 3) == 2
    with pytest.raises(ZeroDivisionError):
        io.run(divide, 1, 0)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        io.run(divide, 1)
    assert io._tasks == {}


def test_a_call_runs_in_a_copy_of_the_callers_context(io):
    """A call sees the caller's context variables, and its changes of them do not reach the caller."""
    variable = contextvars.ContextVar("variable", default="unset")

    async def replace():
        seen = variable.get()
        variable.set("there")
        return seen

    variable.set("here")

    assert io.run(replace) == "here"
    assert variable.get() == "here"


def test_a_call_cancelled_before_its_start_does_not_run(io):
    """A call cancelled before its start does not run, and Python warns of no coroutine that was never awaited."""
    ran = []
    go_on = threading.Event()

    async def work():
        ran.append(True)

    io.call_soon(go_on.wait, 10)
    waiting = io.submit(work)
    assert waiting.cancel()
    go_on.set()
    io.run(asyncio.sleep, 0)

    assert ran == []
    assert io._tasks == {}


def test_a_result_is_released(io):
    """The thread keeps no reference to a result, which may be large."""

    class Large:
        pass

    async def make():
        return Large()

    result = weakref.ref(io.run(make))
    io.run(asyncio.sleep, 0)

    assert result() is None


def test_an_exception_is_released(io, no_collection):
    """An exception is in no reference cycle, so its locals are freed without the garbage collector."""

    class Local:
        pass

    async def fail(local):
        raise LookupError("there")

    def call():
        local = Local()
        try:
            io.run(fail, local)
        except LookupError:
            return weakref.ref(local)

    held = call()
    io.run(asyncio.sleep, 0)

    assert held() is None


def test_an_interrupt_at_any_instruction_is_raised(io, no_collection, monkeypatch):
    """An interrupt at any instruction is raised to the caller, nothing is unraisable, and the thread runs on."""
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda each: unraisable.append(repr(each.object)))
    place = 0
    interrupted = True
    while interrupted:
        place += 1
        try:
            interrupt(lambda: io.run(name_of_thread), place)
            interrupted = False
        except KeyboardInterrupt:
            pass

    assert place > 100
    assert unraisable == []
    assert io.run(name_of_thread) == "io-test"


def test_tasks_are_released_in_the_io_thread(io, no_collection):
    """The last reference to a task ends in the I/O thread: callbacks of weak references would drop interrupts."""
    for _ in range(100):
        files = interrupt(lambda: io.run(name_of_thread), -1)
        assert weakref.WeakSet.__init__.__code__.co_filename not in files


def test_the_io_thread_does_not_keep_the_interpreter_alive(io):
    """The I/O thread is a daemon."""
    [thread] = [each for each in threading.enumerate() if each.name == "io-test"]

    assert thread.daemon
