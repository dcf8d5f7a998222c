"""Open chronos: which start a finish belongs to."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from trialstream_schemas.errors import ChronoError
from trialstream_schemas.model.aggregators import AggregatorSpec

from trialstream.protocol import Callback

__all__ = ["Chronos", "OpenChrono", "caller"]


# Set by who calls on behalf of another thread.
caller: ContextVar[object] = ContextVar("caller", default=None)


def _owner() -> object:
    """Who calls: the task that runs, or the thread where there is none."""
    if (on_behalf := caller.get()) is not None:
        return on_behalf
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return task or threading.get_ident()


@dataclass(eq=False)
class OpenChrono:
    """A chrono that is running.

    Attributes:
        trial: Uid of the trial.
        name: Its name.
        aggregator: What becomes of its elapsed seconds.
        end_callback: Runs before it stops.
        owner: The task or thread that started it.
        started: On the monotonic clock, seconds.
        announced: Whether the log was told that it started.
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
        """Take one that runs from now on."""
        with self._lock:
            self._open.setdefault((chrono.trial, chrono.name), []).append(chrono)

    def finish(self, trial: str, name: str) -> OpenChrono:
        """Take out the latest that this task or thread started, or the only one.

        Raises:
            ChronoError: none is open, or several are and none was started here.
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

    def announce(self, started_before: float, tell: Callable[[OpenChrono], None]) -> None:
        """Tell the log of those that have been running since then, once each.

        `tell` is called under the lock, so that no finish can come between and be logged before the start.
        """
        with self._lock:
            for chronos in self._open.values():
                for each in chronos:
                    if not each.announced and each.started <= started_before:
                        tell(each)
                        each.announced = True
