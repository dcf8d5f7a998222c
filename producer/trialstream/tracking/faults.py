"""Errors inside the tracker: they never reach training. Each kind is logged once, and all are counted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

__all__ = ["Faults", "Health"]

T = TypeVar("T")
logger = logging.getLogger("trialstream")
# Kinds of errors that are logged; a program that makes more kinds than this has them counted only.
_MAX_KINDS = 1000


class Health(NamedTuple):
    """State of a tracker.

    Attributes:
        queued: Events that wait to be acknowledged, in memory or on disk.
        spooled: Queued events that are on disk.
        sent: Events that Kafka has acknowledged.
        dropped: Events that were dropped, since there was no space or Kafka refused them.
        errors: Errors of calls of the tracker, such as values that could not be logged; each kind was logged once.
    """

    queued: int
    spooled: int
    sent: int
    dropped: int
    errors: int


class Faults:
    """Counts errors, and logs the first one of each kind. Safe to use from any thread.

    Attributes:
        count: Number of errors so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.RLock()  # a signal handler may log while this thread holds the lock
        self._logged: set[tuple[str, str]] = set()

    def report(self, where: str, error: BaseException) -> None:
        """Count an error that a call has caught.

        Args:
            where: Name of the call or of the field.
            error: The error.
        """
        if self._is_new(where, type(error).__name__):
            logger.warning("%s: %s (further errors of this kind are only counted, in health.errors)", where, error)
            logger.debug("%s failed", where, exc_info=error)

    def call(self, where: str, function: Callable[..., T], *args: Any) -> T | None:
        """Call a function, such as a callback of the user; an error is counted.

        Args:
            where: Name of the method that the user has called.
            function: The function.
            *args: Its arguments.

        Returns:
            What the function returns; None after an error.
        """
        try:
            return function(*args)
        except Exception as error:  # noqa: BLE001 (nothing may raise into training)
            self.report(where, error)
            return None

    def lost(self, path: str, x: object) -> None:
        """Count a value that has no form in the log, and that its `repr` stands for."""
        kind = f"{type(x).__module__}.{type(x).__qualname__}"
        if self._is_new("value", kind):
            logger.warning("%s: a %s has no form in the log, or is too large: its repr is logged instead", path, kind)

    def renew_lock(self) -> None:
        """Replace the lock in the child of a fork, where the thread that held it may not exist."""
        self._lock = threading.RLock()

    def _is_new(self, where: str, kind: str) -> bool:
        with self._lock:
            self.count += 1
            if (where, kind) in self._logged or len(self._logged) >= _MAX_KINDS:
                return False
            self._logged.add((where, kind))
            return True
