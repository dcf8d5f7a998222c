"""One background thread with an event loop of its own, for all I/O of a protocol.

Training code blocks its event loop for as long as a step takes, and is often not async at all. With its own loop the
sender sends, heartbeats beat and connections live on meanwhile, and calls may come from any loop or thread.

Nothing that it starts keeps the interpreter from exiting, and all of it still works in exit handlers.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from trialstream_schemas.errors import ProtocolClosed

from trialstream.daemon_loop import DaemonLoop

__all__ = ["IoThread"]

log = logging.getLogger("trialstream")
T = TypeVar("T")
_JOIN_SECONDS = 5.0


class IoThread:
    """Runs coroutines in a daemon thread, so that it can never keep the interpreter from exiting."""

    def __init__(self, name: str) -> None:
        self.loop = DaemonLoop()
        # aiokafka leaves failed futures behind when a broker goes away; what becomes of events is told elsewhere.
        self.loop.set_exception_handler(
            lambda _, context: log.debug("%s", context["message"], exc_info=context.get("exception"))
        )
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

    def submit(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> concurrent.futures.Future[T]:
        """Start a coroutine function there; cancelling the future cancels it.

        Raises:
            ProtocolClosed: this process was forked from the one in which it runs.
        """
        if self.foreign:
            raise ProtocolClosed("the protocol was opened in a parent process: call trialstream.connect() here")
        return asyncio.run_coroutine_threadsafe(function(*args), self.loop)

    def soon(self, function: Callable[..., object], *args: Any) -> None:
        """Run a function there before all that is submitted later; not at all if the thread was stopped."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *args)

    async def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run a coroutine function there and return what it returns.

        Raises:
            ProtocolClosed: the thread was stopped meanwhile.
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
                raise ProtocolClosed(
                    "the protocol was closed during the call: leave its block after all calls"
                ) from None
            raise

    def stop(self) -> None:
        """End the loop and the thread; what still runs is cancelled."""
        asyncio.run_coroutine_threadsafe(self._cancel_all(), self.loop).add_done_callback(
            lambda _: self.loop.call_soon_threadsafe(self.loop.stop)
        )
        self._thread.join(_JOIN_SECONDS)

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=_JOIN_SECONDS / 2)
        await self.loop.shutdown_asyncgens()
