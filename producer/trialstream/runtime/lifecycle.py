"""The lifecycle of one connection: it is opened once and closed once, within deadlines, however the process ends.

A `Lifecycle` owns the I/O thread of a connection. In that thread it opens a `Managed` object when the user enters the
block, and closes it when the user leaves the block; an exit handler closes it if the block was never left or its
closing was interrupted. A forked child has no I/O thread and closes nothing.

`open`, `close` and `call` serve code that is async; `open_blocking`, `close_blocking` and `run` serve
`trialstream.sync`, with the same thread. The latter three take no lock that an interrupt could leave locked.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import queue
import sys
import time
import typing
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Literal, TypeVar

import anyio
from trialstream_schemas.errors import ProtocolClosed

from trialstream.runtime.io_thread import INTERPRETER_EXITS, PARENT_PROCESS, IoThread
from trialstream.runtime.origin import UserLine, user_line, warn
from trialstream.runtime.shutdown import at_exit

__all__ = ["Lifecycle", "Managed"]

logger = logging.getLogger("trialstream")
T = TypeVar("T")

# Time to send the remaining events once the block is left, seconds. Events that are not sent by then stay in the spool.
_CLOSE_SECONDS = 10.0
# Time to stop the sender, which closes its connections, and to write the rest to the spool, seconds.
_FINISH_SECONDS = 10.0
# Extra time for the I/O thread to answer, and time to begin a call, seconds. A thread that needs longer hangs, for
# example on a disk.
_HANG_SECONDS = 2.0


class Managed(typing.Protocol):
    """Interface of an object that a lifecycle opens and closes."""

    async def open(self) -> str:
        """Open the connection, in the I/O thread.

        Returns:
            A problem of which to warn the user; empty if there is none.
        """

    def report_opened(self, trouble: str) -> None:
        """Report the problem that `open` returned, in the caller's thread; called even if it is empty."""

    def stop_accepting(self) -> None:
        """Refuse further events, from any thread."""

    async def flush(self, timeout: float) -> str:
        """Send the remaining events, in the I/O thread; cancelled when the user interrupts the closing.

        Args:
            timeout: Seconds.

        Returns:
            The reason why events are still unsent; empty if none are.
        """

    async def finish(self, timeout: float) -> None:
        """Write the unsent events to disk and close all connections, in the I/O thread.

        Args:
            timeout: Seconds.
        """

    def report_unsent(self, trouble: str, line: UserLine | None, *, may_raise: bool) -> None:
        """Report the events that were not sent, and where they are; does nothing if there are none.

        Args:
            trouble: Why they were not sent.
            line: The line of the user's code that a warning points to.
            may_raise: Whether the report may raise where warnings are configured as errors.
        """


