"""Latency of commands that wait for the log's decision, and of reads of what was just logged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import trialstream as ts
from aiokafka import AIOKafkaProducer
from trialstream.config import Config

from benchmarks.bench import NAMES, Bench
from benchmarks.report import Mark, Row, median

_FIRST_ROW_MS = 5.0
_ALONE_MS = 15.0
_VISIBLE_MS = (20.0, 100.0)
_WORKERS = 32


async def _times(call: Callable[[int], Awaitable[object]], count: int) -> list[float]:
    """Return the milliseconds of each call, one after the other."""
    found = []
    for n in range(count):
        began = time.perf_counter()
        await call(n)
        found.append(1000 * (time.perf_counter() - began))
    return found


async def _rate(call: Callable[[int], Awaitable[object]], count: int) -> float:
    """Return the calls per second of 32 workers."""

    async def work(worker: int) -> None:
        for n in range(worker, count, _WORKERS):
            await call(n)

    began = time.perf_counter()
    await asyncio.gather(*(work(worker) for worker in range(_WORKERS)))
    return count / (time.perf_counter() - began)


async def _floor(bench: Bench, config: Config, count: int) -> list[float]:
    """Return the milliseconds of one acknowledged record and one transaction of two documents."""
    producer = AIOKafkaProducer(bootstrap_servers=config.kafka, acks="all")
    await producer.start()
    async with bench.mongo() as client:
        await client[config.database].floor.insert_one({"_id": -1})

        async def once(n: int) -> None:
            await producer.send_and_wait(config.trials_topic, b"x" * 300, partition=0)
            async with await client.start_session() as session, session.start_transaction():
                await client[config.database].floor.insert_one({"_id": n}, session=session)
                await client[config.database].floor.update_one({"_id": -1}, {"$set": {"n": n}}, session=session)

        try:
            return await _times(once, count)
        finally:
            await producer.stop()


async def _visible(bench: Bench, rate: int, count: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds from a row's acknowledgement to a fetch that shows it, under load, and their floor."""
    config = bench.config()
    async with bench.consumer(config), ts.KafkaProtocol(config) as protocol, ts.KafkaProtocol(config) as busy:
        trial = await protocol.new_trial(ts.Trial(name="watched"))
        others = [await busy.new_trial(ts.Trial(name="busy", parameters={"n": n})) for n in range(8)]
        assert trial is not None

        async def load() -> None:
            began, logged = time.perf_counter(), 0
            while True:
                due = int((time.perf_counter() - began) * rate)
                for n in range(logged, due):
                    await busy.log_trial_metrics(others[n % len(others)], step=n, **dict.fromkeys(NAMES, 0.5))
                logged = due
                await asyncio.sleep(0.01)

        loading = asyncio.create_task(load())
        found = []
        for n in range(count):
            await protocol.log_trial_metrics(trial, step=n, loss=0.5)
            await protocol.commit("acked")
            began = time.perf_counter()
            [seen] = await protocol.fetch_trials({"uid": trial.uid})  # waits for the rows that this protocol has logged
            found.append(1000 * (time.perf_counter() - began))
            assert seen.metrics["loss"].count == n + 1
        loading.cancel()
    async with bench.mongo() as client:
        collection = client[config.database].floor

        async def once(n: int) -> None:
            await collection.insert_one({"_id": n})
            await collection.find_one({"_id": n})

        return found, await _times(once, count)


async def run(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    count = 60 if bench.quick else 200
    config = bench.config()
    rows = []
    async with bench.consumer(config), ts.KafkaProtocol(config) as protocol:
        await protocol.new_trial(ts.Trial(name="warm up"))
        floor = await _floor(bench, config, count)
        created = await _times(lambda n: protocol.new_trial(ts.Trial(name="alone", parameters={"n": n})), count)
        claimed = await _times(lambda _: _claim(protocol, "alone"), count)
        for what, times in (("new_trial", created), ("fetch_and_update_trial", claimed)):
            marks = [Mark.most("ms", median(times), _ALONE_MS)]
            rows.append(Row(f"{what}, alone", "ms", times, {"an acked send and a transaction": floor}, marks))
        times = await _times(_first_row(protocol), count)
        marks = [Mark.most("ms", median(times), _FIRST_ROW_MS)]
        rows.append(Row("new_trial without waiting, and the first row", "ms", times, marks=marks))
        many = 640 if bench.quick else 1600
        rate = await _rate(lambda n: protocol.new_trial(ts.Trial(name="many", parameters={"n": n})), many)
        rows.append(Row(f"new_trial, {_WORKERS} workers", "calls/s", [rate]))
        rate = await _rate(lambda _: _claim(protocol, "many"), many)
        rows.append(Row(f"fetch_and_update_trial, {_WORKERS} workers", "claims/s", [rate]))
    for load in (100, 10_000):
        times, floor = await _visible(bench, load, count)
        p99 = sorted(times)[int(0.99 * len(times))]
        rows.append(
            Row(
                f"acked to visible in fetch_trials, {load:,} rows/s",
                "ms",
                times,
                {"one MongoDB insert and find": floor},
                [
                    Mark.most("ms, median", median(times), _VISIBLE_MS[0]),
                    Mark.most("ms, 99th percentile", p99, _VISIBLE_MS[1]),
                ],
            )
        )
    return rows


def _first_row(protocol: ts.Protocol) -> Callable[[int], Awaitable[None]]:
    async def create_and_log(n: int) -> None:
        trial = await protocol.new_trial(ts.Trial(name="run", parameters={"n": n}), auto_increment=True, wait=False)
        await protocol.log_trial_metrics(trial, step=0, loss=0.5)

    return create_and_log


async def _claim(protocol: ts.Protocol, name: str) -> ts.Trial:
    return await protocol.fetch_and_update_trial({"name": name, "status": None}, "log_trial_start")
