"""Streams of a long log beside a plain aiokafka consumer that reads the same records, decodes none and counts them.

The consumer is `read_bare`: `getmany` over all partitions, with the settings of the service. Rates begin once a stream
is open; how long its opening takes is a row of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import trialstream as ts
import trialstream.sync
from trialstream.config import Config
from trialstream_schemas.model.aggregators import timeseries_aggregator
from trialstream_schemas.wire.codec import encode
from trialstream_schemas.wire.events import (
    ChronosFinished,
    Heartbeat,
    MetricsLogged,
    StatusRecord,
    StatusSet,
    TagsAdded,
    TrialEvent,
)

from benchmarks.bench import NAMES, Bench, Reading, read_bare, writing
from benchmarks.report import Mark, Row, ratio

_TRIALS = 64
_FRAMES, _QUICK_FRAMES = 40_000, 8_000
_ROWS, _QUICK_ROWS = 400_000, 100_000
_MIXED, _QUICK_MIXED = 200_000, 50_000


async def _read(config: Config, **conditions: str) -> tuple[float, Reading, int]:
    """Read a log by a stream; return the seconds of its opening, how long the rest took, and the number of events."""
    began = time.perf_counter()
    async with ts.stream(config=config, follow=False, **conditions) as stream:
        opening, opened = time.perf_counter() - began, Reading.since()
        count = 0
        async for _ in stream:
            count += 1
        return opening, Reading.since(opened), count


async def _read_plainly(config: Config) -> tuple[float, Reading, int]:
    """Read a log as `_read` does, by the stream of code that is not async."""

    def read() -> tuple[float, Reading, int]:
        began = time.perf_counter()
        with trialstream.sync.stream(config=config, follow=False) as stream:
            opening, opened = time.perf_counter() - began, Reading.since()
            count = 0
            for _ in stream:
                count += 1
            return opening, Reading.since(opened), count

    return await asyncio.to_thread(read)


async def _fill_with_frames(bench: Bench, config: Config, trials: Sequence[ts.Trial], rows: int) -> int:
    quick, full = (_QUICK_ROWS, _ROWS) if rows == 1 else (_QUICK_FRAMES, _FRAMES)
    return (await bench.fill(config, trials, quick if bench.quick else full, rows=rows)).frames


async def _fill_with_all(bench: Bench, config: Config, trials: Sequence[ts.Trial]) -> int:
    """Of 20 events of a trial, 14 are single rows, 2 frames of 256 rows, and 4 others."""
    count = _QUICK_MIXED if bench.quick else _MIXED
    async with writing(config) as send:
        for n in range(count):
            trial = trials[n % len(trials)]
            await send(trial.hash.encode(), encode(_event(trial.uid, n // len(trials))))
    return count


def _event(trial: str, turn: int) -> TrialEvent:
    now = time.time_ns() // 1000
    envelope = {"trial": trial, "writer": "writer0", "seq": turn + 1, "time": now}
    match turn % 20:
        case 5:
            return StatusSet(**envelope, status=StatusRecord("Running", 3))
        case 10:
            return TagsAdded(**envelope, values={"note": "warm", "epoch": turn})
        case 15:
            return Heartbeat(**envelope)
        case 19:
            return ChronosFinished(
                **envelope, names=["step"], aggregators=[timeseries_aggregator], announced=[0], failed=[0],
                chronos=[0] * 4, times=[0, 10, 20, 30], elapsed=[0.25] * 4,
            )  # fmt: skip
        case 8 | 16:
            rows = 256
        case _:
            rows = 1
    return MetricsLogged(
        **envelope, aggregator=timeseries_aggregator, names=NAMES, steps=range(turn, turn + rows),
        times=range(0, 1000 * rows, 1000), columns=[[0.5] * rows] * len(NAMES),
    )  # fmt: skip


async def run(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    found: list[Row] = []
    openings: list[float] = []
    fills: dict[str, Callable[[Config, Sequence[ts.Trial]], Awaitable[int]]] = {
        "rows logged one by one": lambda config, trials: _fill_with_frames(bench, config, trials, 1),
        "frames of 256 rows": lambda config, trials: _fill_with_frames(bench, config, trials, 256),
        "events of all kinds": lambda config, trials: _fill_with_all(bench, config, trials),
    }
    for what, fill in fills.items():
        config = bench.config()
        trials = await bench.trials(config, _TRIALS)
        events = await fill(config, trials) + len(trials)
        bare: list[Reading] = []
        readings: dict[str, list[Reading]] = {}
        for _ in range(1 if bench.quick else 3):
            bare.append(await read_bare(config))
            for how, reading, expected in (
                (f"stream of {what}", _read(config), events),
                ("the same, by `trialstream.sync.stream`", _read_plainly(config), events),
                ("the same, of a project without any of them", _read(config, project="another"), 0),
            ):
                opening, took, count = await reading
                assert count == expected
                openings.append(1000 * opening)
                readings.setdefault(how, []).append(took)
        beside = {"a bare consumer": [events / each.seconds for each in bare]}
        for how, each in readings.items():
            marks = [
                Mark.least("of the bare consumer's rate", _ratio(bare, each, "seconds"), 1 / 2),
                Mark.least("of it by processor time", _ratio(bare, each, "processor"), 1 / 2),
            ]
            found.append(Row(how, "events/s", [events / took.seconds for took in each], beside, marks))
    return [*found, Row("opening of a stream", "ms", openings)]


def _ratio(bare: Sequence[Reading], ours: Sequence[Reading], clock: str) -> float:
    """Return the ratio of our rate to that of the bare consumer, by one of the clocks."""
    return ratio([getattr(each, clock) for each in bare], [getattr(each, clock) for each in ours])
