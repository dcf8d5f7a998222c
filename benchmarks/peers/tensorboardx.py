"""tensorboardX: `python -m benchmarks.peers.tensorboardx call`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from tensorboardX import SummaryWriter

from benchmarks.peers.measuring import ROWS, entry, figures, time_calls


def call(rows: int = ROWS) -> dict[str, Any]:
    """Time four `add_scalar` a row, since a call has one value; durable when the writer is closed."""
    writer = SummaryWriter("run")

    def log(metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)

    measured = time_calls(log, rows)
    writer.close()
    return figures(*measured)


if __name__ == "__main__":
    entry(version("tensorboardX"), call=call)
