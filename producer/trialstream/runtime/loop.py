"""An event loop whose blocking work never keeps the interpreter, and which a forked child cannot disturb."""

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
# Threads for the disk and for looking up hosts: both may hang for minutes, and neither may wait for the other.
_DAEMONS = 16
# Threads for the driver of MongoDB, so many calls at a time.
_DRIVER_DAEMONS = 32


class _Daemons:
    """Daemon threads that run what blocks.

    Not an executor of `concurrent.futures`: the interpreter waits for the threads of those when it exits, and refuses
    them more work from then on, before exit handlers run.

    Args:
        limit: How many threads at most.
        ready: How many are started now: an interpreter that is exiting may not let any be started.
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
        """Run a function in one of them; from one thread only."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*args))
                except BaseException as error:  # noqa: BLE001 (it belongs to who waits)
                    future.set_exception(error)

        self._work.put(work)
        if not self._idle.acquire(blocking=False) and self._threads < self._limit:
            self._start()
        return future

    def _start(self) -> None:
        try:
            threading.Thread(target=self._run, name="trialstream-daemon", daemon=True).start()
        except RuntimeError:  # exiting: those that there are do it
            if not self._threads:
                raise
        else:
            self._threads += 1

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # and with it what it holds, until the next comes
            self._idle.release()

    def close(self) -> None:
        """Let the threads end, each when it has nothing to do."""
        for _ in range(self._threads):
            self._work.put(None)


class DaemonLoop(asyncio.SelectorEventLoop):
    """See the module: what blocks (the disk, DNS, the driver of MongoDB) runs in daemon threads."""

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
        """Run it in a daemon thread, whatever the executor: only the driver of MongoDB brings one."""
        daemons = self._daemons if executor is None else self._driver_daemons
        return asyncio.wrap_future(daemons.submit(func, *args), loop=self)

    def close(self) -> None:
        """Close it."""
        super().close()
        self._daemons.close()
        self._driver_daemons.close()

    def forget(self) -> None:
        """In a forked child: watch nothing.

        On Linux the child shares what is watched with its parent. Connections that the child's garbage collector closes
        would no longer be watched in the parent, which would not see any answer on them.
        """
        if sys.platform == "linux" and not self.is_closed():
            with selectors.EpollSelector() as fresh:
                os.dup2(fresh.fileno(), self._poll.fileno(), inheritable=False)


_loops: weakref.WeakSet[DaemonLoop] = weakref.WeakSet()


def _after_fork() -> None:
    for loop in list(_loops):
        loop.forget()


os.register_at_fork(after_in_child=_after_fork)


async def run_sync(function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
    """Run what blocks in a thread that never keeps the interpreter; its end is waited for even when cancelled."""
    running = asyncio.get_running_loop().run_in_executor(None, function, *args)
    with anyio.CancelScope(shield=True):
        await asyncio.wait([running])
    return running.result()
