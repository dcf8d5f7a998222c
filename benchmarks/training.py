"""Cost of logging for a training loop of 1,000 steps per second that keeps a processor busy, by calls without async.

In the second measurement each step has a chrono and logs one of four shapes of rows, while another thread, such as that
of a data loader, often wants the interpreter.
"""

from __future__ import annotations

import asyncio
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the loop must keep only one processor busy

import numpy as np
import trialstream as ts
import trialstream.sync

from benchmarks.bench import Bench
from benchmarks.loops import grown, in_turn, logged, other_thread, seconds
from benchmarks.report import Mark, Row, median

_ROWS_PER_SECOND = 1000
_MOST_PERCENT = 1.0


class Training:
    """Steps that take about a millisecond of one processor each.

    Args:
        one_call: Whether a step is one product of a large matrix: a call that leaves the interpreter to other threads
            for its whole time, as calls of compiled code and waits for a device do. Otherwise it is many small
            products, and each needs the interpreter again, after some 10 µs: all that other threads do delays it.
    """

    def __init__(self, *, one_call: bool = False) -> None:
        self._a = self._b = np.random.default_rng(1).random((64, 64))
        self._products = 1
        if one_call:
            grown(self._time_of_rows, 64, 200 / _ROWS_PER_SECOND)
        else:
            self._products = grown(self._time_of, 1, 200 / _ROWS_PER_SECOND)

    def _time_of_rows(self, rows: int) -> float:
        self._a = np.resize(self._b, (rows, 64))
        return seconds(self.step, 200)

    def _time_of(self, products: int) -> float:
        self._products = products
        return seconds(self.step, 200)

    def step(self, _: int = 0) -> float:
        """Perform one step, and return its loss."""
        for _product in range(self._products):
            x = self._a @ self._b
        return float(x[0, 0])


async def run(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    config = bench.config()
    [trial] = await bench.trials(config, 1)

    repeat = 5 if bench.quick else 15

    def measured() -> list[tuple[list[float], list[float]]]:
        training = Training()

        def plain() -> float:
            return seconds(training.step, _ROWS_PER_SECOND)

        with trialstream.sync.SyncProtocol(ts.KafkaProtocol(config)) as protocol:

            def one_shape(step: int) -> None:
                protocol.log_trial_metrics(trial, step=step, loss=training.step(), accuracy=0.25, lr=1e-3, norm=3.5)

            four_shapes = logged(training.step, protocol, trial, 1)
            found = [in_turn(lambda: seconds(one_shape, _ROWS_PER_SECOND), plain, repeat=repeat)]
            with other_thread():
                found.append(in_turn(lambda: seconds(four_shapes, _ROWS_PER_SECOND), plain, repeat=repeat))
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
