"""Cost of one `log_trial_metrics` with 4 values while the sender works, beside a list's and other trackers'."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import trialstream as ts
import trialstream.sync
from trialstream.config import Config

from benchmarks.bench import Bench
from benchmarks.peers import run_peer
from benchmarks.report import Mark, Row, median, ratio

# A chunk is shorter than the 5 ms after which another thread gets the interpreter, so most chunks are undisturbed.
# Their median is the cost of a call; the mean over all chunks is the cost of a call when logging as fast as possible.
_CHUNK = 100
_P99_MICROSECONDS = 50.0


class _List:
    """The floor: the least that any tracker has to do."""

    def __init__(self) -> None:
        self.rows: list[object] = []

    async def log(self, trial: ts.Trial, step: int | None = None, **kwargs: float) -> None:  # noqa: ARG002 (same signature)
        self.rows.append((step, time.time_ns(), kwargs))

    def log_sync(self, trial: ts.Trial, step: int | None = None, **kwargs: float) -> None:  # noqa: ARG002
        self.rows.append((step, time.time_ns(), kwargs))


async def _chunks(log: Callable, trial: ts.Trial, calls: int) -> list[float]:
    """Return the microseconds of a call, by chunk."""
    found = []
    for first in range(0, calls, _CHUNK):
        began = time.perf_counter()
        for step in range(first, first + _CHUNK):
            await log(trial, step=step, loss=0.5, accuracy=0.25, lr=1e-3, norm=3.5)
        found.append((time.perf_counter() - began) / _CHUNK * 1e6)
    return found


def _chunks_sync(log: Callable, trial: ts.Trial, calls: int) -> list[float]:
    found = []
    for first in range(0, calls, _CHUNK):
        began = time.perf_counter()
        for step in range(first, first + _CHUNK):
            log(trial, step=step, loss=0.5, accuracy=0.25, lr=1e-3, norm=3.5)
        found.append((time.perf_counter() - began) / _CHUNK * 1e6)
    return found


async def _single(log: Callable, trial: ts.Trial, calls: int) -> list[float]:
    """Return the microseconds of each call."""
    found = []
    for step in range(calls):
        began = time.perf_counter_ns()
        await log(trial, step=step, loss=0.5, accuracy=0.25, lr=1e-3, norm=3.5)
        found.append((time.perf_counter_ns() - began) / 1000)
    return found


async def run(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    config = bench.config()
    [trial] = await bench.trials(config, 1)
    repeat, calls = (3, 20_000) if bench.quick else (7, 50_000)
    ours: list[float] = []
    all_in: list[float] = []
    floor: list[float] = []
    singles: list[float] = []
    async with ts.KafkaProtocol(config) as protocol:
        for _ in range(repeat):
            floor.append(median(await _chunks(_List().log, trial, calls)))
            began = time.perf_counter()
            ours.append(median(await _chunks(protocol.log_trial_metrics, trial, calls)))
            await protocol.commit()
            all_in.append((time.perf_counter() - began) / calls * 1e6)
            singles += await _single(protocol.log_trial_metrics, trial, calls)
    threaded, threaded_floor = await asyncio.to_thread(_from_thread, config, trial, repeat, calls)
    peers = {} if bench.quick else await asyncio.to_thread(_peers, bench.stack.mongo.uri)
    costs = {name: each if isinstance(each, str) else [each["p50_us"]] for name, each in peers.items()}
    durable = {name: each if isinstance(each, str) else [each["points_per_second"]] for name, each in peers.items()}
    cheapest = min((each[0] for each in costs.values() if not isinstance(each, str)), default=None)
    marks = [Mark.most("× the floor", ratio(ours, floor), 3, "×")]
    if cheapest is not None:
        marks.append(Mark.least("× cheaper than the cheapest peer", cheapest / median(ours), 10, "×"))
    singles.sort()
    p50, p99, worst = (singles[int(len(singles) * q)] for q in (0.5, 0.99, 0.9999))
    return [
        Row("one call, 4 values, async", "µs", ours, {"appending to a list": floor, **costs}, marks),
        Row(
            "one call, 4 values, from a thread",
            "µs",
            threaded,
            {"appending to a list": threaded_floor},
            [Mark.most("× the floor", ratio(threaded, threaded_floor), 3, "×")],
        ),
        Row(
            "one call, 99th percentile",
            "µs",
            [p99],
            {"median": [p50], "99.99th percentile": [worst]},
            [Mark.most("µs", p99, _P99_MICROSECONDS)],
        ),
        Row("one call until it is acked, as fast as one can log", "µs", all_in),
        Row("logged until durable, one trial", "points/s", [4e6 / each for each in all_in], durable),
    ]


def _peers(mongo: str) -> dict[str, dict[str, float] | str]:
    """Return the results of the other trackers."""
    return {
        "sacred with MongoDB": run_peer("sacred", "call", mongo=mongo),
        "trackio": run_peer("trackio", "call"),
        "wandb offline": run_peer("wandb", "call"),
        "tensorboardX": run_peer("tensorboardx", "call"),
        "MLflow async": run_peer("mlflow", "call", synchronous=False),
        "MLflow": run_peer("mlflow", "call", synchronous=True),
    }


def _from_thread(config: Config, trial: ts.Trial, repeat: int, calls: int) -> tuple[list[float], list[float]]:
    ours, floor = [], []
    with trialstream.sync.SyncProtocol(ts.KafkaProtocol(config)) as protocol:
        for _ in range(repeat):
            floor.append(median(_chunks_sync(_List().log_sync, trial, calls)))
            ours.append(median(_chunks_sync(protocol.log_trial_metrics, trial, calls)))
            protocol.commit()
    return ours, floor
