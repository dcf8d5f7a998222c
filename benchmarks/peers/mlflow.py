"""MLflow on SQLite: `python -m benchmarks.peers.mlflow call ['{"synchronous": false}']`."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Any

from benchmarks.peers.measuring import entry, figures, private_home, time_calls
from benchmarks.training_gpu import slow_down

# MLflow writes 250 rows a second, and must write all rows in the end, also those logged asynchronously.
ROWS = 1000


def call(*, synchronous: bool = True, rows: int = ROWS) -> dict[str, Any]:
    """Time `mlflow.log_metrics`; durable when it returns, or when the asynchronous calls are flushed."""
    mlflow = _mlflow()
    with mlflow.start_run():
        measured = time_calls(
            lambda metrics, step: mlflow.log_metrics(metrics, step=step, synchronous=synchronous), rows
        )
        mlflow.flush_async_logging()
    return figures(*measured)


def train() -> dict[str, Any]:
    """Slow a training loop down by asynchronous calls: see `training_gpu.py`."""
    mlflow = _mlflow()
    with mlflow.start_run():
        measured = slow_down(lambda metrics, step: mlflow.log_metrics(metrics, step=step, synchronous=False))
        mlflow.flush_async_logging()
    return measured


def _mlflow() -> Any:
    private_home()
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    import mlflow  # noqa: PLC0415 - it reads the environment when it is imported

    mlflow.set_experiment("peers")
    return mlflow


if __name__ == "__main__":
    entry(version("mlflow-skinny"), call=call, train=train)
