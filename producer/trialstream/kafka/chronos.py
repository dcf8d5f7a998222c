"""Open chronos, and the matching of a finish to its start."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from trialstream_schemas.errors import ChronoError, InvalidValue
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.trial import RUNTIME_CHRONO
from trialstream_schemas.model.values import check_name

from trialstream.protocol import Callback
from trialstream.runtime.caller import current_caller

__all__ = ["Chronos", "OpenChrono", "check_chrono"]


def _owner() -> object:
    """Return the identity of the caller: the thread that waits for this call, otherwise the running task or thread."""
    if (caller := current_caller.get()) is not None:
        return caller.thread
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return task or threading.get_ident()


def check_chrono(name: object) -> str:
    """Check the name of a user's chrono.

    Args:
        name: The name.

    Returns:
        The name as a plain `str`.

    Raises:
        InvalidType: The name is not a string.
        InvalidValue: The trial's own chrono has the name, or the name cannot be stored (see `check_name`).
    """
    checked = check_name(name, "chrono")
    if checked == RUNTIME_CHRONO:
        raise InvalidValue(
            f"chrono {checked!r}: expected a name of your own, got that of the trial's chrono, which measures from "
            "log_trial_start to log_trial_finish"
        )
    return checked


@dataclass(eq=False)
class OpenChrono:
    """A chrono that is running.

    Attributes:
        trial: Uid of the trial.
        name: Name of the chrono.
        aggregator: Aggregator of its elapsed seconds.
        end_callback: Called before the chrono stops.
        owner: The task or thread that started the chrono.
        started: When the chrono was started, seconds on the clock `time.perf_counter`.
        announced: Whether its start was logged.
    """

    trial: str
    name: str
    aggregator: AggregatorSpec
    end_callback: Callback | None
    owner: object = field(default_factory=_owner)
    started: float = field(default_factory=time.perf_counter)
    announced: bool = False


class Chronos:
    """The chronos that are open in this process. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[str, str], list[OpenChrono]] = {}

    def start(self, chrono: OpenChrono) -> None:
        """Add a chrono that was just started."""
        with self._lock:
            self._open.setdefault((chrono.trial, chrono.name), []).append(chrono)

    def finish(self, trial: str, name: str) -> OpenChrono:
        """Remove and return the latest chrono that this task or thread started, or the only open one.

        Args:
            trial: Uid of the trial.
            name: Name of the chrono.

        Returns:
            The chrono.

        Raises:
            ChronoError: No such chrono is open, or several are and this task or thread started none of them.
        """
        owner = _owner()
        with self._lock:
            chronos = self._open.get((trial, name), [])
            mine = [each for each in chronos if each.owner == owner]
            if not mine and len(chronos) != 1:
                raise ChronoError(
                    f"chrono {name!r} of trial {trial} was never started here: call log_trial_chrono_start first"
                    if not chronos
                    else f"chrono {name!r} of trial {trial} is open in {len(chronos)} other tasks: finish it where it "
                    "was started"
                )
            found = (mine or chronos)[-1]
            chronos.remove(found)
            if not chronos:
                del self._open[trial, name]
            return found

    def announce(self, started_before: float, log_start: Callable[[OpenChrono], None]) -> None:
        """Log the start of each chrono that has been running for a long time, once.

        Args:
            started_before: Latest start, seconds on the clock `time.perf_counter`.
            log_start: Logs the start of a chrono. Called under the lock, so that its finish cannot be logged first.
        """
        with self._lock:
            for chronos in self._open.values():
                for each in chronos:
                    if not each.announced and each.started <= started_before:
                        log_start(each)
                        each.announced = True
