"""Open chronos, and the matching of a finish to its start."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from trialstream_schemas.errors import ChronoError, InvalidValue
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.trial import RUNTIME_CHRONO
from trialstream_schemas.model.values import check_name

from trialstream.protocol import Callback

__all__ = ["Chronos", "HeldChrono", "OpenChrono", "check_chrono", "task_or_thread"]


def task_or_thread() -> object:
    """Return the identity of the running task, or of the thread if it runs none."""
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
        owner: The task or thread that started the chrono; None once it is finished.
        started: When the chrono was started, seconds on the clock `time.perf_counter`.
        announced: Whether its start was logged.
        outer: The chrono of the same name that the same task or thread had open when it started this one.
    """

    trial: str
    name: str
    aggregator: AggregatorSpec
    end_callback: Callback | None
    owner: object = field(default_factory=task_or_thread)
    started: float = field(default_factory=time.perf_counter)
    announced: bool = False
    outer: OpenChrono | None = None

    def chain(self) -> Iterator[OpenChrono]:
        """Return this chrono and those that it has covered, the latest first."""
        chrono: OpenChrono | None = self
        while chrono is not None:
            yield chrono
            chrono = chrono.outer


class HeldChrono:
    """A chrono that is running, and that its owner holds, so that it need not be found by its name.

    Args:
        trial: Uid of the trial.
        name: Name of the chrono, which was checked.
        aggregator: Aggregator of its elapsed seconds.
        started: When the chrono was started, seconds on the clock `time.perf_counter`.

    Attributes:
        started: As given.
        announced: Whether its start was logged.
    """

    __slots__ = ("aggregator", "announced", "name", "started", "trial")

    def __init__(self, trial: str, name: str, aggregator: AggregatorSpec, started: float) -> None:
        self.trial = trial
        self.name = name
        self.aggregator = aggregator
        self.started = started
        self.announced = False


class Chronos:
    """The chronos that are open in this process. Safe to use from any thread, and takes no lock.

    The chronos of one name that one task or thread has started are a chain, the latest first: a signal handler that
    starts and finishes a chrono between two steps leaves the chain as it was.

    Attributes:
        held: The open chronos that their owners hold, by `id`.
    """

    def __init__(self) -> None:
        self.held: dict[int, HeldChrono] = {}
        # The latest open chrono, by trial, name and owner.
        self._open: dict[tuple[str, str, object], OpenChrono] = {}

    def start(self, chrono: OpenChrono) -> None:
        """Add a chrono that was just started."""
        key = chrono.trial, chrono.name, chrono.owner
        chrono.outer = self._open.get(key)
        self._open[key] = chrono

    def finish(self, trial: str, name: str, owner: object = None) -> OpenChrono:
        """Remove and return the latest chrono that this task or thread started, or the only open one.

        Args:
            trial: Uid of the trial.
            name: Name of the chrono.
            owner: The task or thread that finishes it; None for the present one.

        Returns:
            The chrono.

        Raises:
            ChronoError: No such chrono is open, or several are and this task or thread started none of them.
        """
        key = trial, name, task_or_thread() if owner is None else owner
        if key not in self._open:
            key = self._only(trial, name)
        found = self._open.get(key)
        if found is None:  # another thread has just finished it
            raise _never_started(trial, name)
        if found.outer is None:
            del self._open[key]
        else:
            self._open[key] = found.outer
        found.outer = found.owner = None  # it is kept until its event is made, and a task should not be
        return found

    def _only(self, trial: str, name: str) -> tuple[str, str, object]:
        """Return the key of the only open chrono of a name."""
        keys = [key for key, latest in list(self._open.items()) if key[:2] == (trial, name) for _ in latest.chain()]
        if not keys:
            raise _never_started(trial, name)
        if len(keys) > 1:
            raise ChronoError(
                f"chrono {name!r} of trial {trial} is open in {len(keys)} other tasks: finish it where it was started"
            )
        return keys[0]

    def announce(self, started_before: float, log_start: Callable[[OpenChrono | HeldChrono], None]) -> None:
        """Log the start of each chrono that has been running for a long time, once.

        Args:
            started_before: Latest start, seconds on the clock `time.perf_counter`.
            log_start: Logs the start of a chrono.
        """
        running: list[OpenChrono | HeldChrono] = list(self.held.values())
        for latest in list(self._open.values()):
            running += latest.chain()
        for each in running:
            if not each.announced and each.started <= started_before:
                log_start(each)
                each.announced = True


def _never_started(trial: str, name: str) -> ChronoError:
    return ChronoError(f"chrono {name!r} of trial {trial} was never started here: call log_trial_chrono_start first")
