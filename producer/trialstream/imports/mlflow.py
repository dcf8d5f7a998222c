"""Source runs of MLflow, read through its own client: SQL stores, file stores and servers."""

from __future__ import annotations

import importlib
import math
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from trialstream_schemas.errors import ConfigError, ServerUnavailable

from trialstream.imports.runs import End, Row, SourceRun, Stream

__all__ = ["mlflow_runs"]

_PAGE = 100
_NOTE = "mlflow.note.content"


def mlflow_runs(uri: str, *, experiments: tuple[str, ...] = ()) -> Iterator[SourceRun]:
    """Read the runs of a tracking store of MLflow, deleted ones apart.

    Parameters stay what Python has written: `"0.1"` becomes a float, `"True"` a bool, and anything else a text. Each
    metric is a stream; its rows have the steps and times of MLflow, in the order of the times.

    Args:
        uri: The tracking URI: `sqlite:///mlflow.db`, a folder `mlruns` (MLflow 3.4 and later read one only with
            MLFLOW_ALLOW_FILE_STORE=true in the environment), or the address of a server.
        experiments: Names of the experiments; all if empty.

    Yields:
        The source runs.

    Raises:
        ConfigError: `mlflow-skinny` is not installed, or an experiment does not exist.
        ServerUnavailable: The store does not answer, or is no store of MLflow.
    """
    try:
        make_client = importlib.import_module("mlflow.tracking").MlflowClient
    except ImportError as error:
        raise ConfigError(
            f"mlflow: expected the package, got {error}: install it with pip install 'trialstream[mlflow]'"
        ) from error
    with _translated():
        client = make_client(tracking_uri=uri)
        found = {each.experiment_id: each.name for each in _pages(client.search_experiments)}
        if missing := {*experiments} - {*found.values()}:
            raise ConfigError(f"experiments: expected names of experiments in {uri}, got {sorted(missing)}")
        for experiment, name in found.items():
            if experiments and name not in experiments:
                continue
            for run in _pages(client.search_runs, experiment_ids=[experiment], order_by=["attributes.start_time ASC"]):
                yield _run(client, run, name)


@contextmanager
def _translated() -> Iterator[None]:
    error_type = importlib.import_module("mlflow.exceptions").MlflowException
    try:
        yield
    except error_type as error:
        raise ServerUnavailable(f"MLflow: {error}") from error


def _pages(search: Any, **arguments: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(max_results=_PAGE, page_token=token, **arguments)
        yield from page
        if not (token := page.token):
            return


def _run(client: Any, found: Any, experiment: str) -> SourceRun:
    info, data = found.info, found.data
    tags = dict(data.tags)
    run = SourceRun(
        source=f"mlflow:{info.run_id}",
        name=info.run_name or info.run_id,
        created=(info.start_time or 0) * 1000,
        parameters={key: _parsed(text) for key, text in data.params.items()},
        description=tags.pop(_NOTE, ""),
        tags={key: text for key, text in tags.items() if key != "mlflow.runName"},
        metadata={"artifacts": info.artifact_uri} if info.artifact_uri else {},
        project=experiment,
    )
    if info.status in ("FINISHED", "FAILED", "KILLED"):
        time = (info.end_time or info.start_time or 0) * 1000
        run.end = End(time, info.status == "KILLED", "failed" if info.status == "FAILED" else None)
    run.streams = [Stream(key, 1, partial(_rows, client, info.run_id, key)) for key in sorted(data.metrics)]
    _count(client, found, run.left_out)
    return run


def _rows(client: Any, run_id: str, key: str) -> Iterator[Row]:
    with _translated():
        points = client.get_metric_history(run_id, key)
    # An SQL store returns equal times in any order.
    for point in sorted(points, key=lambda point: (point.timestamp, point.step, repr(point.value))):
        value = float(point.value)
        if abs(value) == sys.float_info.max:  # an SQL store has no infinity, and MLflow writes the largest double
            value = math.copysign(math.inf, value)
        yield Row(point.step, point.timestamp * 1000, {key: value}, 1)


def _count(client: Any, found: Any, left_out: Counter[str]) -> None:
    """Count what has no place in a trial: artifacts, of which the metadata has the address, and data sets."""
    if "://" not in (found.info.artifact_uri or "://"):  # counting those of another machine may take minutes
        with suppress(Exception):  # the folder may be gone
            left_out["artifacts"] = len(client.list_artifacts(found.info.run_id))
    left_out["data sets"] = len(getattr(found.inputs, "dataset_inputs", ()))
    left_out += Counter()


def _parsed(text: str) -> Any:
    """Return the value that Python has written as a text; the text if it is none."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        with suppress(ValueError):
            if repr(kind(text)) == text:
                return kind(text)
    return text
