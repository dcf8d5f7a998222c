"""tensorboardX: `python -m benchmarks.peers.tensorboardx call`."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from tensorboardX import SummaryWriter

from benchmarks.peers.measuring import ROWS, entry, figures, time_calls
from benchmarks.training_gpu import slow_down


def call(rows: int = ROWS) -> dict[str, Any]:
    """Time four `add_scalar` a row, since a call has one value; durable when the writer is closed."""
    writer = SummaryWriter("run")
    measured = time_calls(_log(writer), rows)
    writer.close()
    return figures(*measured)


def train() -> dict[str, Any]:
    """Slow a training loop down: see `training_gpu.py`."""
    writer = SummaryWriter("run")
    measured = slow_down(_log(writer))
    writer.close()
    return measured


def _log(writer: SummaryWriter) -> Callable[[dict[str, Any], int], None]:
    def log(metrics: dict[str, Any], step: int) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)

    return log


if __name__ == "__main__":
    entry(version("tensorboardX"), call=call, train=train)
