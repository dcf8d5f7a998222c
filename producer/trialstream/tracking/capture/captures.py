"""The kinds of captures, and the thread in which they work."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from weakref import WeakSet

from trialstream_schemas.errors import InvalidType, InvalidValue

from trialstream.tracking.capture import surroundings
from trialstream.tracking.capture.code import code_version
from trialstream.tracking.capture.event_loop import EventLoop
from trialstream.tracking.capture.messages import MessageHandler, watch_warnings
from trialstream.tracking.capture.output import Pieces, Stream, Tee
from trialstream.tracking.capture.system import Machine
from trialstream.tracking.launch import Launch
from trialstream.tracking.tracker import Tracker

__all__ = ["KINDS", "Captures", "checked_capture"]

logger = logging.getLogger("trialstream")
T = TypeVar("T")

KINDS = (
    "stdout",
    "stderr",
    "logging",
    "warnings",
    "system",
    "code",
    "host",
    "python",
    "packages",
    "command",
    "event_loop",
)
"""Names of what can be captured."""

# Facts that are metadata, from the start on.
_FACTS: dict[str, Callable[[], Any]] = {
    "host": surroundings.host,
    "python": surroundings.python,
    "command": surroundings.command,
    "code": code_version,
    "packages": surroundings.packages,
}
# Facts that are the same in all ranks.
_SHARED = frozenset(_FACTS) - {"host"}
# Interval in which output is logged, seconds, and that of samples of the machine.
_FLUSH_SECONDS = 2.0
_SAMPLE_SECONDS = 10.0
# Longest wait for the thread at the end, seconds: it may read a large repository.
_STOP_SECONDS = 2.0


def checked_capture(capture: object) -> frozenset[str]:
    """Check the argument `capture` of `track`.

    Args:
        capture: True for all kinds, False for none, or names of kinds.

    Returns:
        The kinds.

    Raises:
        InvalidType: The argument is neither a bool nor a collection of names.
        InvalidValue: There is no kind of that name.
    """
    if isinstance(capture, bool):
        return frozenset(KINDS if capture else ())
    if isinstance(capture, str) or not isinstance(capture, Iterable):
        raise InvalidType(f"capture: expected True, False or a list of kinds, got {capture!r}")
    kinds = frozenset(capture)
    if unknown := kinds - set(KINDS):
        raise InvalidValue(f"capture: expected some of {', '.join(KINDS)}, got {min(map(repr, unknown))}")
    return kinds


# The captures of this process, which the child of a fork ends: its copies would be taken by no thread.
_active: WeakSet[Captures] = WeakSet()


class Captures:
    """The captures of one tracker.

    Args:
        kinds: What is captured.
        place: Rank of this process. In a distributed run, output and host of each rank have names of their own, and the
            other facts are those of rank 0.
    """

    def __init__(self, kinds: frozenset[str], place: Launch) -> None:
        self._kinds = kinds if place.rank in (None, 0) else kinds - _SHARED
        self._prefix = "" if place.rank is None else f"rank{place.rank}/"
        self._world_size = place.world_size or 1
        self._pieces: dict[str, Pieces] = {}
        self._stops: list[Callable[[], None]] = []
        self._stopped = threading.Event()
        self._taking = threading.RLock()  # a signal handler may commit
        self._is_abandoned = False
        self._tracker: Tracker
        self._thread = threading.Thread(target=self._run, name="trialstream capture", daemon=True)

    def start(self, tracker: Tracker) -> None:
        """Begin to capture.

        Args:
            tracker: Takes what is captured.
        """
        self._tracker = tracker
        tracker.at_commit(self.flush)
        tracker.at_end(self.stop)
        for name in ("stdout", "stderr", "logging", "warnings"):
            if name in self._kinds:
                self._pieces[name] = Pieces(self._world_size)
        streams: tuple[Stream, ...] = ("stdout", "stderr")
        self._stops += [Tee.start(name, self._pieces[name]) for name in streams if name in self._pieces]
        if "logging" in self._pieces:
            handler = MessageHandler(self._pieces["logging"])
            handler.start()
            self._stops.append(handler.stop)
        if "warnings" in self._pieces:
            self._stops.append(watch_warnings(self._pieces["warnings"]))
        if "event_loop" in self._kinds and _runs_loop():
            self._stops.append(EventLoop(tracker).stop)
        _active.add(self)
        self._thread.start()

    def stop(self) -> None:
        """End all captures."""
        _active.discard(self)
        self.stop_copying()
        self._stopped.set()
        if self._thread.ident is not None:  # the start may have failed
            self._thread.join(_STOP_SECONDS)  # the facts of a short trial are logged too
        self._is_abandoned = True

    def flush(self) -> None:
        """Log the output so far."""
        with self._taking:  # the pieces of one stream stay in their order
            for name, pieces in self._pieces.items():
                for piece in pieces.take():
                    key = f"{self._prefix}output/{name}"
                    self._tracker.log_metadata({key: piece}, aggregator=pieces.aggregator)

    def stop_copying(self) -> None:
        """End the copies of streams, messages and warnings."""
        while self._stops:
            self._stops.pop()()

    def _run(self) -> None:
        for name, fact in _FACTS.items():
            if name in self._kinds and not self._is_abandoned:
                found = self._try(name, fact)
                if found and not self._is_abandoned:
                    self._tracker.log_metadata({f"{self._prefix}host" if name == "host" else name: found})
        if self._stopped.is_set():
            return
        machine = self._try("system", Machine) if "system" in self._kinds else None
        due = time.monotonic()
        while not self._stopped.wait(_FLUSH_SECONDS):
            self.flush()
            if machine is not None and time.monotonic() >= due:
                due = time.monotonic() + _SAMPLE_SECONDS
                self._tracker.log(self._try("system", machine.sample))

    def _try(self, name: str, call: Callable[[], T]) -> T | None:
        """Call a function; after an error, which is logged, None."""
        try:
            return call()
        except ImportError as error:
            logger.info("capture: %s is left out: %s; install trialstream[capture]", name, error)
        except Exception as error:  # noqa: BLE001 (nothing may raise into training)
            self._tracker.faults.report(f"capture {name}", error)
        return None


def _stop_in_child() -> None:
    for captures in list(_active):
        captures.stop_copying()


os.register_at_fork(after_in_child=_stop_in_child)


def _runs_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
