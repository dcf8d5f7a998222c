"""The live parts of the dashboard: from a call to the screen, many readers, and a tab that stays open for hours."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import trialstream as ts
from aiokafka import AIOKafkaProducer
from trialstream.config import Config
from trialstream_schemas.model.aggregators import timeseries_aggregator
from trialstream_schemas.wire.codec import encode
from trialstream_schemas.wire.events import MetricsLogged

from benchmarks.bench import NAMES, Bench
from benchmarks.browsing import Browsing, Served, Tab, served
from benchmarks.report import Mark, Row, median

__all__ = ["run"]

_RATES = (100, 10_000)
_P50_MS, _P95_MS = 400.0, 1000.0
_READERS, _READ_ROWS_PER_SECOND = 200, 20
_CORES, _LAG_SECONDS, _GROWN_MIB = 1.0, 2.0, 50.0
# A working day of one row a second, each of them a change of its own, so many times as fast.
_DAY_ROWS, _DAY_TIMES = 8 * 3600, 200
_FLAT = 1.2
_HAS_CHART = "/\\d/.test(document.querySelector('.large .notes')?.textContent ?? '')"
# Notes when the large chart shows how many rows: after the frame that does.
_WATCH = """() => {
  window.benchShown = [];
  let before = 0;
  const look = () => {
    const text = document.querySelector(".large .notes")?.textContent ?? "";
    const rows = Number((/^[\\d\\s]+/.exec(text) ?? ["0"])[0].replace(/\\D/g, ""));
    if (rows === before) return;
    before = rows;
    requestAnimationFrame(() => setTimeout(() => window.benchShown.push([Date.now() / 1000, rows])));
  };
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
  look();
}"""
_FROM = re.compile(rb'"from":\s*(\d+)')


async def run(bench: Bench, browser: Browsing) -> list[Row]:
    """Return the rows of this part."""
    day = [] if bench.quick else await _day(bench, browser)
    return [*await _latency(bench, browser), *await _readers(bench), *day]


def _path(trial: ts.Trial) -> str:
    return f"/trials/{trial.uid}?metric=loss"


@dataclass
class _Logged:
    """Rows that were logged.

    Attributes:
        times: When each was logged, seconds since 1970.
    """

    times: list[float] = field(default_factory=list)

    async def log(self, protocol: ts.KafkaProtocol, trial: ts.Trial, rate: float, seconds: float) -> None:
        """Log rows of four metrics at a rate."""
        began, first = time.perf_counter(), len(self.times)
        while (now := time.perf_counter() - began) < seconds:
            while len(self.times) - first < now * rate:
                step = len(self.times)
                self.times.append(time.time())
                await protocol.log_trial_metrics(
                    trial, step=step, loss=0.5 + step % 7, accuracy=0.25, lr=1e-3, norm=3.5
                )
            await asyncio.sleep(min(0.005, 1 / rate))


async def _latency(bench: Bench, browser: Browsing) -> list[Row]:
    rows = []
    seconds = 5 if bench.quick else 15
    for rate in _RATES[: 1 if bench.quick else None]:
        config = bench.config()
        logged = _Logged()
        async with bench.consumer(config), ts.KafkaProtocol(config) as protocol, served(bench, config) as dashboard:
            trial = await protocol.new_trial(ts.Trial(name="live"))
            assert trial is not None
            await protocol.log_trial_start(trial)
            await logged.log(protocol, trial, 100, 0.1)
            await protocol.commit("folded")
            async with browser.tab(dashboard, _HAS_CHART) as tab:
                await tab.open(dashboard.address + _path(trial))
                await tab.page.evaluate(_WATCH)
                await asyncio.sleep(1)
                first = len(logged.times)
                await logged.log(protocol, trial, rate, seconds)
                with contextlib.suppress(TimeoutError):  # then rows that were not shown took forever
                    await _until_shown(tab, len(logged.times))
                shown = await tab.page.evaluate("window.benchShown")
        taken = sorted(1000 * each for each in _delays(logged.times, first, shown))
        p50, p95 = (taken[int(len(taken) * q)] for q in (0.5, 0.95))
        marks = [Mark.most("ms, p50", p50, _P50_MS), Mark.most("ms, p95", p95, _P95_MS)]
        what = f"from a call to an open page, {rate:,} rows/s"
        rows.append(Row(what, "ms", [p50], {"95th percentile": [p95], "longest": [taken[-1]]}, marks))
    return rows


async def _until_shown(tab: Tab, rows: int) -> None:
    """Wait until the page shows a number of rows."""
    await tab.until(f"window.benchShown.at(-1)?.[1] >= {rows}")


def _delays(times: Sequence[float], first: int, shown: Sequence[tuple[float, int]]) -> list[float]:
    """Return the seconds from each call to the frame that shows its row."""
    counts = [count for _, count in shown]
    ends = [at for at, _ in shown] + [math.inf]
    return [ends[bisect_left(counts, n + 1)] - times[n] for n in range(first, len(times))]


async def _readers(bench: Bench) -> list[Row]:
    config = bench.config()
    logged, lags = _Logged(), array("d")
    seconds = 5 if bench.quick else 20
    async with bench.consumer(config), ts.KafkaProtocol(config) as protocol, served(bench, config) as dashboard:
        trial = await protocol.new_trial(ts.Trial(name="watched"))
        assert trial is not None
        await protocol.log_trial_start(trial)
        await protocol.commit("folded")
        connected = [asyncio.Event() for _ in range(_READERS)]
        tasks = [asyncio.ensure_future(_read(dashboard, trial, logged, lags, each)) for each in connected]
        await asyncio.wait_for(asyncio.gather(*(each.wait() for each in connected)), 60)
        await logged.log(protocol, trial, _READ_ROWS_PER_SECOND, 2)  # the memory of what is read first
        before, cpu, began = dashboard.mib, dashboard.cpu_seconds, time.perf_counter()
        lags[:] = array("d")
        await logged.log(protocol, trial, _READ_ROWS_PER_SECOND, seconds)
        cores = (dashboard.cpu_seconds - cpu) / (time.perf_counter() - began)
        after = dashboard.mib
        await asyncio.sleep(1)
        ended = sum(each.done() for each in tasks)
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert not ended, f"{ended} readers were disconnected"
    what = f"{_READERS} readers of a live trial, {_READ_ROWS_PER_SECOND} rows/s"
    events = {"events received": f"{len(lags) / seconds:,.0f}/s"}
    return [
        Row(f"{what}, processor", "cores", [cores], events, [Mark.most("core", cores, _CORES)]),
        Row(
            f"{what}, the server's memory after {seconds} s",
            "MiB",
            [after],
            {"before": [before]},
            [Mark.most("MiB more", after - before, _GROWN_MIB)],
        ),
        Row(
            f"{what}, from the call of the oldest row of an event to a reader",
            "s",
            [median(lags)],
            {"longest": [max(lags)]},
            [Mark.most("s, longest", max(lags), _LAG_SECONDS)],
        ),
    ]


async def _read(dashboard: Served, trial: ts.Trial, logged: _Logged, lags: array, connected: asyncio.Event) -> None:
    """Read the live stream of a trial, and note how late the oldest row of each event is."""
    reader, writer = await asyncio.open_connection("127.0.0.1", dashboard.port, limit=2**20)
    try:
        path = f"/api/v1/live?trial={trial.uid}"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{dashboard.port}\r\n\r\n".encode())
        status = await reader.readline()
        assert b" 200 " in status, status
        while line := await reader.readline():
            connected.set()
            if line.startswith(b"data:") and (found := _FROM.search(line)):
                lags.append(time.time() - logged.times[int(found[1])])
    finally:
        writer.close()


async def _day(bench: Bench, browser: Browsing) -> list[Row]:
    config = bench.config()
    [trial] = await bench.trials(config, 1)
    heaps, memories = [], []
    logged = 1
    async with bench.consumer(config), served(bench, config, times=_DAY_TIMES) as dashboard:
        await _append(config, trial, 0, 1)
        await _until_folded(config, trial)
        async with browser.tab(dashboard, _HAS_CHART) as tab:
            await tab.open(dashboard.address + _path(trial))
            await tab.page.evaluate(_WATCH)
            began = time.perf_counter()
            for share in (0.25, 0.5, 1):
                await _append(config, trial, logged, int(_DAY_ROWS * share))
                logged = int(_DAY_ROWS * share)
                await _until_shown(tab, logged)
                heaps.append(await tab.heap())
                memories.append(dashboard.mib)
            seconds = time.perf_counter() - began
            events = tab.live_events
    what = f"a tab open for {_DAY_ROWS / 3600:g} h at a row a second, in {seconds:.0f} s with {events:,} live events"
    return [
        Row(
            f"{what}, {of}",
            "MiB",
            [found[2]],
            {"after a quarter": [found[0]], "after half": [found[1]]},
            [Mark.most("× that after a quarter", found[2] / found[0], _FLAT, "×")],
        )
        for of, found in (("heap of the tab", heaps), ("memory of the server", memories))
    ]


async def _until_folded(config: Config, trial: ts.Trial) -> None:
    """Wait for the first row, since a page of a trial without rows has no chart."""
    async with ts.KafkaProtocol(config) as protocol:
        for _ in range(300):
            [found] = await protocol.fetch_trials({"uid": trial.uid}, fields=["rows"])
            if found.rows:
                return
            await asyncio.sleep(0.1)
    raise TimeoutError("the first row was not folded in 30 s")


async def _append(config: Config, trial: ts.Trial, first: int, end: int) -> None:
    """Append rows to the log, each as a record of its own, as many a second as `_DAY_TIMES` says."""
    producer = AIOKafkaProducer(bootstrap_servers=config.kafka, acks="all")
    await producer.start()
    try:
        began = time.perf_counter()
        for n in range(first, end):
            if (early := (n - first) / _DAY_TIMES - (time.perf_counter() - began)) > 0:
                await asyncio.sleep(early)
            frame = MetricsLogged(
                trial=trial.uid,
                writer="writer0",
                seq=n + 1,
                time=time.time_ns() // 1000,
                aggregator=timeseries_aggregator,
                names=NAMES,
                steps=[n],
                times=[0],
                columns=[array("d", [0.5 + n % 7])] * len(NAMES),
            )
            await producer.send(config.trials_topic, encode(frame), trial.hash.encode())
        await producer.flush()
    finally:
        await producer.stop()
