"""The event loop of the I/O thread.

Its blocking work runs in daemon threads, so it never keeps the interpreter from exiting, and a forked child cannot
disturb the connections of its parent.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import selectors
import sys
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar, TypeVarTuple, Unpack

import anyio

__all__ = ["DaemonLoop", "run_sync"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
# Number of threads for the disk and for DNS look-ups. Both may hang for minutes, and neither may wait for the other.
_DAEMONS = 16
# Number of threads for the MongoDB driver, which is the maximum number of its concurrent calls.
_DRIVER_DAEMONS = 32


class _Daemons:
    """Daemon threads for blocking calls.

    An executor of `concurrent.futures` is not suitable: an exiting interpreter waits for the executor's threads, and
    the executor refuses further work before exit handlers run.

    Args:
        limit: Maximum number of threads.
        ready: Number of threads to start now, since an exiting interpreter may refuse to start any.
    """

    def __init__(self, limit: int, ready: int = 0) -> None:
        self._limit = limit
        self._idle = threading.Semaphore(0)
        self._threads = 0
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        for _ in range(ready):
            self._start()
            self._idle.release()

    def submit(self, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> concurrent.futures.Future[T]:
        """Run a function in one of the daemon threads. Only one thread may call `submit`."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*args))
                except BaseException as error:  # noqa: BLE001 (raised in the waiting caller)
                    future.set_exception(error)

        self._work.put(work)
        if not self._idle.acquire(blocking=False) and self._threads < self._limit:
            self._start()
        return future

    def _start(self) -> None:
        try:
            threading.Thread(target=self._run, name="trialstream-daemon", daemon=True).start()
        except RuntimeError:  # the interpreter is exiting: the threads that exist do the work
            if not self._threads:
                raise
        else:
            self._threads += 1

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # releases its arguments before the next item arrives
            self._idle.release()

    def close(self) -> None:
        """End each thread as soon as it is idle."""
        for _ in range(self._threads):
            self._work.put(None)


class DaemonLoop(asyncio.SelectorEventLoop):
    """A selector event loop that runs blocking calls (disk, DNS, MongoDB driver) in daemon threads."""

    def __init__(self) -> None:
        self._poll = selectors.DefaultSelector()
        super().__init__(self._poll)
        self._daemons = _Daemons(_DAEMONS, ready=1)  # the disk is needed at exit
        self._driver_daemons = _Daemons(_DRIVER_DAEMONS)
        _loops.add(self)

    def run_in_executor(
        self,
        executor: concurrent.futures.Executor | None,
        func: Callable[[Unpack[Ts]], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        """Run a blocking function in a daemon thread.

        Args:
            executor: None for disk and DNS. Only the MongoDB driver passes one; its calls get threads of their own.
            func: The function.
            *args: Its arguments.

        Returns:
            The future of its result.
        """
        daemons = self._daemons if executor is None else self._driver_daemons
        return asyncio.wrap_future(daemons.submit(func, *args), loop=self)

    def close(self) -> None:
        """Close the loop and end its threads."""
        super().close()
        self._daemons.close()
        self._driver_daemons.close()

    def unwatch_after_fork(self) -> None:
        """In a forked child, stop watching file descriptors.

        On Linux a child shares its parent's epoll set. If the child's garbage collector closed a connection, the parent
        would stop watching that connection too, and would never receive an answer on it.
        """
        if sys.platform == "linux" and not self.is_closed():
            with selectors.EpollSelector() as fresh:
                os.dup2(fresh.fileno(), self._poll.fileno(), inheritable=False)


_loops: weakref.WeakSet[DaemonLoop] = weakref.WeakSet()


def _after_fork() -> None:
    for loop in list(_loops):
        loop.unwatch_after_fork()


os.register_at_fork(after_in_child=_after_fork)


async def run_sync(function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
    """Run a blocking function in a daemon thread of the running `DaemonLoop`.

    Args:
        function: The function.
        *args: Its arguments.

    Returns:
        What the function returns. If the caller is cancelled, it still waits for the end of the function.
    """
    running = asyncio.get_running_loop().run_in_executor(None, function, *args)
    with anyio.CancelScope(shield=True):
        await asyncio.wait([running])
    return running.result()
