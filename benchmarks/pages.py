"""Other trackers' own local pages beside ours: the same runs, logged by the API of each, in one browser, in turns.

A time ends with the frame after which the first runs of the table, or the curves, are there: of ours, the charts of all
metrics; of others, the first curve. Tables show different things: ours all values of a run, MLflow's its name, status
and time, trackio's its name and number of steps.

wandb has no page that a package of Python installs: its local server is an image for containers. Aim's page is not
measured: Aim takes seconds to log one run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlencode

import psutil
import trialstream as ts
from trialstream_consumer.projection.indexes import ensure_indexes

from benchmarks.bench import NAMES, Bench
from benchmarks.browsing import Browsing, Served, browsing, served
from benchmarks.dashboard import HAS_ROWS, PARAMETERS, add_trials, table_path
from benchmarks.peers import served_peer
from benchmarks.peers.measuring import noisy_rows
from benchmarks.report import Mark, Row, median

_PEERS = ("mlflow", "trackio")
_RUNS, _CURVES, _POINTS = 500, 50, 1000
_ROUNDS = 4  # the first one is that of a new server, and not counted
_FILL_SECONDS = 900.0
_HAS_CURVES = f"""document.querySelectorAll('.compare .chart .notes').length === {len(NAMES)}
    && [...document.querySelectorAll('.compare .chart .notes')].every((each) => each.textContent.includes('rows'))
    && document.querySelector('.curves[aria-busy="true"]') === null"""


@dataclass
class _Page:
    """A page of a tracker: where it is, and what was measured.

    Attributes:
        server: Its server.
        paths: Path, and the expression that is true once it is shown, of the table and of the curves.
        taken: Milliseconds until each was shown, by name.
        kilobytes: What was transferred, by name.
        external: Requests to other servers, by name.
    """

    server: Served
    paths: dict[str, tuple[str, str]]
    taken: dict[str, list[float]] = field(default_factory=dict)
    kilobytes: dict[str, list[float]] = field(default_factory=dict)
    external: dict[str, list[float]] = field(default_factory=dict)

    async def look(self, browser: Browsing, what: str) -> None:
        """Open it in a tab without anything cached."""
        path, shown = self.paths[what]
        async with browser.tab(self.server, shown) as tab:
            taken = await tab.open(self.server.address + path)
            await asyncio.sleep(0.5)  # what the page asks for afterwards
            self.taken.setdefault(what, []).append(taken)
            self.kilobytes.setdefault(what, []).append(tab.bytes / 1000)
            self.external.setdefault(what, []).append(len(tab.external))


async def run(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    missing: dict[str, str] = {"wandb": "a container image"}
    pages: dict[str, _Page] = {}
    async with AsyncExitStack() as opened:
        for name in _PEERS:
            found = await opened.enter_async_context(_peer(name))
            if isinstance(found, str):
                missing[name] = found
            else:
                pages[name] = found
        ours = await opened.enter_async_context(_ours(bench))
        browser = await opened.enter_async_context(browsing())
        for _ in range(_ROUNDS):
            for what in ("table", "curves"):
                await ours.look(browser, what)
                for name, each in list(pages.items()):
                    try:
                        await each.look(browser, what)
                    except TimeoutError as error:
                        missing[name] = str(error)
                        del pages[name]
    table = f"{_RUNS:,} runs × {PARAMETERS + len(NAMES)} values"
    curves = f"{_CURVES} runs × {len(NAMES)} curves of {_POINTS:,} points"
    return [
        _row(f"page: {table}, first runs shown", "ms", "taken", "table", ours, pages, missing),
        _row(f"page: {table}, transferred", "kB", "kilobytes", "table", ours, pages, missing),
        _row(f"page: {table}, requests to other servers", "requests", "external", "table", ours, pages, missing),
        _row(f"page: {curves}, shown", "ms", "taken", "curves", ours, pages, missing),
        _row(f"page: {curves}, transferred", "kB", "kilobytes", "curves", ours, pages, missing),
    ]


def _row(
    text: str, unit: str, figure: str, what: str, ours: _Page, pages: dict[str, _Page], missing: dict[str, str]
) -> Row:
    def counted(page: _Page) -> Sequence[float]:
        return getattr(page, figure)[what][1:]

    found = counted(ours)
    theirs = {name: counted(page) for name, page in pages.items()}
    best = min((median(each) for each in theirs.values()), default=None)
    marks = [] if best is None else [Mark.most(f"{unit}, the best other page", median(found), best)]
    return Row(text, unit, found, {**theirs, **missing}, marks)


@asynccontextmanager
async def _peer(name: str) -> AsyncIterator[_Page | str]:
    parameters = [f"parameter_{p:02}" for p in range(PARAMETERS)]
    arguments = {"runs": _RUNS, "parameters": parameters, "curves": _CURVES, "points": _POINTS}
    async with AsyncExitStack() as opened:
        entered = served_peer("pages", name, timeout=_FILL_SECONDS, **arguments)
        found = await asyncio.to_thread(entered.__enter__)
        opened.push(entered.__exit__)
        if isinstance(found, str):
            yield found
            return
        paths = {what: (found[what], found[f"{what}_shown"]) for what in ("table", "curves")}
        yield _Page(Served(found["port"], psutil.Process()), paths)


@asynccontextmanager
async def _ours(bench: Bench) -> AsyncIterator[_Page]:
    config = bench.config()
    await ensure_indexes(config)
    trials = await bench.trials(config, _CURVES)
    async with bench.consumer(config), ts.KafkaProtocol(config) as protocol:
        for n, trial in enumerate(trials):
            for step, row in enumerate(noisy_rows(n, _POINTS)):
                await protocol.log_trial_metrics(trial, step=step, **row)
        await protocol.commit("folded")
    await add_trials(bench, config, _RUNS)
    curves = "/compare?" + urlencode([("trials", each.uid) for each in trials] + [("metric", each) for each in NAMES])
    async with served(bench, config) as dashboard:
        yield _Page(dashboard, {"table": (table_path(), HAS_ROWS), "curves": (curves, _HAS_CURVES)})
