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
_WIDE = {f"m{number}": 0.5 for number in range(100)}
_MIXED = {"loss": np.float32(0.5), "accuracy": 2, "lr": 1e-3, "norm": True}
_STATISTICS = ts.StatAggregator.lazy()
_CUSTOM = ts.CustomStatus("WarmingUp", 50)
_ERROR = ValueError("the loss is not finite")
_TEXT = "x" * 2000
_Call = Callable[[int], Any]


class _Subjects(NamedTuple):
    """Subjects of the calls.

    Attributes:
        trials: Trials.
        project: A project.
        group: A group.
    """

    trials: list[ts.Trial]
    project: ts.Project
    group: ts.TrialGroup


class _Case(NamedTuple):
    """One kind of call.

    Attributes:
        call: Returns the call of a number: of a protocol with or without async, on some subjects.
        calls: Number of calls in a repetition.
        most: The mark: how many times the cost of appending to a list; None where only the bound in µs applies.
    """

    call: Callable[[Any, _Subjects], _Call]
    calls: int = 20_000
    most: float | None = None


def _row(values: dict[str, Any], step: Callable[[int], Any] = int, **parameters: Any) -> Callable:
    return lambda p, to: lambda i: p.log_trial_metrics(to.trials[0], step=step(i), **parameters, **values)


def _shapes(count: int) -> Callable:
    rows = [{f"a{number}": 0.5, f"b{number}": 0.25} for number in range(count)]
    return lambda p, to: lambda i: p.log_trial_metrics(to.trials[0], step=i, **rows[i % count])


def _one(name: str, *args: Any, **values: Any) -> Callable:
    return lambda p, to: lambda _: getattr(p, name)(to.trials[0], *args, **values)


_CASES = {
    "4 floats": _Case(_row(_ROW), most=2),
    "4 floats, in a dict": _Case(lambda p, to: lambda i: p.log_trial_metrics(to.trials[0], _ROW, step=i)),
    "4 floats, no step": _Case(_row(_ROW, lambda _: None), most=3.5),
    "4 ints": _Case(_row(dict.fromkeys(_ROW, 3)), most=3.5),
    "4 bools": _Case(_row(dict.fromkeys(_ROW, True)), most=3.5),
    "4 float32 of numpy": _Case(_row(dict.fromkeys(_ROW, np.float32(0.5))), most=3.5),
    "4 numbers of different types": _Case(_row(_MIXED), most=3.5),
    "4 int64 of numpy": _Case(_row(dict.fromkeys(_ROW, np.int64(3))), most=3.5),
    "4 integers beyond 2**53": _Case(_row(dict.fromkeys(_ROW, 2**60)), 2000),
    "4 arrays without dimensions": _Case(_row(dict.fromkeys(_ROW, np.array(0.5)))),
    "4 floats, step of numpy": _Case(_row(_ROW, np.int64), most=3.5),
    "4 floats, a float as step": _Case(_row(_ROW, float), most=3.5),
    "4 floats, a text as step": _Case(_row(_ROW, str), most=3.5),
    "4 floats, StatAggregator": _Case(_row(_ROW, aggregator=_STATISTICS), most=3.5),
    "2 shapes in turn": _Case(_shapes(2), most=2.5),
    "8 shapes in turn": _Case(_shapes(8), most=2.5),
    "64 trials in turn": _Case(
        lambda p, to: lambda i: p.log_trial_metrics(to.trials[i % 64], step=i, **_ROW), most=2.5
    ),
    "100 floats": _Case(_row(_WIDE), 2000),
    "1,000 floats": _Case(_row({f"m{number}": 0.5 for number in range(1000)}), 1000),
    "metadata, an int": _Case(_one("log_trial_metadata", epoch=3), 2000, 25),
    "metadata, a text": _Case(_one("log_trial_metadata", host="node17"), 2000, 25),
    "metadata, a number of numpy": _Case(_one("log_trial_metadata", best=np.float32(0.5)), 2000),
    "metadata, bytes": _Case(_one("log_trial_metadata", seed=b"12345678"), 2000),
    "metadata, a list": _Case(_one("log_trial_metadata", shape=[1, 2, 3]), 2000),
    "metadata, a dict of dicts": _Case(_one("log_trial_metadata", gpu={"name": "H100", "memory": {"GB": 80}}), 2000),
    "metadata, in a dict": _Case(_one("log_trial_metadata", {"epoch": 3}), 2000),
    "metadata, StatAggregator": _Case(_one("log_trial_metadata", aggregator=_STATISTICS, time=0.5), 2000),
    "metadata, a text of 2 kB": _Case(_one("log_trial_metadata", text=_TEXT), 2000),
    "arguments, a float": _Case(_one("log_trial_arguments", lr=1e-3), 2000, 25),
    "arguments, ten of them": _Case(_one("log_trial_arguments", {f"p{n}": n for n in range(10)}), 2000),
    "tags, a bool": _Case(_one("add_trial_tags", best=True), 2000, 25),
    "tags, a text": _Case(_one("add_trial_tags", stage="tuning"), 2000, 25),
    "status": _Case(_one("set_trial_status", ts.Status.Running), 2000, 25),
    "status, one's own": _Case(_one("set_trial_status", _CUSTOM), 2000, 25),
    "status, with a text": _Case(_one("set_trial_status", ts.Status.Broken, "out of memory"), 2000),
    "status, with an exception": _Case(_one("set_trial_status", ts.Status.Broken, _ERROR), 2000),
    "start of a trial": _Case(_one("log_trial_start"), 2000, 25),
    "finish of a trial": _Case(_one("log_trial_finish"), 2000, 25),
    "finish of a trial, with an exception": _Case(_one("log_trial_finish", ValueError, _ERROR), 2000),
    "metadata of a group": _Case(lambda p, to: lambda _: p.set_group_metadata(to.group, best=0.5), 2000),
    "a trial into a project": _Case(lambda p, to: lambda _: p.add_project_trial(to.project, to.trials[0]), 2000),
    "a trial into a group": _Case(lambda p, to: lambda _: p.add_group_trial(to.group, to.trials[0]), 2000),
}
# The cases whose cost may exceed `_MOST_MICROSECONDS`: values of more than 1 KB.
_LARGE = {"1,000 floats", "metadata, a text of 2 kB"}


