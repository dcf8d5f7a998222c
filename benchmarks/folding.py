"""Points that one consumer process folds, beside Kafka Connect with MongoDB's sink and a bare `insert_many`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from benchmarks.bench import NAMES, Bench
from benchmarks.peers import run_peer
from benchmarks.report import Mark, Row, median

_POINTS_PER_SECOND = 2_000_000
_ROWS_PER_SECOND = 100_000
_TIMES_CONNECT = 40


async def _folded(bench: Bench, trials: int, frames: int, rows: int) -> float:
    """Return the rows per second that a new consumer folds of frames that are in the log."""
    config = bench.config()
    created = await bench.trials(config, trials)
    await bench.fill(config, created, frames, rows=rows)
    return rows * (await bench.fold(config, frames)).rate()


async def _insert_rate(bench: Bench, rows: int) -> float:
    """Return the points per second of plain documents, one for each row."""
    config = bench.config()
    async with bench.mongo() as client:
        collection = client[config.database].rows
        values = dict.fromkeys(NAMES, 0.5)
        made = [{"trial": "a" * 34, "step": n, "time": n, **values} for n in range(rows)]
        began = time.perf_counter()
        for first in range(0, rows, 10_000):
            await collection.insert_many(made[first : first + 10_000])
        seconds = time.perf_counter() - began
        await client.drop_database(config.database)
    return rows * len(NAMES) / seconds


def _connect(bench: Bench, beside: dict[str, Sequence[float] | str]) -> float | None:
    """Measure Kafka Connect, by default and with plain inserts, for the table; return the default's points/s."""
    servers = {"kafka": bench.stack.kafka.address, "mongo": bench.stack.mongo.uri}
    found = run_peer("connect", "sink", **servers)
    inserting = run_peer("connect", "sink", inserts=True, **servers)
    for what, result in (("", found), (", inserting", inserting)):
        rate = result if isinstance(result, str) else [result["points_per_second"]]
        beside[f"Kafka Connect, MongoDB's sink{what}"] = rate
    return None if isinstance(found, str) else found["points_per_second"]


async def run(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    repeat, full, single = (2, 4000, 50_000) if bench.quick else (3, 20_000, 200_000)
    inserted = [await _insert_rate(bench, 50_000) for _ in range(repeat)]
    beside: dict[str, Sequence[float] | str] = {"insert_many, a document for each row": inserted}
    connect = None if bench.quick else await asyncio.to_thread(_connect, bench, beside)
    rows = []
    for trials in (64,) if bench.quick else (1, 64, 1000):
        points = [len(NAMES) * await _folded(bench, trials, full, 256) for _ in range(repeat)]
        marks = [Mark.least("points/s", median(points), _POINTS_PER_SECOND)]
        if connect is not None:
            marks.append(Mark.least("× Kafka Connect", median(points) / connect, _TIMES_CONNECT, "×"))
        rows.append(Row(f"folded, {trials} active trials, frames of 256 rows", "points/s", points, beside, marks))
        singles = [await _folded(bench, trials, single, 1) for _ in range(repeat)]
        marks = [Mark.least("rows/s", median(singles), _ROWS_PER_SECOND)]
        rows.append(Row(f"folded, {trials} active trials, frames of one row", "rows/s", singles, {}, marks))
        beside = {}
    return rows
