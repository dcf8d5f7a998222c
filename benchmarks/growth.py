"""Cost of a call and of a point as the number of trials, points and writers grows."""

from __future__ import annotations

import time

import trialstream as ts

from benchmarks.bench import NAMES, Bench
from benchmarks.report import Mark, Row

# Bound of the largest cost over the smallest: the noise of a shared machine and processor caches make a factor of two.
_TIMES = 2.0


async def run(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    return [await _trials(bench), await _points(bench), await _writers(bench)]


def _row(what: str, unit: str, costs: dict[str, float]) -> Row:
    first, *_, last = costs.values()
    named = {name: [each] for name, each in costs.items()}
    return Row(what, unit, [last], named, [Mark.most("× of the smallest", last / first, _TIMES, "×")])


async def _trials(bench: Bench) -> Row:
    """Measure calls for many trials in turn: microseconds of a call, until Kafka has acknowledged all of them."""
    config = bench.config()
    calls = 50_000 if bench.quick else 200_000
    costs = {}
    values = dict.fromkeys(NAMES, 0.5)
    async with ts.KafkaProtocol(config) as protocol:
        for count in (1, 100, 1000) if bench.quick else (1, 100, 10_000):
            # The trials need not exist: MongoDB is not queried for subjects that this session has recorded as existing.
            trials = [ts.Trial(name="bench", parameters={"n": n}) for n in range(count)]
            protocol._session.subjects.add("trials", *(each.uid for each in trials))
            began = time.perf_counter()
            for step in range(calls // count):
                for trial in trials:
                    await protocol.log_trial_metrics(trial, step=step, **values)
            await protocol.commit()
            costs[f"{count:,} trials"] = (time.perf_counter() - began) / calls * 1e6
    return _row("a call until acked, as trials grow", "µs", costs)


async def _points(bench: Bench) -> Row:
    """Measure the nanoseconds to fold a point of a trial with many points: the first and the last tenth of a log."""
    config = bench.config(partitions=1)
    created = await bench.trials(config, 1)
    frames = 4000 if bench.quick else 10_000
    log = await bench.fill(config, created, frames)
    fold = await bench.fold(config, frames)
    each = log.points / log.frames
    costs = {
        f"the first tenth of {log.points / 1e6:.0f} million": 1e9 / fold.rate(0, 0.1) / each,
        "the last tenth": 1e9 / fold.rate(0.9, 1) / each,
    }
    return _row("folding a point, as a trial's points grow", "ns", costs)


async def _writers(bench: Bench) -> Row:
    """Measure the nanoseconds to fold a point of a trial with many writers."""
    costs = {}
    frames = 1000 if bench.quick else 3000
    for writers in (1, 64):
        config = bench.config(partitions=1)
        created = await bench.trials(config, 1)
        log = await bench.fill(config, created, frames, writers=writers)
        fold = await bench.fold(config, frames)
        costs[f"{writers} writers"] = 1e9 / fold.rate() / (log.points / log.frames)
    return _row("folding a point, as writers grow", "ns", costs)
