"""Training loops with and without logging, and a thread that wants the interpreter beside them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import trialstream as ts
    import trialstream.sync

__all__ = ["grown", "in_turn", "logged", "logged_by", "other_thread", "seconds"]

_PARTS = ("train", "optimizer", "data", "device")
_Step = Callable[[int], object]
_Log = Callable[[dict[str, Any], int], object]


def seconds(step: _Step, steps: int, finish: Callable[[], object] = int) -> float:
    """Return the seconds of a number of steps.

    Args:
        step: Performs the step with a number.
        steps: Number of steps.
        finish: Waits for what the steps have launched; by default for nothing.
    """
    began = time.perf_counter()
    for number in range(steps):
        step(number)
    finish()
    return time.perf_counter() - began


def grown(time_of: Callable[[int], float], size: int, least: float) -> int:
    """Return the size from which `time_of(size)` is at least `least`, found by growing it by a tenth."""
    while time_of(size) < least:
        size += 1 + size // 10
    return size


def logged(
    step: Callable[[], Any], protocol: trialstream.sync.SyncProtocol, trial: ts.Trial, rows: int
) -> Callable[[int], None]:
    """Return steps with a chrono each, that log rows of four shapes in turn.

    Args:
        step: Performs a step, and returns its loss.
        protocol: Takes the rows.
        trial: Their trial.
        rows: Number of rows of each step.
    """

    def perform(number: int) -> None:
        protocol.log_trial_chrono_start(trial, "step")
        loss = step()
        protocol.log_trial_chrono_finish(trial, "step")
        for row in range(number * rows, (number + 1) * rows):
            part = _PARTS[row % 4]
            protocol.log_trial_metrics(trial, {f"{part}/a": loss, f"{part}/b": 0.25}, step=number)

    return perform


def logged_by(
    step: Callable[[], Any], log: Callable[[dict[str, Any], int], object], rows: int
) -> Callable[[int], None]:
    """Return the same steps for another tracker, which logs the duration of a step as a metric.

    Args:
        step: Performs a step, and returns its loss.
        log: Logs metrics of a step.
        rows: Number of rows of each step.
    """

    def perform(number: int) -> None:
        began = time.perf_counter()
        loss = step()
        log({"step_seconds": time.perf_counter() - began}, number)
        for row in range(number * rows, (number + 1) * rows):
            part = _PARTS[row % 4]
            log({f"{part}/a": loss, f"{part}/b": 0.25}, number)

    return perform


@contextmanager
def other_thread() -> Iterator[None]:
    """Run a thread that wants the interpreter about a thousand times a second, for 50 µs each."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.001):
            sum(range(2000))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def in_turn(*loops: Callable[[], float], repeat: int) -> list[list[float]]:
    """Return the seconds of each loop, run in turn and in alternating order, since the machine's speed drifts."""
    found: list[list[float]] = [[] for _ in loops]
    for turn in range(repeat):
        for seconds_of, loop in [*zip(found, loops, strict=True)][:: -1 if turn % 2 else 1]:
            seconds_of.append(loop())
    return found