class Lifecycle:
    """Opens and closes a managed object in an I/O thread of its own.

    Args:
        managed: The object.
        name: Name of the I/O thread.
    """

    def __init__(self, managed: Managed, name: str) -> None:
        self._managed = managed
        self._name = name
        self._state: Literal["new", "open", "closed"] = "new"
        self._pid = os.getpid()
        self._closing: concurrent.futures.Future[str] | None = None
        # Whether `_closing` has ended, and a queue that gets an item then.
        self._has_closed = False
        self._closed: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._warned: set[str] = set()
        # Where it was opened: the line of warnings in exit handlers.
        self._opened_at: UserLine | None = None
        self._io: IoThread
        # Ends the flush while closing; belongs to the I/O thread.
        self._flushing: anyio.CancelScope
        self._remove_exit_handler: Callable[[], object]

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Event loop of the I/O thread."""
        return self._io.loop

    # --- Opening and closing

    async def open(self) -> None:
        """Start the I/O thread and open the managed object there.

        Raises:
            KafkaUnavailable: No broker answers, and there is no spool to work with instead.
            LogMismatch: The topics do not match the identity of the log, which was recorded at its creation, or MongoDB
                belongs to another log.
            ProtocolClosed: The connection was opened before, or gevent or eventlet has replaced the threads.
        """
        self._start_thread()
        try:
            trouble = await self._io.call(self._open)
            self._set_open()
        except BaseException:
            self._io.stop()
            raise
        try:
            self._managed.report_opened(trouble)
        except RuntimeWarning:  # warnings are errors in this process; `__aexit__` is not called if `__aenter__` raises
            await self.close(failed=True)
            raise

    def open_blocking(self) -> None:
        """Do what `open` does, from a thread that may block; further errors as for `open`.

        Raises:
            ProtocolClosed: The connection was opened before, or the interpreter finalizes, or gevent or eventlet has
                replaced the threads.
        """
        self._start_thread()
        try:
            trouble = self._io.run(self._open)
            self._set_open()
        except BaseException:
            self._io.stop()
            raise
        try:
            self._managed.report_opened(trouble)
        except RuntimeWarning:
            self.close_blocking(failed=True)
            raise

    def _start_thread(self) -> None:
        if self._state != "new":
            raise ProtocolClosed("a protocol can be opened once: make another one with connect()")
        if sys.is_finalizing():  # a thread that is started now never runs
            raise ProtocolClosed(INTERPRETER_EXITS)
        if name := _patched_by():
            raise ProtocolClosed(
                f"expected threads of the operating system, got those of {name}, which stand still while other code of "
                "this process computes: open the protocol in a process without its monkey patching"
            )
        self._opened_at = user_line()
        self._io = IoThread(self._name)

    def _set_open(self) -> None:
        self._remove_exit_handler = at_exit(self._close_at_exit)
        self._state = "open"

    async def close(self, *, failed: bool = False) -> None:
        """Send the remaining events within a deadline; keep the unsent ones in the spool, and warn of them.

        On cancellation (a second Ctrl-C), stop waiting for Kafka; still write to disk.

        Args:
            failed: Whether an exception is being raised already; then no warning replaces it.
        """
        if not self._is_open_here:
            return
        closing = self._start_closing()
        ended = asyncio.wrap_future(closing)
        deadline = time.monotonic() + _CLOSE_SECONDS + _FINISH_SECONDS + _HANG_SECONDS
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):  # a cancelled task still sends its last events
            while not ended.done() and (left := deadline - time.monotonic()) > 0:
                try:
                    await asyncio.wait([ended], timeout=left)
                except asyncio.CancelledError as error:
                    cancelled = error
                    self._stop_flushing()
                    deadline = min(deadline, time.monotonic() + _FINISH_SECONDS + _HANG_SECONDS)
        self._finish_closing(closing, user_line(), may_raise=not failed and cancelled is None)
        if cancelled is not None:
            raise cancelled

    def close_blocking(self, *, failed: bool = False) -> None:
        """Do what `close` does, from a thread that may block; on an interrupt, stop waiting for Kafka.

        Args:
            failed: As for `close`.
        """
        if not self._is_open_here:
            return
        if self._io.is_current:  # a finalizer that the garbage collector runs there: the exit handler waits for the end
            self._io.call_soon(self._start_closing)
        elif sys.is_finalizing():  # opened by an exit handler; a thread that has ended may hold the locks of the events
            self._state = "closed"
            message = "trialstream: opened by an exit handler and not closed there: its last events may be lost"
            try:
                warn(message, self._opened_at)
            except RuntimeWarning:  # warnings are errors in this process
                logger.warning("%s", message)
        else:
            self._close_and_wait(user_line(), may_raise=not failed)

    def _close_at_exit(self) -> None:
        """Close when the process ends, if the connection was not closed or its closing was interrupted."""
        if self._pid == os.getpid():
            with suppress(KeyboardInterrupt, SystemExit):  # the process ends anyway
                self._close_and_wait(self._opened_at, may_raise=False)

    def _close_and_wait(self, line: UserLine | None, *, may_raise: bool) -> None:
        """Close, or go on with a closing that was interrupted, and wait for the end."""
        closing = self._start_closing()
        try:
            self._wait_closed(_CLOSE_SECONDS + _FINISH_SECONDS + _HANG_SECONDS)
        except BaseException:  # KeyboardInterrupt, or what a signal handler raises
            self._stop_flushing()
            self._wait_closed(_FINISH_SECONDS + _HANG_SECONDS)
            self._finish_closing(closing, line, may_raise=False)
            raise
        self._finish_closing(closing, line, may_raise=may_raise)

    @property
    def _is_open_here(self) -> bool:
        """Whether this process has opened the connection, and no closing has begun: a forked child closes nothing."""
        return self._state == "open" and self._pid == os.getpid()

    def _start_closing(self) -> concurrent.futures.Future[str]:
        """Start to close, if that has not begun, and return the future."""
        if self._closing is None:
            self._state = "closed"
            # In this thread, so that nothing is logged any more even if the I/O thread hangs.
            self._managed.stop_accepting()
            self._closing = self._io.submit(self._close, when_ended=self._set_closed)
        return self._closing

    def _set_closed(self, _: object) -> None:
        self._has_closed = True
        self._closed.put(None)

    def _wait_closed(self, seconds: float) -> None:
        """Wait until `_closing` has ended, but at most this number of seconds."""
        if not self._has_closed:
            with suppress(queue.Empty):
                self._closed.get(timeout=seconds)
            self._closed.put(None)  # another thread may wait too

    def _finish_closing(
        self, closing: concurrent.futures.Future[str], line: UserLine | None, *, may_raise: bool
    ) -> None:
        """Stop the I/O thread, and report the events that were not sent."""
        try:
            trouble = closing.result(0)
        except concurrent.futures.TimeoutError:
            trouble = "the I/O thread does not answer"
        finally:
            self._remove_exit_handler()
            self._io.stop()
        self._managed.report_unsent(trouble, line or self._opened_at, may_raise=may_raise)

    def _stop_flushing(self) -> None:
        """End the wait for Kafka while closing; from any thread."""
        self._io.loop.call_soon_threadsafe(self._flushing.cancel)

    # --- In the I/O thread

    async def _open(self) -> str:
        self._flushing = anyio.CancelScope()
        return await self._managed.open()

    async def _close(self) -> str:
        trouble = "interrupted"
        try:
            with self._flushing:
                trouble = await self._managed.flush(_CLOSE_SECONDS)
        finally:
            await self._managed.finish(_FINISH_SECONDS)
        return trouble

    # --- While it is open

    def check_open(self) -> None:
        """Check that calls can be made.

        Raises:
            ProtocolClosed: The connection was not opened, or was closed, or was opened in another process.
        """
        if self._state != "open":
            raise ProtocolClosed(
                "the protocol is not open: enter `with trialstream.sync.connect() as protocol:`, or in async code "
                "`async with trialstream.connect() as protocol:`"
                if self._state == "new"
                else "the protocol is closed: call its methods inside its block, before the end of the program"
            )
        if self._pid != os.getpid():
            raise ProtocolClosed(PARENT_PROCESS)

    async def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run a coroutine function in the I/O thread.

        Args:
            function: The coroutine function.
            *args: Its arguments.

        Returns:
            What the function returns.

        Raises:
            ProtocolClosed: The connection is not open in this process, or was closed during the call.
        """
        self.check_open()
        return await self._io.call(function, *args)

    def run(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run a coroutine function in the I/O thread and block until it ends: see `IoThread.run`.

        Args:
            function: The coroutine function.
            *args: Its arguments.

        Returns:
            What the function returns.

        Raises:
            ProtocolClosed: The connection is not open in this process, or was closed during the call.
            RuntimeError: The call comes from the I/O thread itself, which cannot wait for itself.
        """
        self.check_open()
        return self._io.run(function, *args, patience=_HANG_SECONDS)

    def start(self, function: Callable[..., Coroutine[Any, Any, T]]) -> concurrent.futures.Future[T]:
        """Start a coroutine function in the I/O thread, and return its future; `open` of a managed object uses it."""
        return self._io.submit(function)

    def warn_once(self, message: str) -> None:
        """Warn the user with a `RuntimeWarning`, once for each message."""
        if message not in self._warned:
            self._warned.add(message)
            warn(message, user_line() or self._opened_at)

    def warn_in_background(self, message: str) -> None:
        """Warn the user from the I/O thread, at the line that opened the connection.

        The message is logged instead if the warning raises, which would end the sending: warnings may be configured as
        errors, and a program may handle them by functions of its own.
        """
        try:
            warn(message, self._opened_at)
        except Exception:  # noqa: BLE001 (see above)
            logger.warning("%s", message)


def _patched_by() -> str:
    """Return the name of the library that has replaced the threads of this process by its own; empty if none has."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    return ""
