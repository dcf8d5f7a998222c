"""Weights & Biases in offline mode: `python -m benchmarks.peers.wandb call`."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Any

from benchmarks.peers.measuring import ROWS, entry, figures, private_home, time_calls
from benchmarks.training_gpu import slow_down


def call(rows: int = ROWS) -> dict[str, Any]:
    """Time `run.log` with a step; durable when the run is finished, which writes all rows to its `.wandb` file."""
    run = _run()
    measured = time_calls(lambda metrics, step: run.log(metrics, step=step), rows)
    run.finish()
    return figures(*measured)


def train() -> dict[str, Any]:
    """Slow a training loop down: see `training_gpu.py`."""
    run = _run()
    measured = slow_down(lambda metrics, step: run.log(metrics, step=step))
    run.finish()
    return measured


def _run() -> Any:
    private_home()
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    import wandb  # noqa: PLC0415 - it reads the environment when it is imported

    return wandb.init(project="peers")


if __name__ == "__main__":
    entry(version("wandb"), call=call, train=train)
