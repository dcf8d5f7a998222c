"""Other trackers' own local pages: `python -m benchmarks.peers.pages trackio '{"runs": 1000, …}'` fills and serves one.

Each one logs the same runs by its own API, a table of short ones and some long ones, and serves its page until its
input ends. It prints the port, the paths of both, and the expressions of JavaScript that are true once they are shown.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from benchmarks.peers.measuring import noisy_rows, private_home, serve


@contextmanager
def trackio(runs: int, parameters: Sequence[str], curves: int, points: int) -> Iterator[dict[str, Any]]:
    """Serve trackio's page."""
    private_home()
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    import trackio as peer  # noqa: PLC0415 - it reads the environment when it is imported

    for project, count, rows in (("table", runs, 1), ("curves", curves, points)):
        for n in range(count):
            peer.init(project=project, name=f"run-{n:05}", config=_values(n, parameters), embed=False)
            for step, row in enumerate(noisy_rows(n, rows)):
                peer.log(row, step=step)
            peer.finish()
    app, url, *_ = peer.show(block_thread=False, open_browser=False)
    try:
        yield {
            "version": version("trackio"),
            "port": int(url.rstrip("/").rsplit(":", 1)[1]),
            "table": "/runs?project=table",
            "table_shown": "document.querySelector('.runs-table tbody tr') !== null",
            "curves": "/?project=curves",
            "curves_shown": "document.querySelector('.vega-embed canvas') !== null",
        }
    finally:
        app.close()


@contextmanager
def mlflow(runs: int, parameters: Sequence[str], curves: int, points: int) -> Iterator[dict[str, Any]]:
    """Serve MLflow's page.

    Its server runs with one worker: a supervisor of several ends those that are not ready within 5 s.
    """
    installed = version("mlflow")
    private_home()
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    import mlflow as peer  # noqa: PLC0415
    from mlflow.entities import Metric, Param  # noqa: PLC0415

    client = peer.MlflowClient()
    experiments = {}
    for experiment, count, rows in (("table", runs, 1), ("curves", curves, points)):
        experiments[experiment] = made = client.create_experiment(experiment)
        for n in range(count):
            metrics = [
                Metric(name, y, 0, step) for step, row in enumerate(noisy_rows(n, rows)) for name, y in row.items()
            ]
            run = client.create_run(made, run_name=f"run-{n:05}").info.run_id
            client.log_batch(run, metrics[:1000], [Param(*each) for each in _values(n, parameters).items()])
            for first in range(1000, len(metrics), 1000):
                client.log_batch(run, metrics[first : first + 1000])
            client.set_terminated(run)
    with _server("mlflow", "server", "--backend-store-uri", "sqlite:///mlflow.db", "--workers", "1", "--port") as port:
        yield {
            "version": installed,
            "port": port,
            "table": f"/#/experiments/{experiments['table']}/runs",
            "table_shown": "document.querySelector('.ag-row a, [role=row] a') !== null",
            "curves": f"/#/experiments/{experiments['curves']}/runs?compareRunsMode=CHART",
            "curves_shown": "document.querySelector('.js-line') !== null",
        }


@contextmanager
def _server(module: str, *arguments: str) -> Iterator[int]:
    """Run a server of Python, whose last argument is the port that this yields."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", module, *arguments, str(port)])  # noqa: S603 - of the peer
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.1)
            else:
                break
        yield port
    finally:
        server.terminate()
        server.wait()


def _values(n: int, parameters: Sequence[str]) -> dict[str, float]:
    return {name: (n * (p + 1)) % 9973 / 7 for p, name in enumerate(parameters)}


if __name__ == "__main__":
    serve(trackio=trackio, mlflow=mlflow)