def chunks(call: Callable[[int], Any], calls: int) -> float:
    """Return the microseconds of a call: the median over the chunks."""
    found = []
    for first in range(0, calls, _CHUNK):
        began = time.perf_counter()
        for i in range(first, first + _CHUNK):
            call(i)
        found.append((time.perf_counter() - began) / _CHUNK * 1e6)
    return median(found)


async def chunks_async(call: Callable[[int], Awaitable[None]], calls: int) -> float:
    """Return the microseconds of an awaited call: the median over the chunks."""
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

    return chunks(lambda i: log(step=i, **_ROW), calls)


def _chrono(protocol: Any, to: _Subjects) -> _Call:
    def pair(_: int) -> None:
        protocol.log_trial_chrono_start(to.trials[0], "step")
        protocol.log_trial_chrono_finish(to.trials[0], "step")

    return pair


def _chrono_async(protocol: Any, to: _Subjects) -> _Call:
    async def pair(_: int) -> None:
        await protocol.log_trial_chrono_start(to.trials[0], "step")
        await protocol.log_trial_chrono_finish(to.trials[0], "step")

    return pair


def _measure_sync(config: Config, to: _Subjects, repeat: int) -> dict[str, tuple[list[float], list[float]]]:
    """Return the microseconds of a call without async, and those of the floor, of each case."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    with trialstream.sync.SyncProtocol(ts.KafkaProtocol(config)) as protocol:
        for name, case in {**_CASES, "chrono, start and finish": _Case(_chrono, 2000)}.items():
            ours, floor = found.setdefault(name, ([], []))
            for _ in range(repeat):
                floor.append(_floor(case.calls))
                ours.append(chunks(case.call(protocol, to), case.calls))
                protocol.commit()
    return found


async def run(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    config = bench.config()
    async with bench.consumer(config), ts.KafkaProtocol(config) as protocol:
        project = await protocol.new_project(ts.Project(name="bench"))
        group = await protocol.new_trial_group(ts.TrialGroup(name="bench"))
        assert group is not None
    to = _Subjects(await bench.trials(config, 64), project, group)
    repeat = 1 if bench.quick else 3
    without = await asyncio.to_thread(_measure_sync, config, to, repeat)
    rows = []
    async with ts.KafkaProtocol(config) as protocol:
        for name, case in {**_CASES, "chrono, start and finish": _Case(_chrono_async, 2000, 15)}.items():
            ours = []
            for _ in range(repeat):
                ours.append(await chunks_async(case.call(protocol, to), case.calls))
                await protocol.commit()
            costs, floor = without[name]
            marks = [] if name in _LARGE else [Mark.most("µs", max(median(costs), median(ours)), _MOST_MICROSECONDS)]
            if case.most is not None:
                marks.append(Mark.most("× the floor", ratio(costs, floor), case.most, "×"))
            rows.append(Row(f"a call: {name}", "µs", costs, {"async": ours, "appending to a list": floor}, marks))
    return rows
