"""Points that Kafka acknowledges, logged by one process, beside clients that send a record for each row."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import trialstream as ts

from benchmarks.bench import NAMES, Bench
from benchmarks.peers import run_peer
from benchmarks.report import Mark, Row, median

_PER_ROW = {"confluent-kafka, a record for each row": "confluent", "aiokafka, a record for each row": "plain_aiokafka"}
_POINTS_PER_SECOND = 1_000_000


async def _logged(protocol: ts.Protocol, trials: Sequence[ts.Trial], metrics: int, points: int) -> float:
    """Return the points per second from the first call to the last acknowledgement, with the trials in turn."""
    names = NAMES if metrics == len(NAMES) else tuple(f"metric{n}" for n in range(metrics))
    row = dict.fromkeys(names, 0.5)
    steps = points // metrics // len(trials)
    began = time.perf_counter()
    for step in range(steps):
        for trial in trials:
            await protocol.log_trial_metrics(trial, step=step, **row)
    await protocol.commit()
    return steps * len(trials) * metrics / (time.perf_counter() - began)


async def run(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    config = bench.config()
    trials = await bench.trials(config, 64)
    repeat, points = (3, 1_000_000) if bench.quick else (5, 2_000_000)
    shapes = [(1, 4), (64, 4)] if bench.quick else [(1, 4), (8, 4), (64, 4), (1, 1), (1, 16), (1, 64), (64, 1)]
    peers: dict[str, Sequence[float] | str] = {}
    if not bench.quick:
        for name, module in _PER_ROW.items():
            found = await asyncio.to_thread(run_peer, module, "produce", kafka=config.kafka)
            peers[name] = found if isinstance(found, str) else [found["points_per_second"]]
    best = max((each[0] for each in peers.values() if not isinstance(each, str)), default=None)
    if not bench.quick:
        found = await asyncio.to_thread(run_peer, "kafka_perf", "produce", kafka=config.kafka)
        # Its records have no values. A record of 120 bytes counts as a row of 4 metrics.
        rate = found if isinstance(found, str) else [4 * found["rows_per_second"]]
        peers["kafka-producer-perf-test, 4 × its records of 120 bytes"] = rate
    rows = []
    async with ts.KafkaProtocol(config) as protocol:
        for count, metrics in shapes:
            ours = [
                await _logged(protocol, trials[:count], metrics, points if metrics > 1 else points // 4)
                for _ in range(repeat)
            ]
            marks = []
            if metrics == len(NAMES):
                marks.append(Mark.least("points/s", median(ours), _POINTS_PER_SECOND))
                if best is not None:
                    marks.append(Mark.least("× the best client that sends rows", median(ours) / best, 4, "×"))
            what = f"acked by Kafka, {count} {'trial' if count == 1 else 'trials'}, {metrics} metrics a row"
            rows.append(Row(what, "points/s", ours, peers if (count, metrics) == (1, 4) else {}, marks))
    return rows
