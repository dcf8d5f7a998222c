"""SIGTERM: an exception in the main thread, so that the blocks of a training script end as they do at Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

__all__ = ["Terminated", "received", "watch"]

_received: list[str] = []
# One for each call of `watch` that has not ended.
_watching: set[object] = set()


class Terminated(SystemExit):
    """The process got a signal that ends it. Its exit code is 128 plus the number of the signal, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.name = signal.Signals(number).name

    def __str__(self) -> str:
        return self.name


def watch() -> Callable[[], None]:
    """Raise `Terminated` in the main thread at SIGTERM, if the user has no handler and this is the main thread.

    Returns:
        A function that ends this.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    handler = signal.getsignal(signal.SIGTERM)
    if handler == signal.SIG_DFL:
        _received.clear()
        signal.signal(signal.SIGTERM, _raise)
    elif handler is not _raise:
        return lambda: None
    watch = object()
    _watching.add(watch)

    def end() -> None:
        _watching.discard(watch)
        if not _watching:
            _unwatch()

    return end


def received() -> str | None:
    """Return the name of the signal that has ended this process; None if there was none.

    A task of asyncio sees its own cancellation instead of the exception.
    """
    return _received[-1] if _received else None


def _unwatch() -> None:
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is _raise:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
    terminated = Terminated(number)
    _received.append(terminated.name)
    raise terminated


def _unwatch_in_child() -> None:
    """End at once at SIGTERM in the child of a fork, as without a tracker: the trial is that of the parent."""
    _watching.clear()
    _unwatch()


os.register_at_fork(after_in_child=_unwatch_in_child)
