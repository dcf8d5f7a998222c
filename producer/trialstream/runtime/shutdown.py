"""The end of a process."""

from __future__ import annotations

import atexit
import multiprocessing
from collections.abc import Callable
from multiprocessing.util import Finalize

__all__ = ["at_exit"]


def at_exit(callback: Callable[[], object]) -> Callable[[], object]:
    """Call something when the interpreter ends, and return what takes that back.

    A child of `multiprocessing` ends without `atexit`; what it runs instead is `multiprocessing.util`'s.
    """
    if multiprocessing.parent_process() is not None:
        return Finalize(None, callback, exitpriority=0).cancel
    atexit.register(callback)
    return lambda: atexit.unregister(callback)
