"""Callbacks that run when the process ends."""

from __future__ import annotations

import atexit
import multiprocessing
from collections.abc import Callable
from multiprocessing.util import Finalize

__all__ = ["at_exit"]


def at_exit(callback: Callable[[], object]) -> Callable[[], object]:
    """Register a callback for the end of the interpreter.

    A child process of `multiprocessing` ends without running `atexit` callbacks; it runs the finalizers of
    `multiprocessing.util` instead, so the callback is registered there.

    Args:
        callback: Called once, without arguments.

    Returns:
        A function that removes the registration.
    """
    if multiprocessing.parent_process() is not None:
        return Finalize(None, callback, exitpriority=0).cancel
    atexit.register(callback)
    return lambda: atexit.unregister(callback)
