"""Other people's tools, measured the same way: each in a process of its own, which prints one JSON line.

They start threads and processes, patch what they find and may crash: nothing of that reaches the suite. The packages
are the dependency group `peers`; `make peers` installs them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["run_peer"]

_ROOT = Path(__file__).parents[2]
_MISSING = ("ModuleNotFoundError", "importlib.metadata.PackageNotFoundError")


def run_peer(name: str, what: str, *, timeout: float = 300, **arguments: Any) -> dict[str, Any] | str:
    """Run `python -m benchmarks.peers.<name> <what> '<arguments as JSON>'`.

    Args:
        name: A module of this package.
        what: `call` of sacred, trackio, wandb, tensorboardx and mlflow; `produce` of confluent, plain_aiokafka and
            kafka_perf; `sink` of connect.
        timeout: Seconds after which it is killed.
        **arguments: Passed on to the function in the module; what is left out takes the default there.

    Returns:
        What it measured, or the reason why there is nothing, as a sentence for the report.
    """
    command = [sys.executable, "-W", "ignore", "-m", f"{__name__}.{name}", what, json.dumps(arguments)]
    with tempfile.TemporaryDirectory(prefix="trialstream-peer-", ignore_cleanup_errors=True) as folder:
        # Its temporary folder lies in this one: what a killed peer leaves is removed all the same.
        environment = os.environ | {"PYTHONPATH": str(_ROOT), "TMPDIR": folder}
        process = subprocess.Popen(  # noqa: S603 - our own module
            command,
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, complaint = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            return f"not finished after {timeout:.0f} s"
        finally:
            _end(process)
    if process.returncode == 0:
        return dict(json.loads(out))
    last = (complaint.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    return f"not installed ({last}): make peers" if last.startswith(_MISSING) else f"failed: {last}"


def _end(process: subprocess.Popen[str]) -> None:
    """Kill it and what it started: the session is its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
