"""Cost of logging for a training loop of 1,000 steps per second that keeps a processor busy, by calls without async.

In the second measurement each step has a chrono and logs one of four shapes of rows, while another thread, such as that
of a data loader, often wants the interpreter.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the loop must keep only one processor busy

import numpy as np
import trialstream as ts
import trialstream.sync

from benchmarks.bench import Bench
from benchmarks.report import Mark, Row, median

_ROWS_PER_SECOND = 1000
_MOST_PERCENT = 1.0
_PARTS = ("train", "optimizer", "data", "device")


class _Loop:
    """A loop whose steps take about a millisecond of one processor: small products of matrices."""

    def __init__(self) -> None:
        self._a = np.random.default_rng(1).random((64, 64))
        self._products = 1
        while self._time_of(200) < 200 / _ROWS_PER_SECOND:
            self._products += 1 + self._products // 10

    def _time_of(self, steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            self.step()
        return time.perf_counter() - began

    def step(self) -> float:
        """Perform one step."""
        for _ in range(self._products):
            x = self._a @ self._a
        return float(x[0, 0])

    def plain(self) -> float:
        """Return the seconds of 1,000 steps without logging."""
        began = time.perf_counter()
        for _ in range(_ROWS_PER_SECOND):
            self.step()
        return time.perf_counter() - began

    def one_shape(self, protocol: trialstream.sync.SyncProtocol, trial: ts.Trial) -> float:
        """Return the seconds of 1,000 steps that log a row each."""
        began = time.perf_counter()
        for step in range(_ROWS_PER_SECOND):
            protocol.log_trial_metrics(trial, step=step, loss=self.step(), accuracy=0.25, lr=1e-3, norm=3.5)
        return time.perf_counter() - began

    def four_shapes(self, protocol: trialstream.sync.SyncProtocol, trial: ts.Trial) -> float:
        """Return the seconds of 1,000 steps with a chrono each, that log rows of four shapes in turn."""
        began = time.perf_counter()
        for step in range(_ROWS_PER_SECOND):
            protocol.log_trial_chrono_start(trial, "step")
            loss = self.step()
            protocol.log_trial_chrono_finish(trial, "step")
            protocol.log_trial_metrics(trial, {f"{_PARTS[step % 4]}/a": loss, f"{_PARTS[step % 4]}/b": 0.25}, step=step)
        return time.perf_counter() - began


@contextmanager
def _other_thread() -> Iterator[None]:
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


def _in_turn(logging: Callable[[], float], plain: Callable[[], float], repeat: int) -> tuple[list[float], list[float]]:
    """Return the seconds with logging and without, in alternating order, since the machine's speed drifts."""
    found: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeat):
        for which in (turn % 2, 1 - turn % 2):
            found[which].append((logging, plain)[which]())
    return found


async def run(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    config = bench.config()
    [trial] = await bench.trials(config, 1)

    repeat = 5 if bench.quick else 15

    def measured() -> list[tuple[list[float], list[float]]]:
        loop = _Loop()
        with trialstream.sync.SyncProtocol(ts.KafkaProtocol(config)) as protocol:
            found = [_in_turn(lambda: loop.one_shape(protocol, trial), loop.plain, repeat)]
            with _other_thread():
                found.append(_in_turn(lambda: loop.four_shapes(protocol, trial), loop.plain, repeat))
        return found

    names = [
        "1,000 steps of a busy loop, each logging a row, in a second",
        "the same, each with a chrono and one of four shapes in turn, while a thread wants the interpreter",
    ]
    rows = []
    for name, (logging, plain) in zip(names, await asyncio.to_thread(measured), strict=True):
        slower = [100 * (a / b - 1) for a, b in zip(logging, plain, strict=True)]
        marks = [Mark.most("% slower", median(slower), _MOST_PERCENT, "%")]
        rows.append(Row(name, "s", logging, {"without logging": plain}, marks))
    return rows
