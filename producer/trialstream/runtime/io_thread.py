"""The I/O thread: one background thread with an event loop of its own, for all I/O of a protocol.

Training code blocks its event loop for as long as a step takes, and is often not async at all. With a loop of its own,
the protocol can still send events and heartbeats and keep its connections alive, and calls may come from any loop or
thread.

Nothing that the thread starts keeps the interpreter from exiting, and all of it still works in exit handlers.

A call from the main thread may be interrupted (Ctrl-C) at any instruction. Two rules keep that safe:

- Coroutines and tasks are created and released in the I/O thread only. If the caller created a coroutine and the
  interrupt came before it was handed over, Python would report it as never awaited. If the caller released the last
  reference to a task, the interrupt could come inside asyncio's weak-reference callback, where Python swallows it.
- `IoThread.run` takes no lock that the I/O thread also takes, since an interrupt could leave it locked. The exception
  is a call that the I/O thread has not begun after seconds: the thread hangs, and the rest of a call that logs must not
  hang with it.

Once the interpreter finalizes, only the finalizing thread runs. A call that waited for the I/O thread then would never
return, so it is refused.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

from trialstream_schemas.errors import ProtocolClosed

from trialstream.runtime.caller import Caller, current_caller
from trialstream.runtime.loop import DaemonLoop
from trialstream.runtime.origin import on_behalf_of, user_line

__all__ = ["CLOSED_DURING_CALL", "INTERPRETER_EXITS", "PARENT_PROCESS", "IoThread", "runs_in_caller"]

logger = logging.getLogger("trialstream")
T = TypeVar("T")
_JOIN_SECONDS = 5.0
# Messages of `ProtocolClosed`.
CLOSED_DURING_CALL = "the protocol was closed during the call: leave its block only after the last call"
PARENT_PROCESS = "the protocol was opened in a parent process: call trialstream.connect() here"
INTERPRETER_EXITS = "the interpreter exits and runs no other threads any more: log before the end of the program"


# Whether the current coroutine runs in the thread of its caller, since the I/O thread hangs: then `call` blocks.
_runs_here: ContextVar[bool] = ContextVar("runs_here", default=False)


def runs_in_caller() -> bool:
    """Whether the current coroutine runs in the thread of its caller, since the I/O thread hangs."""
    return _runs_here.get()


def _run_here(function: Callable[..., Coroutine[Any, Any, T]], args: tuple[Any, ...]) -> T:
    """Run a coroutine function in this thread, in a copy of its context."""

    def run() -> T:
        _runs_here.set(True)
        coroutine = function(*args)
        try:
            while coroutine.send(None) is None:
                pass
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]
        coroutine.close()
        raise ProtocolClosed("the I/O thread does not answer, so no async callback can run")

    return copy_context().run(run)


async def _awaited(function: Callable[..., Coroutine[Any, Any, T]], args: tuple[Any, ...]) -> T:
    return await function(*args)  # called here: a TypeError for wrong arguments is then raised in the caller


class IoThread:
    """Runs coroutines in a daemon thread, which cannot keep the interpreter from exiting.

    Args:
        name: Name of the thread.

    Attributes:
        loop: Event loop of the thread.
    """

    def __init__(self, name: str) -> None:
        self.loop = DaemonLoop()
        # aiokafka leaves failed futures behind when a broker goes away; lost events are reported elsewhere.
        self.loop.set_exception_handler(
            lambda _, context: logger.debug("%s", context["message"], exc_info=context.get("exception"))
        )
        # Every submitted call that has not ended, with its task once there is one.
        self._tasks: dict[concurrent.futures.Future[Any], asyncio.Task[Any] | None] = {}
        # Whether a call has not begun for a long time; then `run` makes further calls in the threads of their callers.
        self._hangs = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._pid = os.getpid()

    @property
    def foreign(self) -> bool:
        """Whether the thread belongs to a parent process: after a fork it does not run in the child."""
        return self._pid != os.getpid()

    @property
    def is_current(self) -> bool:
        """Whether the calling code runs in this thread."""
        return threading.get_ident() == self._thread.ident

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()
            for future in list(self._tasks):
                self._end_cancelled(future)

    def submit(
        self,
        function: Callable[..., Coroutine[Any, Any, T]],
        *args: Any,
        when_ended: Callable[[object], None] | None = None,
    ) -> concurrent.futures.Future[T]:
        """Start a coroutine function in the I/O thread, in the caller's context.

        Args:
            function: The coroutine function.
            *args: Its arguments.
            when_ended: Called with the future at the end, in the I/O thread.

        Returns:
            The future of its result; cancelling the future cancels the task.

        Raises:
            ProtocolClosed: The thread was stopped, or runs in a parent process, or the interpreter finalizes.
        """
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        if when_ended is not None:
            future.add_done_callback(when_ended)
        self._submit(future, function, args)
        return future

    def _submit(
        self,
        future: concurrent.futures.Future[T],
        function: Callable[..., Coroutine[Any, Any, T]],
        args: tuple[Any, ...],
        caller: Caller | None = None,
    ) -> None:
        if self.foreign:
            raise ProtocolClosed(PARENT_PROCESS)
        if sys.is_finalizing():
            raise ProtocolClosed(INTERPRETER_EXITS)
        # Registered first: if the loop closes now, the call is either cancelled by `_run` or refused here.
        self._tasks[future] = None
        try:
            self.loop.call_soon_threadsafe(self._start, future, function, args, caller)
        except RuntimeError:
            self._tasks.pop(future, None)
            raise ProtocolClosed("the protocol is closed: call its methods inside its block") from None

    def _start(
        self,
        future: concurrent.futures.Future[T],
        function: Callable[..., Coroutine[Any, Any, T]],
        args: tuple[Any, ...],
        caller: Caller | None,
    ) -> None:
        self._hangs = False
        if future.cancelled():
            self._end_cancelled(future)
            return
        if caller is not None and not caller.claim():
            return
        # In a copy of the caller's context, which the task inherits: an interrupt could leave them set in the original.
        current_caller.set(caller)
        if caller is not None:
            on_behalf_of.set(caller.line)
        self._tasks[future] = task = self.loop.create_task(_awaited(function, args))
        task.add_done_callback(functools.partial(self._ended, future))
        future.add_done_callback(self._cancel)

    def _ended(self, future: concurrent.futures.Future[T], task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self._end_cancelled(future)
            return
        del self._tasks[future]
        error = task.exception()
        if not future.set_running_or_notify_cancel():
            return
        if error is None:
            future.set_result(task.result())
        else:
            future.set_exception(error)

    def _end_cancelled(self, future: concurrent.futures.Future[Any]) -> None:
        self._tasks.pop(future, None)  # `submit` may remove it as well
        future.cancel()
        future.set_running_or_notify_cancel()  # wakes the waiting caller

    def _cancel(self, future: concurrent.futures.Future[Any]) -> None:
        """Cancel the task of a cancelled future; from any thread."""

        def cancel() -> None:
            if (task := self._tasks.get(future)) is not None:
                task.cancel()

        if future.cancelled():
            self.call_soon(cancel)

    def call_soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function in the I/O thread, before all calls that are submitted later; no-op after `stop`.

        Args:
            function: The function.
            *args: Its arguments.
        """
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *args)

    def run(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, patience: float | None = None) -> T:
        """Run a coroutine function in the I/O thread and block until it ends; it may use `in_caller` meanwhile.

        Args:
            function: The coroutine function.
            *args: Its arguments.
            patience: Seconds that the call may take to begin; None for any. If it takes longer, the I/O thread hangs,
                and the call runs in this thread: one that only logs need not wait for the I/O thread.

        Returns:
            What the function returns.

        Raises:
            ProtocolClosed: The thread was stopped before or during the call, or the interpreter finalizes.
            RuntimeError: The call comes from the I/O thread itself, which cannot wait for itself.
        """
        if self.is_current:
            raise RuntimeError(
                "expected a call from a thread of the user, got one from the I/O thread, where a finalizer or a "
                "handler of warnings or logs may run: it cannot wait for itself"
            )
        if self._hangs and patience is not None:
            return _run_here(function, args)
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        caller = Caller(user_line())
        future.add_done_callback(caller.end)
        try:
            self._submit(future, function, args, caller)
            if not caller.wait(patience):
                self._hangs = True
                self._tasks.pop(future, None)
                return _run_here(function, args)
        except BaseException:  # KeyboardInterrupt, or what a signal handler raises
            self.call_soon(future.cancel)
            raise
        failure, caller.failure = caller.failure, None
        try:
            if failure is not None:
                raise failure
            try:
                return future.result()
            except concurrent.futures.CancelledError:
                raise ProtocolClosed(CLOSED_DURING_CALL) from None
        finally:
            del future, failure  # they hold this frame: without this, a reference cycle would keep them alive

    async def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run a coroutine function in the I/O thread and await its end; in the I/O thread itself, just await it.

        Args:
            function: The coroutine function.
            *args: Its arguments.

        Returns:
            What the function returns.

        Raises:
            ProtocolClosed: The thread was stopped before or during the call, or the caller does not run on asyncio.
        """
        if _runs_here.get():
            return self.run(function, *args)
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            raise ProtocolClosed(
                "expected a running asyncio event loop, got none: run the program with asyncio, not with trio, or use "
                "trialstream.sync in a worker thread"
            ) from None
        if running is self.loop:  # a method of the protocol that `run` has brought here
            return await function(*args)
        future = self.submit(function, *args)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if future.cancelled() and task is not None and not task.cancelling():
                # `stop` cancelled the task: CancelledError would wrongly mean that the caller was cancelled.
                raise ProtocolClosed(CLOSED_DURING_CALL) from None
            raise

    def stop(self) -> None:
        """Stop the loop and the thread; tasks that still run are cancelled."""
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
