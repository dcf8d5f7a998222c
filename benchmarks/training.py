"""Cost of logging 1,000 rows/s for a training loop that keeps a processor busy."""

from __future__ import annotations

import asyncio
import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the loop must keep only one processor busy

import numpy as np
import trialstream as ts
import trialstream.sync

from benchmarks.bench import Bench
from benchmarks.report import Mark, Row, median

_ROWS_PER_SECOND = 1000
_MOST_PERCENT = 1.0


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

    def run(self, steps: int, protocol: trialstream.sync.SyncProtocol | None, trial: ts.Trial) -> float:
        """Return the seconds of a number of steps, with logging or without."""
        began = time.perf_counter()
        for step in range(steps):
            loss = self.step()
            if protocol is not None:
                protocol.log_trial_metrics(trial, step=step, loss=loss, accuracy=0.25, lr=1e-3, norm=3.5)
        return time.perf_counter() - began


def _measure(protocol: trialstream.sync.SyncProtocol, trial: ts.Trial, repeat: int) -> tuple[list[float], list[float]]:
    loop = _Loop()
    logging, plain = [], []
    for turn in range(repeat):  # with and without logging in alternating order: the machine's speed drifts
        for first in (turn % 2 == 0, turn % 2 == 1):
            (logging if first else plain).append(loop.run(_ROWS_PER_SECOND, protocol if first else None, trial))
    return logging, plain


async def run(bench: Bench) -> list[Row]:
    """The rows of this benchmark."""
    config = bench.config()
    [trial] = await bench.trials(config, 1)

    def measured() -> tuple[list[float], list[float]]:
        with trialstream.sync.SyncProtocol(ts.KafkaProtocol(config)) as protocol:
            return _measure(protocol, trial, 5 if bench.quick else 15)

    logging, plain = await asyncio.to_thread(measured)
    slower = [100 * (a / b - 1) for a, b in zip(logging, plain, strict=True)]
    marks = [Mark.most("% slower", median(slower), _MOST_PERCENT, "%")]
    return [
        Row(
            "1,000 steps of a busy loop, each logging a row, in a second",
            "s",
            logging,
            {"without logging": plain},
            marks,
        )
    ]
