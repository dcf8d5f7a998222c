"""A real browser before a real `trialstream dashboard`, and what a page shows when."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from playwright.async_api import Browser, CDPSession, Page, Request, async_playwright
from trialstream.config import Config
from trialstream_console.local.dashboard import DashboardService
from trialstream_console.local.ports import Ports

from benchmarks.bench import Bench

__all__ = ["CHROMIUM", "Browsing", "Served", "Tab", "browsing", "served"]

CHROMIUM = Path(__file__).parent.parent / "tests" / "browser" / "node_modules" / ".chromium" / "chromium"
# uPlot throws on the locale of some systems, en-US@posix.
_CONTEXT = {"locale": "en-US", "viewport": {"width": 1280, "height": 860}}
_TIMEOUT_SECONDS = 60.0
# The time of the first frame after a condition has become true, in milliseconds since the navigation began.
_PAINTED = """{
const isThere = () => CONDITION;
const observer = new MutationObserver(() => {
  if (!isThere()) return;
  observer.disconnect();
  requestAnimationFrame(() => setTimeout(() => (window.NAME = performance.now())));
});
observer.observe(document, { childList: true, subtree: true, attributes: true, characterData: true });
}"""
# A dashboard whose clock of live changes is faster: a day of them takes minutes.
_FASTER = """
from trialstream_console.dashboard import feed
feed._INTERVAL /= {times}
from trialstream_console.cli import main
main()
"""


class _FastDashboard(DashboardService):
    """A dashboard that looks for changes more often.

    Attributes:
        times: How many times as often as by default.
    """

    times = 1.0

    def _command(self) -> Sequence[str | Path]:
        usual = super()._command()
        if self.times == 1:
            return usual
        return [sys.executable, "-c", _FASTER.format(times=self.times), *usual[usual.index("dashboard") :]]


@dataclass(frozen=True)
class Served:
    """A dashboard that runs.

    Attributes:
        port: Its port on loopback.
        process: Its process.
    """

    port: int
    process: psutil.Process

    @property
    def address(self) -> str:
        """Address of its pages."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def mib(self) -> float:
        """Memory of the process, MiB."""
        return self.process.memory_info().rss / 2**20

    @property
    def cpu_seconds(self) -> float:
        """Processor time that the process has taken."""
        times = self.process.cpu_times()
        return times.user + times.system


@dataclass
class Tab:
    """A tab in a browser context of its own.

    Attributes:
        page: Its page.
        devtools: Its connection for measurements.
        bytes: Size of what it has received, as transferred.
        external: Requests to other servers than the dashboard.
        live_events: Number of events of the live stream that it has received.
    """

    page: Page
    devtools: CDPSession
    bytes: float = 0.0
    external: list[str] = field(default_factory=list)
    live_events: int = 0

    async def open(self, url: str) -> float:
        """Open a page; return the milliseconds until it shows what the tab was opened for."""
        await self.page.goto(url, wait_until="commit")
        await self.until("window.benchPainted !== undefined")
        return await self.page.evaluate("window.benchPainted")

    async def earlier(self) -> float:
        """Return the milliseconds until the open page showed what it shows earlier."""
        return await self.page.evaluate("window.benchEarlier")

    async def until(self, condition: str) -> None:
        """Wait until an expression is true, which the page's own policy does not let it poll itself.

        Raises:
            TimeoutError: It was not for a minute.
        """
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while not await self.page.evaluate(condition):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the page has not come to {condition}")
            await asyncio.sleep(0.02)

    async def heap(self) -> float:
        """Return the heap of JavaScript after a collection of garbage, MiB."""
        await self.devtools.send("HeapProfiler.collectGarbage")
        return (await self.devtools.send("Runtime.getHeapUsage"))["usedSize"] / 2**20


@dataclass(frozen=True)
class Browsing:
    """The browser."""

    browser: Browser

    @asynccontextmanager
    async def tab(self, dashboard: Served, condition: str, earlier: str | None = None) -> AsyncIterator[Tab]:
        """Open a tab without anything cached.

        Args:
            dashboard: What it looks at.
            condition: An expression of JavaScript that is true once the page shows what is waited for.
            earlier: One that is true once the page shows a part of it; None if that is not measured.

        Yields:
            The tab.
        """
        context = await self.browser.new_context(**_CONTEXT)
        try:
            page = await context.new_page()
            page.set_default_timeout(1000 * _TIMEOUT_SECONDS)
            for name, each in (("benchPainted", condition), ("benchEarlier", earlier)):
                if each is not None:
                    await page.add_init_script(_PAINTED.replace("CONDITION", each).replace("NAME", name))
            found = Tab(page, await context.new_cdp_session(page))

            def finished(event: dict) -> None:
                found.bytes += event["encodedDataLength"]

            def received(_: dict) -> None:
                found.live_events += 1

            def requested(request: Request) -> None:
                if not request.url.startswith((dashboard.address, "blob:", "data:")):
                    found.external.append(request.url)

            found.devtools.on("Network.loadingFinished", finished)
            found.devtools.on("Network.eventSourceMessageReceived", received)
            page.on("request", requested)
            await found.devtools.send("Network.enable")
            yield found
        finally:
            await context.close()


@asynccontextmanager
async def browsing() -> AsyncIterator[Browsing]:
    """Run the browser of the tests.

    Raises:
        SystemExit: It is not installed.
    """
    if not CHROMIUM.exists():
        sys.exit("the browser is missing: `python hatch_build.py packages tests/browser unpack.mjs` installs it")
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox", "--headless=shell", "--disable-gpu"]
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield Browsing(browser)
        finally:
            await browser.close()


@asynccontextmanager
async def served(bench: Bench, config: Config, *, times: float = 1.0) -> AsyncIterator[Served]:
    """Run a dashboard as long as the block runs.

    Args:
        bench: The servers.
        config: What it reads.
        times: How many times as often as by default it looks for changes.

    Yields:
        The dashboard.
    """
    folder = bench.folder / f"dashboard-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    service = _FastDashboard(folder, config, Ports.free().dashboard)
    service.times = times
    await asyncio.to_thread(service.start)
    try:
        yield Served(service.port, psutil.Process(service.pid))
    finally:
        await asyncio.to_thread(service.stop)
