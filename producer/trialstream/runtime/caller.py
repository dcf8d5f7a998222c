"""The thread that waits for a call in the I/O thread: functions of the user run there.

A callback may depend on its thread (torch chooses the device by thread), may take long, and may raise `SystemExit`,
which would end the event loop of the I/O thread.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import queue
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any

from trialstream_schemas.errors import InvalidType

from trialstream.runtime.origin import UserLine

__all__ = ["Caller", "CallerFailed", "current_caller", "in_caller"]

# The thread that waits for the current task; None if no thread is blocked, as in a task of the user's own loop.
current_caller: ContextVar[Caller | None] = ContextVar("current_caller", default=None)
# The answer of a function that raised.
_FAILED = object()


class CallerFailed(Exception):
    """A function raised an exception in the caller's thread, where it is raised again at the end of the call."""


class Caller:
    """A thread that is blocked in a call, and runs functions for that call until it ends.

    It shares no lock with the I/O thread, so it may be interrupted at any instruction.

    Args:
        line: The line of the user's code that made the call.

    Attributes:
        line: As given.
        thread: Identity of the thread.
        failure: The exception of the last function that raised one; None if none did.
    """

    def __init__(self, line: UserLine | None) -> None:
        self.line = line
        self.thread = threading.get_ident()
        self.failure: BaseException | None = None
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._unclaimed = [self]

    def claim(self) -> bool:
        """Return True to the first thread that claims to run the call, and False to any other."""
        try:
            self._unclaimed.pop()
        except IndexError:
            return False
        return True

    def end(self, _: object) -> None:
        """End `wait`, from any thread."""
        self._work.put(None)

    def wait(self, patience: float | None) -> bool:
        """Run functions in this thread until `end` is called.

        Args:
            patience: Seconds that the call may take to begin; None for any.

        Returns:
            Whether the call has ended; False if it has not begun, and this thread has claimed it.
        """
        try:
            work = self._work.get(timeout=patience)
        except queue.Empty:
            if self.claim():
                return False
            work = self._work.get()
        while work is not None:
            work()
            work = self._work.get()
        return True

    async def run(self, function: Callable[[], object]) -> Any:
        """Run a function in the blocked thread, and wait for its end in the I/O thread.

        Args:
            function: The function.

        Returns:
            What the function returns.

        Raises:
            CallerFailed: The function raised an exception; it is in `failure`.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        def reply(found: object) -> None:
            if not answer.done():  # otherwise the call was cancelled
                answer.set_result(found)

        def work() -> None:
            found: object = _FAILED
            try:
                found = function()
            except BaseException as error:  # noqa: BLE001 (raised again at the end of the call)
                self.failure = error
            with suppress(RuntimeError):  # the protocol was closed meanwhile
                loop.call_soon_threadsafe(reply, found)

        self._work.put(work)
        if (found := await answer) is _FAILED:
            raise CallerFailed
        return found


async def in_caller(function: Callable[[], object]) -> Any:
    """Run a function, sync or async, in the thread of the caller: the blocked one if there is one, otherwise this one.

    Args:
        function: The function. If a blocked thread runs it and it is async, it gets an event loop of its own.

    Returns:
        What the function returns, awaited if it is async.

    Raises:
        InvalidType: The function is async, and its thread is blocked and runs an event loop.
    """
    if (caller := current_caller.get()) is not None:
        return await caller.run(functools.partial(_run_blocking, function))
    found = function()
    return await found if inspect.isawaitable(found) else found


def _run_blocking(function: Callable[[], object]) -> object:
    found = function()
    if not inspect.isawaitable(found):
        return found
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_await(found))
    if inspect.iscoroutine(found):
        found.close()
    raise InvalidType(
        "callback: expected a function that is not async, since this thread runs an event loop, got an async one: use "
        "trialstream.connect() in code that is async"
    )


async def _await(found: Awaitable[object]) -> object:
    return await found
