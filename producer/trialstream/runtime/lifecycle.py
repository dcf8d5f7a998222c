"""From opening to closing, whatever way a process ends: once each, in an I/O thread, and by deadlines."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import secrets
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeVar

import anyio
from trialstream_schemas.errors import ProtocolClosed

from trialstream.runtime.io_thread import IoThread
from trialstream.runtime.shutdown import at_exit

__all__ = ["Lifecycle"]

T = TypeVar("T")

# What is not sent so many seconds after the protocol is left stays in the spool, and is reported.
_CLOSE_SECONDS = 10.0
# To stop the sender, which lets go of its connections, and to write what is left to the spool.
_FINISH_SECONDS = 10.0
# For the answer of an I/O thread that should have answered by then: it hangs, on a disk for example.
_HANG_SECONDS = 2.0


class Lifecycle(ABC):
    """See the module.

    Attributes:
        writer: Id of this protocol and process, as it stands in `Trial.writers`.
    """

    # Ends the wait for Kafka when closing.
    _patience: anyio.CancelScope

    def __init__(self) -> None:
        self.writer = secrets.token_hex(8)
        self._state: Literal["new", "open", "closed"] = "new"
        self._pid = os.getpid()
        self._closing: concurrent.futures.Future[str] | None = None
        self._warned: set[str] = set()

    # --- What is different

    @abstractmethod
    async def _open(self) -> str:
        """In the I/O thread: open; return what the user should hear of it."""

    @abstractmethod
    def _tell_opened(self, trouble: str) -> None:
        """Tell the user."""

    @abstractmethod
    def _shut(self) -> None:
        """Take no more events."""

    @abstractmethod
    async def _close(self, sending: float, finishing: float) -> str:
        """In the I/O thread: send what is left for so many seconds, and finish in so many; return what was in the way.

        The first ends when `_patience` does.
        """

    @abstractmethod
    def _tell_left(self, trouble: str, *, may_raise: bool, stacklevel: int) -> None:
        """Say what was not sent, and what becomes of it."""

    # --- What is always so

    async def open(self) -> None:
        """Connect, and start what runs all the time.

        Raises:
            KafkaUnavailable: no broker answers, and there is no spool to work without.
            LogMismatch: the topics are not what they were.
            ProtocolClosed: it was opened before.
        """
        if self._state != "new":
            raise ProtocolClosed("a protocol can be entered once: make another with trialstream.connect()")
        self._io = IoThread(f"trialstream-{self.writer}")
        try:
            trouble = await self._io.call(self._open)
        except BaseException:
            self._io.stop()
            raise
        self._state = "open"
        self._stay = at_exit(self._at_exit)
        try:
            self._tell_opened(trouble)
        except RuntimeWarning:  # warnings are errors here, and nobody will leave what was not entered
            await self.close(failed=True)
            raise

    async def close(self, *, failed: bool = False) -> None:
        """Send what is left, within a deadline, leave the rest in the spool, and warn of it.

        Who is cancelled meanwhile (a second Ctrl-C) does not wait for Kafka any more, but for the disk.

        Args:
            failed: Whether an exception is on its way: then no warning takes its place.
        """
        closing = self._leave()
        if closing is None:
            return
        ended = asyncio.wrap_future(closing)
        deadline = time.monotonic() + _CLOSE_SECONDS + _FINISH_SECONDS + _HANG_SECONDS
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):  # a cancelled run still gets its last events out
            while not ended.done() and (left := deadline - time.monotonic()) > 0:
                try:
                    await asyncio.wait([ended], timeout=left)
                except asyncio.CancelledError as error:
                    cancelled = error
                    self._hurry()
                    deadline = min(deadline, time.monotonic() + _FINISH_SECONDS + _HANG_SECONDS)
        self._end(closing, may_raise=not failed and cancelled is None, stacklevel=5)
        if cancelled is not None:
            raise cancelled

    def _at_exit(self) -> None:
        """Do the same at the end of a process that did not, or whose closing was interrupted."""
        closing = self._leave() or self._closing
        if closing is None or self._pid != os.getpid():
            return
        try:
            concurrent.futures.wait([closing], _CLOSE_SECONDS + _FINISH_SECONDS + _HANG_SECONDS)
        except KeyboardInterrupt:
            self._hurry()
            concurrent.futures.wait([closing], _FINISH_SECONDS + _HANG_SECONDS)
        self._end(closing, may_raise=False, stacklevel=3)

    def _leave(self) -> concurrent.futures.Future[str] | None:
        """Begin to close, if it was opened here and has not begun."""
        # A forked child has no I/O thread, and nothing to send.
        if self._state == "new" or self._closing is not None or self._pid != os.getpid():
            return None
        self._state = "closed"
        self._shut()  # here, so that what was logged is counted even where the I/O thread hangs
        self._closing = self._io.submit(self._close, _CLOSE_SECONDS, _FINISH_SECONDS)
        return self._closing

    def _hurry(self) -> None:
        """Let the closing wait for Kafka no longer."""
        self._io.loop.call_soon_threadsafe(self._patience.cancel)

    def _end(self, closing: concurrent.futures.Future[str], *, may_raise: bool, stacklevel: int) -> None:
        """Stop, and say what was not sent."""
        try:
            trouble = closing.result(0)
        except concurrent.futures.TimeoutError:
            trouble = "the I/O thread does not answer"
        finally:
            self._stay()
            self._io.stop()
        self._tell_left(trouble, may_raise=may_raise, stacklevel=stacklevel + 1)

    def check_open(self) -> None:
        """Check that calls can be made.

        Raises:
            ProtocolClosed: it was not opened, or closed, or opened in another process.
        """
        if self._state != "open":
            raise ProtocolClosed(
                "the protocol is not open: use it inside `async with trialstream.connect() as protocol:`"
                if self._state == "new"
                else "the protocol is closed: log inside its `async with` block"
            )
        if self._pid != os.getpid():
            raise ProtocolClosed("the protocol was opened in a parent process: call trialstream.connect() here")

    async def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run a coroutine function in the I/O thread and return what it returns."""
        self.check_open()
        return await self._io.call(function, *args)

    def warn_once(self, message: str) -> None:
        """Warn, once of each thing; from the caller's side."""
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, RuntimeWarning, stacklevel=4)
