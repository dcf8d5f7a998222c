"""Bytes of a point on the wire and in MongoDB, and memory of a producer and a consumer under load."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

from trialstream_console.local.consumer import environment

from benchmarks.bench import Bench
from benchmarks.report import Mark, Row

_RAW_BYTES = 16.0
_WIRE_BYTES, _STORED_BYTES = 16.0, 24.0
_MOST_MIB = 512.0

_PRODUCER = """
import asyncio, json, sys, threading, time
import psutil, trialstream as ts
async def main():
    config = ts.Config.from_env()
    async with ts.KafkaProtocol(config) as protocol:
        trial = ts.Trial(name="weight")
        protocol._session.subjects.add("trials", trial.uid)
        await protocol.log_trial_metrics(trial, step=0, loss=0.5, accuracy=0.25, lr=0.1, norm=3.5)
        await protocol.commit()
        before = most = psutil.Process().memory_info().rss
        def watch():  # the kernel's maximum includes the parent's memory at the fork
            nonlocal most
            while True:
                most = max(most, psutil.Process().memory_info().rss)
                time.sleep(0.05)
        threading.Thread(target=watch, daemon=True).start()
        for step in range(int(sys.argv[1])):
            await protocol.log_trial_metrics(trial, step=step, loss=0.5, accuracy=0.25, lr=0.1, norm=3.5)
        await protocol.commit()
        print(json.dumps({"before": before / 2**20, "most": most / 2**20}))
asyncio.run(main())
"""


async def run(bench: Bench) -> list[Row]:
    """The rows of this benchmark."""
    config = bench.config()
    trials = await bench.trials(config, 64)
    frames = 1000 if bench.quick else 5000
    log = await bench.fill(config, trials, frames)
    fold = await bench.fold(config, frames)
    async with bench.mongo() as client:
        held = await client[config.database].command("collStats", "series")
        await client.admin.command("fsync")
        packed = await client[config.database].command("collStats", "series")
    rows = 100_000 if bench.quick else 1_000_000
    process = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _PRODUCER, str(rows)],
        env=environment(config),
        capture_output=True,
        check=True,
    )
    producer = json.loads(process.stdout)
    wire, stored = log.bytes / log.points, held["size"] / log.points
    raw = {"raw: time and value": [_RAW_BYTES]}
    return [
        Row(
            "a point on the wire, uncompressed, frames of 256 rows of 4",
            "bytes",
            [wire],
            raw,
            [Mark.most("bytes", wire, _WIRE_BYTES)],
        ),
        Row(
            "a point in MongoDB, uncompressed",
            "bytes",
            [stored],
            {**raw, "on disk": [packed["storageSize"] / log.points]},
            [Mark.most("bytes", stored, _STORED_BYTES)],
        ),
        Row(
            f"memory of a producer that logs {rows:,} rows at once",
            "MiB",
            [producer["most"]],
            {"before": [producer["before"]]},
            [Mark.most("MiB", producer["most"], _MOST_MIB)],
        ),
        Row(
            f"memory of a consumer that folds {log.points / 1e6:.0f} million points of a backlog",
            "MiB",
            [fold.most],
            {"at its start": [fold.before]},
            [Mark.most("MiB", fold.most, _MOST_MIB)],
        ),
    ]
