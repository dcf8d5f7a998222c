"""Streams of a long log beside a consumer that only fetches and counts: all events, and those of one project."""

from __future__ import annotations

import time

import trialstream as ts
from trialstream.config import Config

from benchmarks.bench import Bench, read_bare
from benchmarks.report import Mark, Row, ratio

_FRAMES, _QUICK_FRAMES = 40_000, 8_000
_ROWS, _QUICK_ROWS = 400_000, 100_000


async def _read(config: Config, **conditions: str) -> tuple[float, int]:
    """Read a log by a stream; return the seconds, and the number of events."""
    began = time.perf_counter()
    count = 0
    async with ts.stream(config=config, follow=False, **conditions) as stream:
        async for _ in stream:
            count += 1
    return time.perf_counter() - began, count


async def run(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    found: list[Row] = []
    for what, rows, quick, full in (
        ("frames of 256 rows", 256, _QUICK_FRAMES, _FRAMES),
        ("rows logged one by one", 1, _QUICK_ROWS, _ROWS),
    ):
        config = bench.config()
        trials = await bench.trials(config, 64)
        log = await bench.fill(config, trials, quick if bench.quick else full, rows=rows)
        bare, all_, none = [], [], []
        for _ in range(1 if bench.quick else 3):
            bare.append(log.frames / await read_bare(config))
            seconds, count = await _read(config)
            assert count == log.frames + len(trials)
            all_.append(log.frames / seconds)
            seconds, count = await _read(config, project="another")
            assert not count
            none.append(log.frames / seconds)
        beside = {"a bare consumer": bare}
        found += [
            Row(
                f"stream of {what}",
                "events/s",
                all_,
                beside,
                [Mark.least("of the bare read", ratio(all_, bare), 1 / 2)],
            ),
            Row(
                "the same, of a project without any of them",
                "events/s",
                none,
                beside,
                [Mark.least("of the bare read", ratio(none, bare), 1 / 2)],
            ),
        ]
    return found
