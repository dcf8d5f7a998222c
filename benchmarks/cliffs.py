"""Cost of every call that logs, by the types of its arguments, with and without async, while the sender works.

A figure is the median over chunks of 50 calls. The calls are 20,000 in each repetition for rows, and 2,000 for others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import numpy as np
import trialstream as ts
import trialstream.sync
from trialstream.config import Config

from benchmarks.bench import Bench
from benchmarks.report import Mark, Row, median, ratio

_CHUNK = 50
_MOST_MICROSECONDS = 12.0
_ROW = {"loss": 0.5, "accuracy": 0.25, "lr": 1e-3, "norm": 3.5}
_MIXED = {"loss": np.float32(0.5), "accuracy": 2, "lr": 1e-3, "norm": True}
_STATISTICS = ts.StatAggregator.lazy()
_TEXT = "x" * 2000
_Call = Callable[[int], Any]


class _Case(NamedTuple):
    """One kind of call.

    Attributes:
        call: Returns the call of a number: of a protocol with or without async, on some trials.
        calls: Number of calls in a repetition.
        most: The mark: how many times the cost of appending to a list; None where only the bound in µs applies.
    """

    call: Callable[[Any, list[ts.Trial]], _Call]
    calls: int = 20_000
    most: float | None = None


def _row(values: dict[str, Any], step: Callable[[int], Any] = int, **parameters: Any) -> Callable:
    return lambda p, trials: lambda i: p.log_trial_metrics(trials[0], step=step(i), **parameters, **values)


def _shapes(count: int) -> Callable:
    rows = [{f"a{number}": 0.5, f"b{number}": 0.25} for number in range(count)]
    return lambda p, trials: lambda i: p.log_trial_metrics(trials[0], step=i, **rows[i % count])


def _one(name: str, values: dict[str, Any]) -> Callable:
    return lambda p, trials: lambda _: getattr(p, name)(trials[0], **values)


_CASES = {
    "4 floats": _Case(_row(_ROW), most=2),
    "4 floats, in a dict": _Case(lambda p, trials: lambda i: p.log_trial_metrics(trials[0], _ROW, step=i)),
    "4 floats, no step": _Case(_row(_ROW, lambda _: None), most=3.5),
    "4 ints": _Case(_row(dict.fromkeys(_ROW, 3)), most=3.5),
    "4 bools": _Case(_row(dict.fromkeys(_ROW, True)), most=3.5),
    "4 float32 of numpy": _Case(_row(dict.fromkeys(_ROW, np.float32(0.5))), most=3.5),
    "4 numbers of different types": _Case(_row(_MIXED), most=3.5),
    "4 arrays without dimensions": _Case(_row(dict.fromkeys(_ROW, np.array(0.5)))),
    "4 floats, step of numpy": _Case(_row(_ROW, np.int64), most=3.5),
    "4 floats, a float as step": _Case(_row(_ROW, float), most=3.5),
    "4 floats, a text as step": _Case(_row(_ROW, str), most=3.5),
    "4 floats, StatAggregator": _Case(_row(_ROW, aggregator=_STATISTICS), most=3.5),
    "2 shapes in turn": _Case(_shapes(2), most=2.5),
    "8 shapes in turn": _Case(_shapes(8), most=2.5),
    "64 trials in turn": _Case(
        lambda p, trials: lambda i: p.log_trial_metrics(trials[i % 64], step=i, **_ROW), most=2.5
    ),
    "1,000 floats": _Case(_row({f"m{number}": 0.5 for number in range(1000)}), 1000),
    "metadata, an int": _Case(_one("log_trial_metadata", {"epoch": 3}), 2000, 25),
    "metadata, a text": _Case(_one("log_trial_metadata", {"host": "node17"}), 2000, 25),
    "metadata, a text of 2 kB": _Case(_one("log_trial_metadata", {"text": _TEXT}), 2000),
    "arguments, a float": _Case(_one("log_trial_arguments", {"lr": 1e-3}), 2000, 25),
    "tags, a bool": _Case(_one("add_trial_tags", {"best": True}), 2000, 25),
    "status": _Case(lambda p, trials: lambda _: p.set_trial_status(trials[0], ts.Status.Running), 2000, 25),
    "start of a trial": _Case(lambda p, trials: lambda _: p.log_trial_start(trials[0]), 2000, 25),
}
# The cases whose cost may exceed `_MOST_MICROSECONDS`: values of more than 1 KB.
_LARGE = {"1,000 floats", "metadata, a text of 2 kB"}


def _chunks(call: _Call, calls: int) -> float:
    """Return the microseconds of a call: the median over the chunks."""
    found = []
    for first in range(0, calls, _CHUNK):
        began = time.perf_counter()
        for i in range(first, first + _CHUNK):
            call(i)
        found.append((time.perf_counter() - began) / _CHUNK * 1e6)
    return median(found)


async def _chunks_async(call: Callable[[int], Awaitable[None]], calls: int) -> float:
    found = []
    for first in range(0, calls, _CHUNK):
        began = time.perf_counter()
        for i in range(first, first + _CHUNK):
            await call(i)
        found.append((time.perf_counter() - began) / _CHUNK * 1e6)
    return median(found)


def _floor(calls: int) -> float:
    rows: list[object] = []

    def log(step: int | None = None, **kwargs: float) -> None:
        rows.append((step, time.time_ns(), kwargs))

    return _chunks(lambda i: log(step=i, **_ROW), calls)


def _chrono(protocol: Any, trials: list[ts.Trial]) -> _Call:
    def pair(_: int) -> None:
        protocol.log_trial_chrono_start(trials[0], "step")
        protocol.log_trial_chrono_finish(trials[0], "step")

    return pair


def _chrono_async(protocol: Any, trials: list[ts.Trial]) -> _Call:
    async def pair(_: int) -> None:
        await protocol.log_trial_chrono_start(trials[0], "step")
        await protocol.log_trial_chrono_finish(trials[0], "step")

    return pair


def _measure_sync(config: Config, trials: list[ts.Trial], repeat: int) -> dict[str, tuple[list[float], list[float]]]:
    """Return the microseconds of a call without async, and those of the floor, of each case."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    with trialstream.sync.SyncProtocol(ts.KafkaProtocol(config)) as protocol:
        for name, case in {**_CASES, "chrono, start and finish": _Case(_chrono, 2000)}.items():
            ours, floor = found.setdefault(name, ([], []))
            for _ in range(repeat):
                floor.append(_floor(case.calls))
                ours.append(_chunks(case.call(protocol, trials), case.calls))
                protocol.commit()
    return found


async def run(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    config = bench.config()
    trials = await bench.trials(config, 64)
    repeat = 1 if bench.quick else 3
    without = await asyncio.to_thread(_measure_sync, config, trials, repeat)
    rows = []
    async with ts.KafkaProtocol(config) as protocol:
        for name, case in {**_CASES, "chrono, start and finish": _Case(_chrono_async, 2000, 15)}.items():
            ours = []
            for _ in range(repeat):
                ours.append(await _chunks_async(case.call(protocol, trials), case.calls))
                await protocol.commit()
            costs, floor = without[name]
            marks = [] if name in _LARGE else [Mark.most("µs", max(median(costs), median(ours)), _MOST_MICROSECONDS)]
            if case.most is not None:
                marks.append(Mark.most("× the floor", ratio(costs, floor), case.most, "×"))
            rows.append(Row(f"a call: {name}", "µs", costs, {"async": ours, "appending to a list": floor}, marks))
    return rows
