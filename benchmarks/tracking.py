"""Cost of the tracker: its calls beside those of the protocol beneath, its start, and training loops that use it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import trialstream as ts

from benchmarks.bench import Bench
from benchmarks.cliffs import chunks, chunks_async
from benchmarks.loops import in_turn, seconds
from benchmarks.report import Mark, Row, median, ratio
from benchmarks.training import Training

_CALLS = 20_000
_STEPS = 1000
_ROW = {"loss": 0.5, "accuracy": 0.25, "lr": 1e-3, "norm": 3.5}
_MOST_TIMES, _MOST_START_MS, _MOST_PERCENT = 1.3, 50.0, 1.0


async def run(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    config = bench.config()
    settings = {"kafka": config.kafka, "mongo": config.mongo, "prefix": config.prefix, "capture": False}
    repeat = 3 if bench.quick else 9
    async with bench.consumer(config):
        rows = await asyncio.to_thread(_plain, settings, repeat)
        rows.append(await _asynchronous(settings, repeat))
        rows.append(await asyncio.to_thread(_start, settings, repeat))
    return rows


def _plain(settings: dict[str, Any], repeat: int) -> list[Row]:
    """Return the rows of the calls without async, and of the training loop."""
    with ts.track("bench", **settings) as t:
        protocol = t.protocol

        def pair(_: int) -> None:
            protocol.log_trial_chrono_start(t.trial, "pair")
            protocol.log_trial_chrono_finish(t.trial, "pair")

        def chrono(_: int) -> None:
            with t.chrono("chrono"):
                pass

        def call(log: Any, calls: int) -> float:
            found = chunks(log, calls)
            t.commit()
            return found

        ours, beneath = in_turn(
            lambda: call(lambda i: t.log(_ROW, step=i), _CALLS),
            lambda: call(lambda i: protocol.log_trial_metrics(t.trial, step=i, **_ROW), _CALLS),
            repeat=repeat,
        )
        chronos, pairs = in_turn(lambda: call(chrono, _CALLS // 10), lambda: call(pair, _CALLS // 10), repeat=repeat)

        def tracked(training: Training) -> float:
            began = time.perf_counter()
            for _ in t.timed(range(_STEPS), "batch"):
                with t.chrono("step"):
                    loss = training.step()
                t.log({"loss": loss, "accuracy": 0.25}, step=t.step)
            took = time.perf_counter() - began
            t.commit()  # the loop without the tracker must not pay for the last rows
            return took

        def loops(name: str, training: Training) -> Row:
            tracking, least, plain = in_turn(
                lambda: tracked(training),
                lambda: _least(training),
                lambda: seconds(training.step, _STEPS),
                repeat=repeat,
            )
            slower = median([100 * (a / b - 1) for a, b in zip(tracking, plain, strict=True)])
            marks = [Mark.most("% slower", slower, _MOST_PERCENT, "%")]
            beside = {"without the tracker": plain, "clocks are read, and a list is appended to": least}
            return Row(name, "s", tracking, beside, marks)

        name = "1,000 steps of a millisecond, each with timed, a chrono and a row"
        trainings = [
            loops(name, Training()),
            loops("the same, each step one call that leaves the interpreter to others", Training(one_call=True)),
        ]
    times = ratio(ours, beneath)
    return [
        Row(
            "t.log, 4 values",
            "µs",
            ours,
            {"the protocol's call": beneath},
            [Mark.most("× the protocol's call", times, _MOST_TIMES, "×")],
        ),
        Row("t.chrono, a block", "µs", chronos, {"the protocol's start and finish": pairs}),
        *trainings,
    ]


def _least(training: Training) -> float:
    """Return the seconds of the least that a tracker does in Python: two clocks a duration, one a row, and no more."""
    kept: list[tuple[float, object]] = []
    began = time.perf_counter()
    for i in range(_STEPS):
        batch = time.perf_counter()
        step = time.perf_counter()
        loss = training.step()
        kept.append((step, time.perf_counter()))
        kept.append((time.time(), {"loss": loss, "accuracy": 0.25, "step": i}))
        kept.append((batch, time.perf_counter()))
    return time.perf_counter() - began


async def _asynchronous(settings: dict[str, Any], repeat: int) -> Row:
    async with ts.track("bench", **settings) as t:
        ours, beneath = [], []
        for _ in range(repeat):
            ours.append(chunks(lambda i: t.log(_ROW, step=i), _CALLS))
            await t.commit()
            beneath.append(await chunks_async(lambda i: t.protocol.log_trial_metrics(t.trial, step=i, **_ROW), _CALLS))
            await t.commit()
    marks = [Mark.most("× the protocol's call", ratio(ours, beneath), _MOST_TIMES, "×")]
    return Row("t.log in async code, 4 values", "µs", ours, {"the protocol's awaited call": beneath}, marks)


def _start(settings: dict[str, Any], repeat: int) -> Row:
    """Return the row of the time from `track` to the first row."""
    found = []
    for _ in range(repeat + 1):
        began = time.perf_counter()
        with ts.track("bench start", project="bench", group="bench", **settings) as t:
            t.log({"loss": 1.0}, step=1)
            found.append(1000 * (time.perf_counter() - began))
    marks = [Mark.most("ms", median(found[1:]), _MOST_START_MS)]
    return Row("from track() to its first row, with project and group", "ms", found[1:], marks=marks)
