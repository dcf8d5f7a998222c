"""Code shared by the peers: the process around a measurement, and the timing of a loop of logging calls."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeVar

__all__ = ["METRICS", "entry", "figures", "noisy_rows", "private_home", "serve", "time_calls"]

T = TypeVar("T")

METRICS = ("loss", "accuracy", "lr", "norm")

ROWS = 20_000
SECONDS = 5.0


def time_calls(
    log: Callable[[dict[str, float], int], object], rows: int = ROWS, seconds: float = SECONDS
) -> tuple[float, list[float]]:
    """Call `log(metrics, step)` for every row, one right after the other.

    Args:
        log: Logs one row of four metrics.
        rows: Number of rows.
        seconds: Time after which the loop stops early.

    Returns:
        The start of the first call, and the seconds of each call, both by `time.perf_counter`.
    """
    clock = time.perf_counter
    taken = []
    started = ended = clock()
    for step in range(rows):
        metrics = {"loss": 1 / (step + 1), "accuracy": step / rows, "lr": 1e-3, "norm": step % 7 / 7}
        begun = clock()
        log(metrics, step)
        ended = clock()
        taken.append(ended - begun)
        if ended - started > seconds:
            break
    return started, taken


def noisy_rows(run: int, rows: int) -> Iterator[dict[str, float]]:
    """Yield the rows of a run that descends with noise; each run has its own, the same at each call."""
    chance = random.Random(run)
    for step in range(rows):
        yield {name: math.exp(-step / 300) + chance.gauss(0.0, 0.02) for name in METRICS}


def figures(started: float, taken: list[float]) -> dict[str, float]:
    """Summarize a measurement; must be called as soon as all rows are durable.

    Returns:
        `rows`, `mean_us`, `p50_us`, `p99_us` and `max_us` of the calls; `seconds` from the first call until now;
        `points_per_second` in this time, with four points a row.
    """
    seconds = time.perf_counter() - started
    ordered = sorted(taken)
    microseconds = {
        "mean_us": statistics.fmean(ordered),
        "p50_us": ordered[len(ordered) // 2],
        "p99_us": ordered[len(ordered) * 99 // 100],
        "max_us": ordered[-1],
    }
    return {
        "rows": len(ordered),
        **{name: round(value * 1e6, 2) for name, value in microseconds.items()},
        "seconds": round(seconds, 3),
        "points_per_second": round(len(METRICS) * len(ordered) / seconds),
    }


def private_home() -> None:
    """Make the working folder the home, so that the user's configuration and caches are neither read nor written."""
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        del os.environ[name]
    os.environ["HOME"] = str(Path.cwd())


def entry(version: str, **functions: Callable[..., dict[str, Any]]) -> None:
    """Run the command line of a peer, `<function> ['<arguments as JSON>']`, which prints one JSON line.

    The peer runs in a temporary folder, which is removed. Its own output goes to stderr.

    Args:
        version: Version of the measured package.
        **functions: Measurements by name.
    """
    with _called(functions) as (function, arguments, out):
        measured = function(**arguments)
        print(json.dumps({"version": version} | measured), file=out)


def serve(**functions: Callable[..., AbstractContextManager[dict[str, Any]]]) -> None:
    """Run the same command line for peers that serve something: from the JSON line on until their input ends.

    Args:
        **functions: Context managers by name; each yields the content of the line.
    """
    with _called(functions) as (function, arguments, out), function(**arguments) as found:
        print(json.dumps(found), file=out, flush=True)
        sys.stdin.read()


@contextmanager
def _called(functions: dict[str, Callable[..., T]]) -> Iterator[tuple[Callable[..., T], dict[str, Any], TextIO]]:
    function = functions[sys.argv[1]]
    arguments = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with out, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, contextlib.chdir(folder):
        yield function, arguments, out
