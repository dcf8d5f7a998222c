"""Other trackers and clients, measured in the same way: each in a process of its own, which prints one JSON line.

Peers start threads and processes, patch libraries and may crash; a process of its own keeps that from the suite. Their
packages are the dependency group `peers`; `make peers` installs them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["run_peer", "served_peer"]

_ROOT = Path(__file__).parents[2]
_MISSING = ("ModuleNotFoundError", "importlib.metadata.PackageNotFoundError")


def run_peer(name: str, what: str, *, timeout: float = 300, **arguments: Any) -> dict[str, Any] | str:
    """Run `python -m benchmarks.peers.<name> <what> '<arguments as JSON>'`.

    Args:
        name: A module of this package.
        what: Function of the module: `call` of sacred, trackio, wandb, tensorboardx and mlflow; `train` of the last
            four; `produce` of confluent, plain_aiokafka and kafka_perf; `sink` of connect.
        timeout: Seconds after which the process is killed.
        **arguments: Arguments of the function; missing ones have the defaults of the function.

    Returns:
        The measured figures, or the reason why there are none, as a sentence for the report.
    """
    with served_peer(name, what, timeout=timeout, **arguments) as found:
        return found


@contextmanager
def served_peer(name: str, what: str, *, timeout: float = 300, **arguments: Any) -> Iterator[dict[str, Any] | str]:
    """Run the same command, and let its process run as long as the block runs.

    Args:
        name: A module of this package.
        what: Function of the module: as for `run_peer`; `trackio`, `mlflow` and `aim` of pages.
        timeout: Seconds after which the process is killed if it has printed nothing.
        **arguments: Arguments of the function; missing ones have the defaults of the function.

    Yields:
        What the process has printed, or the reason why there is nothing, as a sentence for the report.
    """
    command = [sys.executable, "-W", "ignore", "-m", f"{__name__}.{name}", what, json.dumps(arguments)]
    with tempfile.TemporaryDirectory(prefix="trialstream-peer-", ignore_cleanup_errors=True) as folder:
        errors = Path(folder) / "errors"
        # The peer's temporary folder is in this one, so that files of a killed peer are removed, too.
        environment = os.environ | {"PYTHONPATH": str(_ROOT), "TMPDIR": folder}
        with errors.open("w") as file:
            process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                cwd=_ROOT,
                env=environment,
                stdin=subprocess.PIPE,  # its end is that of a peer that serves
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                start_new_session=True,
            )
        with process:
            try:
                yield _printed(process, errors, timeout)
            finally:
                _end(process)


def _printed(process: subprocess.Popen[str], errors: Path, timeout: float) -> dict[str, Any] | str:
    late = threading.Event()

    def kill() -> None:
        late.set()
        _end(process)

    timer = threading.Timer(timeout, kill)
    timer.start()
    assert process.stdout is not None
    line = process.stdout.readline()
    timer.cancel()
    if late.is_set():
        return f"not finished after {timeout:.0f} s"
    if line:
        return dict(json.loads(line))
    last = (errors.read_text().strip().splitlines() or [f"exit code {process.wait()}"])[-1]
    return f"not installed ({last}): make peers" if last.startswith(_MISSING) else f"failed: {last}"


def _end(process: subprocess.Popen[str]) -> None:
    """Kill the process and its children, which are in a session of their own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
