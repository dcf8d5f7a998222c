"""Trackio on this machine, without its dashboard: `python -m benchmarks.peers.trackio call`."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Any

from benchmarks.peers.measuring import ROWS, entry, figures, private_home, time_calls
from benchmarks.training_gpu import slow_down


def call(rows: int = ROWS) -> dict[str, Any]:
    """Time `trackio.log` with a step; durable when the run is finished, which writes all rows to its SQLite file."""
    trackio = _trackio()
    measured = time_calls(trackio.log, rows)
    trackio.finish()
    return figures(*measured)


def train() -> dict[str, Any]:
    """Slow a training loop down: see `training_gpu.py`."""
    trackio = _trackio()
    measured = slow_down(trackio.log)
    trackio.finish()
    return measured


def _trackio() -> Any:
    private_home()
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    import trackio  # noqa: PLC0415 - it reads the environment when it is imported

    trackio.init(project="peers", embed=False)
    return trackio


if __name__ == "__main__":
    entry(version("trackio"), call=call, train=train)
