"""The dashboard in a real browser: a large table, long curves, live rows, many readers, and a tab that stays open.

Times in the page end with the frame that shows the result. Rows of other trackers are those of their own local pages.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import trialstream as ts
from trialstream.config import Config
from trialstream_consumer.projection.indexes import ensure_indexes
from trialstream_schemas.model.aggregators import TimeSeriesAggregator
from trialstream_schemas.storage.documents import trial_to_document

from benchmarks import live
from benchmarks.bench import NAMES, Bench
from benchmarks.browsing import CHROMIUM, Browsing, Served, browsing, served
from benchmarks.peers import run_peer
from benchmarks.report import Mark, Row, median

_TRIALS, _PARAMETERS = 10_000, 26
_PAINT_MS, _PAINT_KB = 500.0, 350.0
# A screen shows 60 frames a second; one of twenty may be late.
_FRAMES_PER_SECOND, _SCROLL_FRAMES = 57.0, 300
_FRAME_ROWS, _FRAMES = 4096, 245
_OPEN_SECONDS, _ZOOM_MS, _ZOOMS = 1.5, 100.0, 6
_WORKED = "processor time of the server"
_FIRST = "the first curves shown"
_RUNS = "{runs:,} runs"
_HAS_ROWS = "document.querySelector('.datagrid .line .lead a') !== null"
_HAS_A_CURVE = "document.querySelector('.compare .chart .notes')?.textContent.includes('rows') === true"
_HAS_CURVES = (
    _HAS_A_CURVE
    + """
    && document.querySelector('.curves[aria-busy="true"]') === null"""
)
# The times between frames while a table scrolls by a row and a third in each, or by nothing, milliseconds.
_SCROLL = """([pixels, count]) => new Promise((done) => {
  const grid = document.querySelector(".datagrid"), gaps = [];
  let last = performance.now();
  const frame = (now) => {
    gaps.push(now - last);
    last = now;
    grid.scrollTop += pixels;
    if (gaps.length < count) requestAnimationFrame(frame);
    else done(gaps.slice(1));
  };
  requestAnimationFrame(frame);
})"""
# A key that zooms in, and the milliseconds until the finer points are on the screen.
_ZOOM = """() => new Promise((done, failed) => {
  setTimeout(() => failed(new Error("a zoom step has asked for nothing, or was not answered")), 60000);
  const curves = document.querySelector(".curves"), plot = curves.querySelector(".plot");
  const began = performance.now();
  let busy = false;
  const observer = new MutationObserver(() => {
    const now = curves.getAttribute("aria-busy") === "true";
    if (busy && !now) {
      observer.disconnect();
      requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
    }
    busy ||= now;
  });
  observer.observe(curves, { attributes: true, attributeFilter: ["aria-busy"] });
  plot.focus();
  plot.dispatchEvent(new KeyboardEvent("keydown", { key: "+", bubbles: true }));
})"""


async def run(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    peers = await _Peers.measured(bench)
    async with browsing() as browser:
        return [
            *await _table(bench, browser, peers),
            *await live.run(bench, browser),
            *await _curves(bench, browser, peers),
        ]


def _trial(n: int) -> ts.Trial:
    trial = ts.Trial(
        name=f"run {n:05}", parameters={f"parameter_{p:02}": (n * (p + 1)) % 9973 / 7 for p in range(_PARAMETERS)}
    )
    for m, name in enumerate(NAMES):
        trial.metrics[name] = each = TimeSeriesAggregator()
        each.extend([(n * (m + 1)) % 9973 / 9973], 1000)
    trial.status = [ts.Status.Running, ts.Status.Completed, ts.Status.Completed, ts.Status.Exception][n % 4]
    trial.created = trial.started = trial.last_seen = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=n)
    trial.writers = {"f" * 16: 300}
    return trial


async def _table(bench: Bench, browser: Browsing, peers: _Peers) -> list[Row]:
    config = bench.config()
    await ensure_indexes(config)
    columns = [f"parameters.parameter_{p:02}" for p in range(_PARAMETERS)] + [f"metrics.{name}.last" for name in NAMES]
    path = "/trials?" + urlencode([("columns", each) for each in columns])
    async with bench.mongo() as client, bench.consumer(config), served(bench, config) as dashboard:
        for first in range(0, _TRIALS, 5000):
            documents = [trial_to_document(_trial(n)) for n in range(first, first + 5000)]
            await client[config.database].trials.insert_many(documents)
        taken, worked, sizes, external, gaps, idle = [], [], [], [], [], []
        for _ in range(4 if bench.quick else 8):
            async with browser.tab(dashboard, _HAS_ROWS) as tab:
                before = dashboard.cpu_seconds
                taken.append(await tab.open(dashboard.address + path))
                worked.append(1000 * (dashboard.cpu_seconds - before))
                await asyncio.sleep(0.5)  # what the page asks for after its first rows
                sizes.append(tab.bytes / 1000)
                external.append(len(tab.external))
                if len(taken) > 2:  # the server's and the browser's caches are warm
                    idle += await tab.page.evaluate(_SCROLL, [0, _SCROLL_FRAMES // 5])
                    gaps += await tab.page.evaluate(_SCROLL, [40, _SCROLL_FRAMES])
        await client.drop_database(config.database)
    gaps.sort()
    late = [each for each in gaps if each > 1.5 * 1000 / 60]
    what = f"a table of {_TRIALS:,} trials × {len(columns)} columns"
    return [
        Row(
            f"{what}, first rows shown, nothing cached in the browser",
            "ms",
            taken[1:],
            {"the first page of a new server": taken[:1], _WORKED: worked[1:], **peers.beside("table_ms", _RUNS)},
            [Mark.most("ms", median(taken[1:]), _PAINT_MS), *peers.ahead("table_ms", median(taken[1:]))],
        ),
        Row(
            f"{what}, scrolling by 40 pixels a frame",
            "frames/s",
            [_rate(gaps)],
            {
                "not scrolling": [_rate(idle)],
                "of a hundred frames, later than by half a frame": f"{100 * len(late) / len(gaps):.2g}",
                "ms between frames": f"median {median(gaps):.3g}, 95th percentile {gaps[int(0.95 * len(gaps))]:.3g}",
            },
            [Mark.least("frames/s", _rate(gaps), _FRAMES_PER_SECOND)],
        ),
        Row(f"{what}, transferred", "kB", sizes, peers.beside("kb", _RUNS), [Mark.most("kB", max(sizes), _PAINT_KB)]),
        Row(
            f"{what}, requests to other servers",
            "requests",
            external,
            peers.beside("external", _RUNS),
            [Mark.most("requests", max(external), 0)],
        ),
    ]


def _rate(gaps: Sequence[float]) -> float:
    """Return the frames per second."""
    return 1000 * len(gaps) / sum(gaps)


async def _curves(bench: Bench, browser: Browsing, peers: _Peers) -> list[Row]:
    config = bench.config()
    count, frames = (10, 25) if bench.quick else (50, _FRAMES)
    trials = await bench.trials(config, count)
    await bench.fill(config, trials[:1], frames, rows=_FRAME_ROWS, names=("loss",))
    await bench.fold(config, frames + count)
    await _copy(bench, config, trials)
    rows = frames * _FRAME_ROWS
    path = "/compare?" + urlencode([*(("trials", each.uid) for each in trials), ("metric", "loss")])
    opened, first, worked, zoomed = [], [], [], []
    async with served(bench, config) as dashboard:
        for _ in range(2 if bench.quick else 4):
            async with browser.tab(dashboard, _HAS_CURVES, _HAS_A_CURVE) as tab:
                before = dashboard.cpu_seconds
                opened.append(await tab.open(dashboard.address + path) / 1000)
                first.append(await tab.earlier() / 1000)
                worked.append(dashboard.cpu_seconds - before)
                zoomed += [await tab.page.evaluate(_ZOOM) for _ in range(_ZOOMS)]
        before = dashboard.cpu_seconds
        answered = await asyncio.to_thread(_zooms, dashboard, [each.uid for each in trials], rows)
        working = [1000 * (dashboard.cpu_seconds - before) / _ZOOMS]
        memory = dashboard.mib
    what = f"{count} curves of {rows:,} points"
    return [
        Row(
            f"{what}, open, not read before",
            "s",
            opened[:1],
            {_FIRST: first[:1], _WORKED: worked[:1], "the server's memory afterwards": f"{memory:,.0f} MiB"},
            [Mark.most("s", opened[0], _OPEN_SECONDS)],
        ),
        Row(
            f"{what}, open again",
            "s",
            opened[1:],
            {
                _FIRST: first[1:],
                _WORKED: worked[1:],
                **peers.beside("curves_ms", "{curves} curves of {points:,} points", 1000),
            },
            [Mark.most("s", median(opened[1:]), _OPEN_SECONDS), *peers.ahead("curves_ms", 1000 * median(opened[1:]))],
        ),
        Row(
            f"{what}, a zoom step at the server",
            "ms",
            answered,
            {_WORKED: working},
            [Mark.most("ms", median(answered), _ZOOM_MS)],
        ),
        Row(f"{what}, a zoom step in the page, of which 120 ms are a pause for further steps", "ms", zoomed),
    ]


async def _copy(bench: Bench, config: Config, trials: Sequence[ts.Trial]) -> None:
    """Give all trials the history of the first one."""
    first, *others = trials
    async with bench.mongo() as client:
        database = client[config.database]
        document = await database.trials.find_one({"_id": first.uid})
        for each in others:
            uid = {"$replaceOne": {"input": "$_id", "find": first.uid, "replacement": each.uid}}
            steps = [{"$match": {"trial": first.uid}}, {"$set": {"_id": uid, "trial": each.uid}}, {"$merge": "series"}]
            await database.series.aggregate(steps).to_list(None)
            await database.trials.replace_one({"_id": each.uid}, {**document, "_id": each.uid, "hash": each.hash})


def _zooms(dashboard: Served, uids: Sequence[str], rows: int) -> list[float]:
    """Return the milliseconds of the requests that zoom steps make."""
    taken = []
    for step in range(1, _ZOOMS + 1):
        half = rows * 0.6**step
        body = {
            "curves": [{"trial": uid, "name": "loss"} for uid in uids],
            "x": "step",
            "from": max(0.0, rows / 2 - half),
            "to": min(float(rows), rows / 2 + half),
            "width": 2400,
        }
        asked = Request(  # noqa: S310 - our own server
            f"{dashboard.address}/api/v1/series", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        began = time.perf_counter()
        with urlopen(asked) as answer:  # noqa: S310
            answer.read()
        taken.append(1000 * (time.perf_counter() - began))
    return taken


@dataclass(frozen=True)
class _Peers:
    """Other trackers' own pages: what was measured by name, or the reason why there is nothing."""

    found: Mapping[str, dict[str, Any] | str]

    @classmethod
    async def measured(cls, bench: Bench) -> _Peers:
        """Measure them, one after the other."""
        found: dict[str, dict[str, Any] | str] = {}
        for name in ("trackio", "mlflow"):
            if bench.quick:
                found[name] = "not measured by --quick"
                continue
            found[name] = each = await asyncio.to_thread(run_peer, "pages", name, timeout=600, chromium=str(CHROMIUM))
            if name == "mlflow" and isinstance(each, str) and each.startswith("not installed"):
                found[name] = "not installed: the mlflow-skinny of make peers has no page"
        return cls(found)

    def beside(self, key: str, what: str, divisor: float = 1.0) -> dict[str, Sequence[float] | str]:
        """Return a figure of each.

        Args:
            key: Name of the figure.
            what: What the page showed, with the names of figures in braces.
            divisor: What to divide the figure by.
        """
        return {
            f"{name}'s page": each if isinstance(each, str) else [each[key] / divisor]
            for name, each in self.found.items()
        } | {f"{name} shows": what.format(**each) for name, each in self.found.items() if not isinstance(each, str)}

    def ahead(self, key: str, ours: float) -> list[Mark]:
        """Return a mark: ours takes less than the least of theirs; none if none was measured."""
        theirs = [each[key] for each in self.found.values() if not isinstance(each, str)]
        return [Mark.most("× the best other page", ours / min(theirs), 1.0, "×")] if theirs else []
