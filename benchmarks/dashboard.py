"""The dashboard in a real browser: a large table, long curves, live rows, many readers, and a tab that stays open.

Times in the page end with the frame that shows the result. `pages.py` compares it with the pages of other trackers.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import trialstream as ts
from trialstream.config import Config
from trialstream_consumer.projection.indexes import ensure_indexes
from trialstream_schemas.model.aggregators import TimeSeriesAggregator
from trialstream_schemas.storage.documents import trial_to_document

from benchmarks import live
from benchmarks.bench import NAMES, Bench
from benchmarks.browsing import Browsing, Served, browsing, served
from benchmarks.report import Mark, Row, median

__all__ = ["HAS_ROWS", "PARAMETERS", "add_trials", "run", "table_path"]

PARAMETERS = 26
HAS_ROWS = "document.querySelector('.datagrid .line .lead a') !== null"
_COLUMNS = [f"parameters.parameter_{p:02}" for p in range(PARAMETERS)] + [f"metrics.{name}.last" for name in NAMES]
_TRIALS = 10_000
_PAINT_MS, _PAINT_KB = 500.0, 350.0
# A screen shows 60 frames a second; one of twenty may be late.
_FRAMES_PER_SECOND, _SCROLL_FRAMES = 57.0, 300
_FRAME_ROWS, _FRAMES = 4096, 245
_OPEN_SECONDS, _ZOOM_MS, _ZOOMS = 1.5, 100.0, 6
_WORKED = "processor time of the server"
_FIRST, _WHOLE = "the first curves shown", "all of their rows in the server's memory, and shown"
_HAS_A_CURVE = "document.querySelector('.compare .chart .notes')?.textContent.includes('rows') === true"
_HAS_CURVES = "document.querySelectorAll('.compare .curves .sr tbody tr').length === {count}"
_HAS_ALL_ROWS = """document.querySelector('.curves[aria-busy="true"]') === null"""
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
    async with browsing() as browser:
        return [
            *await _table(bench, browser),
            *await live.run(bench, browser),
            *await _curves(bench, browser),
        ]


def _trial(n: int) -> ts.Trial:
    trial = ts.Trial(
        name=f"run {n:05}", parameters={f"parameter_{p:02}": (n * (p + 1)) % 9973 / 7 for p in range(PARAMETERS)}
    )
    for m, name in enumerate(NAMES):
        trial.metrics[name] = each = TimeSeriesAggregator()
        each.extend([(n * (m + 1)) % 9973 / 9973], 1000)
    trial.status = [ts.Status.Running, ts.Status.Completed, ts.Status.Completed, ts.Status.Exception][n % 4]
    trial.created = trial.started = trial.last_seen = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=n)
    trial.writers = {"f" * 16: 300}
    return trial


async def add_trials(bench: Bench, config: Config, count: int) -> None:
    """Write trials of `PARAMETERS` parameters and one row of metrics, as the consumer would."""
    async with bench.mongo() as client:
        for first in range(0, count, 5000):
            documents = [trial_to_document(_trial(n)) for n in range(first, min(count, first + 5000))]
            await client[config.database].trials.insert_many(documents)


def table_path() -> str:
    """Return the path of the page with a table of these trials, all values in columns of their own."""
    return "/trials?" + urlencode([("columns", each) for each in _COLUMNS])


async def _table(bench: Bench, browser: Browsing) -> list[Row]:
    config = bench.config()
    await ensure_indexes(config)
    path = table_path()
    async with bench.mongo() as client, bench.consumer(config), served(bench, config) as dashboard:
        await add_trials(bench, config, _TRIALS)
        taken, worked, sizes, external, gaps, idle = [], [], [], [], [], []
        for _ in range(4 if bench.quick else 8):
            async with browser.tab(dashboard, HAS_ROWS) as tab:
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
    what = f"a table of {_TRIALS:,} trials × {len(_COLUMNS)} columns"
    return [
        Row(
            f"{what}, first rows shown, nothing cached in the browser",
            "ms",
            taken[1:],
            {"the first page of a new server": taken[:1], _WORKED: worked[1:]},
            [Mark.most("ms", median(taken[1:]), _PAINT_MS)],
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
        Row(f"{what}, transferred", "kB", sizes, {}, [Mark.most("kB", max(sizes), _PAINT_KB)]),
        Row(
            f"{what}, requests to other servers",
            "requests",
            external,
            {},
            [Mark.most("requests", max(external), 0)],
        ),
    ]


def _rate(gaps: Sequence[float]) -> float:
    """Return the frames per second."""
    return 1000 * len(gaps) / sum(gaps)


async def _curves(bench: Bench, browser: Browsing) -> list[Row]:
    config = bench.config()
    count, frames = (10, 25) if bench.quick else (50, _FRAMES)
    trials = await bench.trials(config, count)
    await bench.fill(config, trials[:1], frames, rows=_FRAME_ROWS, names=("loss",))
    await bench.fold(config, frames + count)
    await _copy(bench, config, trials)
    rows = frames * _FRAME_ROWS
    path = "/compare?" + urlencode([*(("trials", each.uid) for each in trials), ("metric", "loss")])
    opened, first, whole, worked, zoomed = [], [], [], [], []
    async with served(bench, config) as dashboard:
        for _ in range(2 if bench.quick else 4):
            async with browser.tab(dashboard, _HAS_CURVES.format(count=count), _HAS_A_CURVE) as tab:
                before, began = dashboard.cpu_seconds, time.perf_counter()
                opened.append(await tab.open(dashboard.address + path) / 1000)
                first.append(await tab.earlier() / 1000)
                await tab.until(_HAS_ALL_ROWS)
                whole.append(time.perf_counter() - began)
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
            {
                _FIRST: first[:1],
                _WHOLE: whole[:1],
                _WORKED: worked[:1],
                "the server's memory afterwards": f"{memory:,.0f} MiB",
            },
            [Mark.most("s", opened[0], _OPEN_SECONDS)],
        ),
        Row(
            f"{what}, open again",
            "s",
            opened[1:],
            {_FIRST: first[1:], _WHOLE: whole[1:], _WORKED: worked[1:]},
            [Mark.most("s", median(opened[1:]), _OPEN_SECONDS)],
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
            its = {"_id": {"$gte": f"{first.uid}/", "$lt": f"{first.uid}0"}}
            steps = [{"$match": its}, {"$set": {"_id": uid}}, {"$merge": "outlines"}]
            await database.outlines.aggregate(steps).to_list(None)
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
