"""A rebuild of a long log by one process and by two, beside reading it with a consumer that does nothing else."""

from __future__ import annotations

import time

from trialstream_consumer.replay.rebuild import rebuild

from benchmarks.bench import Bench, read_bare
from benchmarks.report import Mark, Row, ratio

_POINTS = 20_000_000
_QUICK_POINTS = 8_000_000  # two workers share logs of more than 4,000 records


async def run(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    config = bench.config()
    trials = await bench.trials(config, 64)
    log = await bench.fill(config, trials, (_QUICK_POINTS if bench.quick else _POINTS) // 1024)
    bare, rebuilt, shared = [], [], []
    for _ in range(1 if bench.quick else 3):
        bare.append(log.points / (await read_bare(config)).seconds)
        for workers, rates in ((1, rebuilt), (2, shared)):
            began = time.perf_counter()
            await rebuild(config, lambda *_: None, workers)
            rates.append(log.points / (time.perf_counter() - began))
    return [
        Row(
            f"rebuild of {log.points / 1e6:.0f} million points",
            "points/s",
            rebuilt,
            {"reading them with a bare consumer": bare},
            [Mark.least("of the bare read", ratio(rebuilt, bare), 1 / 4)],
        ),
        Row(
            "the same rebuild with two workers",
            "points/s",
            shared,
            {"with one": rebuilt},
            [Mark.least("× one worker", ratio(shared, rebuilt), 1.0)],
        ),
    ]
