"""One background thread with an event loop of its own, for all I/O of a protocol.

Training code blocks its event loop for as long as a step takes, and is often not async at all. With its own loop the
sender sends, heartbeats beat and connections live on meanwhile, and calls may come from any loop or thread.

Nothing that it starts keeps the interpreter from exiting, and all of it still works in exit handlers.

Who calls from the main thread may be interrupted (Ctrl-C) at any place. So coroutines and tasks are made and let go in
the I/O thread only: a coroutine that the interrupt keeps from getting there would be reported as never awaited, and
where the last reference to a task goes, asyncio's callback for that would swallow the interrupt. Nor does
`IoThread.run` share a lock with the I/O thread that the interrupt could leave locked.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from trialstream_schemas.errors import ProtocolClosed

from trialstream.runtime.loop import DaemonLoop

__all__ = ["IoThread"]

log = logging.getLogger("trialstream")
T = TypeVar("T")
_JOIN_SECONDS = 5.0
_STOPPED = "the protocol was closed during the call: leave its block after all calls"


async def _awaited(function: Callable[..., Coroutine[Any, Any, T]], args: tuple[Any, ...]) -> T:
    return await function(*args)  # where arguments that do not fit raise for who waits


class IoThread:
    """Runs coroutines in a daemon thread, so that it can never keep the interpreter from exiting."""

    def __init__(self, name: str) -> None:
        self.loop = DaemonLoop()
        # aiokafka leaves failed futures behind when a broker goes away; what becomes of events is told elsewhere.
        self.loop.set_exception_handler(
            lambda _, context: log.debug("%s", context["message"], exc_info=context.get("exception"))
        )
        # What was submitted and has not ended, with its task once it has one.
        self._tasks: dict[concurrent.futures.Future[Any], asyncio.Task[Any] | None] = {}
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._pid = os.getpid()

    @property
    def foreign(self) -> bool:
        """Whether it was started before this process was forked: then it does not run here."""
        return self._pid != os.getpid()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()
            for outcome in list(self._tasks):
                self._cancelled(outcome)

    def submit(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> concurrent.futures.Future[T]:
        """Start a coroutine function there, in the context of the caller; cancelling the future cancels it.

        Raises:
            ProtocolClosed: the thread was stopped, or this process was forked from the one in which it runs.
        """
        outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._submit(outcome, function, args)
        return outcome

    def _submit(
        self,
        outcome: concurrent.futures.Future[T],
        function: Callable[..., Coroutine[Any, Any, T]],
        args: tuple[Any, ...],
    ) -> None:
        if self.foreign:
            raise ProtocolClosed("the protocol was opened in a parent process: call trialstream.connect() here")
        self._tasks[outcome] = None  # before the loop may close, so that it is cancelled then or refused here
        try:
            self.loop.call_soon_threadsafe(self._start, outcome, function, args)
        except RuntimeError:
            self._tasks.pop(outcome, None)
            raise ProtocolClosed("the protocol is closed: call it inside its block") from None

    def _start(
        self,
        outcome: concurrent.futures.Future[T],
        function: Callable[..., Coroutine[Any, Any, T]],
        args: tuple[Any, ...],
    ) -> None:
        if outcome.cancelled():
            self._cancelled(outcome)
            return
        self._tasks[outcome] = task = self.loop.create_task(_awaited(function, args))
        task.add_done_callback(functools.partial(self._ended, outcome))
        outcome.add_done_callback(self._cancel)

    def _ended(self, outcome: concurrent.futures.Future[T], task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self._cancelled(outcome)
            return
        del self._tasks[outcome]
        error = task.exception()
        if not outcome.set_running_or_notify_cancel():
            return
        if error is None:
            outcome.set_result(task.result())
        else:
            outcome.set_exception(error)

    def _cancelled(self, outcome: concurrent.futures.Future[Any]) -> None:
        self._tasks.pop(outcome, None)  # `submit` may take it out as well
        outcome.cancel()
        outcome.set_running_or_notify_cancel()  # tells who waits

    def _cancel(self, outcome: concurrent.futures.Future[Any]) -> None:
        """Cancel the task of what was cancelled; from any thread."""

        def cancel() -> None:
            if (task := self._tasks.get(outcome)) is not None:
                task.cancel()

        if outcome.cancelled():
            self.soon(cancel)

    def soon(self, function: Callable[..., object], *args: Any) -> None:
        """Run a function there before all that is submitted later; not at all if the thread was stopped."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *args)

    def run(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run a coroutine function there, wait, and return what it returns; not from a thread with a loop.

        Raises:
            ProtocolClosed: the thread was stopped before or meanwhile.
        """
        outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        ended: SimpleQueue[object] = SimpleQueue()
        outcome.add_done_callback(ended.put)
        try:
            self._submit(outcome, function, args)
            ended.get()
        except BaseException:  # KeyboardInterrupt, or what a signal handler raises
            self.soon(outcome.cancel)
            raise
        try:
            return outcome.result()
        except concurrent.futures.CancelledError:
            raise ProtocolClosed(_STOPPED) from None
        finally:
            del outcome  # else an exception that it holds would hold it, by this frame

    async def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run a coroutine function there and return what it returns.

        Raises:
            ProtocolClosed: the thread was stopped before or meanwhile.
        """
        return await self.result(self.submit(function, *args))

    async def result(self, future: concurrent.futures.Future[T]) -> T:
        """What a coroutine that was submitted returns.

        Raises:
            ProtocolClosed: the thread was stopped meanwhile.
        """
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if future.cancelled() and task is not None and not task.cancelling():
                # Cancelled there, by `stop`: here it would look as if somebody had cancelled the caller.
                raise ProtocolClosed(_STOPPED) from None
            raise

    def stop(self) -> None:
        """End the loop and the thread; what still runs is cancelled."""
        with suppress(ProtocolClosed):
            self.submit(self._end)
        self._thread.join(_JOIN_SECONDS)

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=_JOIN_SECONDS / 2)
        await self.loop.shutdown_asyncgens()
        self.loop.stop()
