"""Other trackers' own local pages in the browser: `python -m benchmarks.peers.pages trackio '{"chromium": PATH}'`.

They show what their users can log in two minutes, which is less than what ours shows: the figures name how much.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from playwright.sync_api import sync_playwright

from benchmarks.peers.measuring import METRICS, entry, private_home

_PARAMETERS = {f"parameter_{p:02}": p / 7 for p in range(26)}
_RUNS, _CURVES, _SECONDS = 10_000, 50, 60.0
_NAME = "bench-run"
# A page shows the names of runs; a plot is a canvas, or a path of many points.
_HAS_NAMES = f"() => document.body?.innerText.includes({_NAME!r})"
_HAS_CURVES = """() => document.querySelector("canvas") !== null
    || [...document.querySelectorAll("svg path")].some(each => (each.getAttribute("d") ?? "").length > 500)"""
_TIMEOUT_SECONDS = 120.0


def trackio(chromium: str) -> dict[str, Any]:
    """Measure trackio's page."""
    private_home()
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    import trackio as peer  # noqa: PLC0415 - it reads the environment when it is imported

    def log(project: str, rows: int) -> Callable[[int], None]:
        def run(n: int) -> None:
            peer.init(project=project, name=f"{_NAME}-{n:05}", config=_PARAMETERS, embed=False)
            for step in range(rows):
                peer.log(dict.fromkeys(METRICS, step % 7 / 7), step=step)
            peer.finish()

        return run

    runs = _until_late(log("table", 1), _RUNS)
    curves = _until_late(log("curves", 1000), _CURVES)
    app, url, *_ = peer.show(block_thread=False, open_browser=False)
    try:
        table, plots = f"{url}?project=table", f"{url}?project=curves"
        return _measured(chromium, table, plots) | {
            "runs": runs,
            "curves": curves,
            "points": 1000,
            "of": version("trackio"),
        }
    finally:
        app.close()


def mlflow(chromium: str) -> dict[str, Any]:
    """Measure MLflow's page; it needs the package `mlflow`, since `mlflow-skinny` has none."""
    installed = version("mlflow")
    private_home()
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    import mlflow as peer  # noqa: PLC0415
    from mlflow.entities import Metric, Param  # noqa: PLC0415

    client = peer.MlflowClient()
    parameters = [Param(name, str(value)) for name, value in _PARAMETERS.items()]

    def log(experiment: str, rows: int) -> Callable[[int], None]:
        def run(n: int) -> None:
            made = client.create_run(experiment, run_name=f"{_NAME}-{n:05}")
            metrics = [Metric(name, step % 7 / 7, 0, step) for step in range(rows) for name in METRICS]
            for first in range(0, len(metrics), 1000):
                client.log_batch(made.info.run_id, metrics[first : first + 1000], parameters if first == 0 else [])
            client.set_terminated(made.info.run_id)

        return run

    experiments = [client.create_experiment(each) for each in ("table", "curves")]
    runs = _until_late(log(experiments[0], 1), _RUNS)
    curves = _until_late(log(experiments[1], 1000), _CURVES)
    with _mlflow_server() as url:
        pages = [f"{url}/#/experiments/{each}/runs" for each in experiments]
        found = _measured(chromium, pages[0], f"{pages[1]}?compareRunsMode=CHART")
    return found | {"runs": runs, "curves": curves, "points": 1000, "of": installed}


@contextmanager
def _mlflow_server() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        "sqlite:///mlflow.db",
        "--port",
        str(port),
    ]
    server = subprocess.Popen(command)  # noqa: S603 - the measured server; it ends with this process group
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.1)
            else:
                break
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _until_late(log: Callable[[int], None], most: int) -> int:
    """Log runs for a minute at the most; return their number."""
    began = time.perf_counter()
    for n in range(most):
        log(n)
        if time.perf_counter() - began > _SECONDS:
            return n + 1
    return most


def _measured(chromium: str, table: str, curves: str) -> dict[str, float]:
    """Return milliseconds until the names of runs and the curves are there, kB transferred, and external requests."""
    arguments = ["--no-sandbox", "--headless=shell", "--disable-gpu"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        _shown(browser, table, _HAS_NAMES)  # a new server's first page is not counted
        table_ms, kb, external = _shown(browser, table, _HAS_NAMES)
        curves_ms, _, _ = _shown(browser, curves, _HAS_CURVES)
        browser.close()
    return {"table_ms": table_ms, "kb": kb, "external": external, "curves_ms": curves_ms}


def _shown(browser: Any, url: str, condition: str) -> tuple[float, float, int]:
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 860})
    page = context.new_page()
    sizes: list[float] = []
    external: list[str] = []
    devtools = context.new_cdp_session(page)
    devtools.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    devtools.send("Network.enable")
    ours = ("http://127.0.0.1", "http://localhost", "blob:", "data:")
    page.on("request", lambda request: request.url.startswith(ours) or external.append(request.url))
    page.goto(url, wait_until="commit")
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while not page.evaluate(condition):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{url} has not come to {condition}")
        page.wait_for_timeout(20)
    taken = page.evaluate("performance.now()")
    page.wait_for_timeout(500)  # what the page asks for afterwards
    context.close()
    return taken, sum(sizes) / 1000, len(external)


if __name__ == "__main__":
    entry(version("playwright"), trackio=trackio, mlflow=mlflow)
