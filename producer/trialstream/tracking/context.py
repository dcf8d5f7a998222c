"""The tracker of the present context: of the task, of the thread, or of the process."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar

from trialstream.tracking.tracker import Tracker

__all__ = ["current", "enter"]

_current: ContextVar[Tracker | None] = ContextVar("trialstream_tracker", default=None)
# The open trackers of this process, the latest last: for threads, which do not inherit the context of their starter.
_open: list[Tracker] = []


def current() -> Tracker | None:
    """Return the tracker of this context.

    Returns:
        The tracker whose block this task or thread is in; outside of all blocks, as in a new thread, the latest one
        that this process has opened; None if there is none, as in the child of a fork.
    """
    tracker = _current.get()
    if tracker in _open:
        return tracker
    return next(reversed(_open), None)  # in one step, since another thread may close it


def enter(tracker: Tracker) -> Callable[[], None]:
    """Make a tracker the current one.

    Args:
        tracker: The tracker, just opened.

    Returns:
        A function that ends this; from any task or thread.
    """
    _open.append(tracker)
    token = _current.set(tracker)

    def leave() -> None:
        if tracker in _open:
            _open.remove(tracker)
        with suppress(ValueError):  # another context than that of `enter`, whose tracker is not open any more
            _current.reset(token)

    return leave


def _leave_in_child() -> None:
    """Close the trackers of the parent in the child of a fork, where they cannot log."""
    while _open:
        _open.pop().close_in_child()


os.register_at_fork(after_in_child=_leave_in_child)
