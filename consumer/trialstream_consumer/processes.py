"""Child processes: a child ends when its parent does, and the parent's block ends the child.

The parent holds the other end of a child's stdin, which therefore ends however the parent ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import ByteReceiveStream, Process

__all__ = ["STOP_SECONDS", "exit_reason", "lines", "open_child", "stop_with_parent"]

STOP_SECONDS = 20.0
"""Time between SIGTERM and SIGKILL, seconds: a service stops within 10 s, a transaction ends within 8 s."""


@asynccontextmanager
async def open_child(
    module: str, *arguments: str, stdout: int | None = None, stderr: int | None = None
) -> AsyncIterator[Process]:
    """A child process that runs a module, for one block; at the block's end a child that still runs is stopped.

    The child has a session of its own: Ctrl-C in the terminal reaches the parent only.

    Args:
        module: Name of the module, which calls `stop_with_parent`.
        *arguments: Its arguments.
        stdout: `subprocess.PIPE`, or None for that of this process.
        stderr: `subprocess.PIPE`, or None for that of this process.
    """
    process = await anyio.open_process(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.terminate()
                with anyio.move_on_after(STOP_SECONDS):
                    await process.wait()
            if process.returncode is None:
                process.kill()
            await process.aclose()


async def lines(stream: ByteReceiveStream | None) -> AsyncIterator[bytes]:
    """The lines of a child's output, without their ends, until the output ends; the last one may lack its end.

    Args:
        stream: `stdout` or `stderr` of a child, opened with a pipe.
    """
    assert stream is not None
    rest = b""
    async for part in stream:
        *complete, rest = (rest + part).split(b"\n")
        for line in complete:
            yield line
    if rest:
        yield rest


def exit_reason(code: int) -> str:
    """Describe a `returncode`: "exit code 3" or "killed by SIGKILL"."""
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


def stop_with_parent() -> None:
    """Stop this process when its stdin ends: by SIGTERM, and at last at once.

    Call this once all that the parent wrote to stdin is read.
    """
    threading.Thread(target=_stop_at_end, name="trialstream-parent", daemon=True).start()


def _stop_at_end() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(1)
