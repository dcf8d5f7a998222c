"""Sacred with its MongoObserver: `python -m benchmarks.peers.sacred call '{"mongo": "mongodb://..."}'`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pymongo import MongoClient
from sacred import SETTINGS, Experiment
from sacred.observers import MongoObserver
from sacred.run import Run

from benchmarks.peers.measuring import ROWS, entry, figures, time_calls

_DATABASE = "peers_sacred"


def call(mongo: str, rows: int = ROWS) -> dict[str, Any]:
    """Time four `_run.log_scalar` a row, since a call has one value; durable when the last heartbeat has written.

    A heartbeat is due every ten seconds and at the end. A metric is one document of at most 16 MB, which is about
    200,000 rows.
    """
    # Sacred's discovery of sources, packages and output is off, since it is not part of logging metrics.
    SETTINGS.DISCOVER_SOURCES = SETTINGS.DISCOVER_DEPENDENCIES = "none"
    SETTINGS.CAPTURE_MODE = "no"
    client = MongoClient(mongo)
    experiment = Experiment("peers", interactive=True, save_git_info=False)
    experiment.observers.append(MongoObserver(client=client, db_name=_DATABASE))
    measured = (0.0, [0.0])

    @experiment.main
    def train(_run: Run) -> None:
        def log(metrics: dict[str, float], step: int) -> None:
            for name, value in metrics.items():
                _run.log_scalar(name, value, step)

        nonlocal measured
        measured = time_calls(log, rows)

    try:
        run = experiment.run()
        run._heartbeat.join()
        return figures(*measured)
    finally:
        client.drop_database(_DATABASE)
        client.close()


if __name__ == "__main__":
    entry(version("sacred"), call=call)
