"""The launcher: the process that starts the servers, in the foreground or detached, and stops them at its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from trialstream_console.local import binaries, process
from trialstream_console.local.errors import Interrupted, LocalStackError
from trialstream_console.local.folder import DataFolder
from trialstream_console.local.stack import LocalStack
from trialstream_console.local.steps import StepReport

__all__ = ["start_detached", "stop", "supervise"]

_STOP_SECONDS = 60.0  # 15 s for each of the three servers, and a margin


def supervise(stack: LocalStack, ready: Callable[[], None]) -> None:
    """Start the stack, wait for a signal (SIGINT, SIGTERM, SIGHUP), and stop the stack in order.

    Args:
        stack: The stack.
        ready: Called once all servers are ready.

    Raises:
        LocalStackError: The stack could not start, or a server died later; all other servers have been stopped.
        Interrupted: A signal arrived before all servers were ready.
    """
    is_ready = False
    try:
        with _signals_raise(), stack:
            is_ready = True
            ready()
            while not (failure := stack.failure()):
                time.sleep(0.2)
            stack.stop(error=failure)
            raise LocalStackError(f"{failure}\nThe other servers have been stopped; the data is kept")
    except Interrupted:
        if not is_ready:
            raise


def start_detached(folder: DataFolder, arguments: Sequence[str], on_step: StepReport) -> None:
    """Run `trialstream up` in a process of its own; return when all servers are ready.

    Args:
        folder: The data folder.
        arguments: Further arguments of `trialstream up`.
        on_step: Called with each step of the start.

    Raises:
        LocalStackError: The stack could not start; the message has the launcher's error or the end of its log.
    """
    binaries.check()
    folder.create()
    log = folder.path / "launcher.log"
    out = folder.empty_file(log.name)
    command = [sys.executable, "-m", "trialstream_console.cli", "up", "--data", str(folder.path), *arguments]
    try:
        launcher = subprocess.Popen(  # noqa: S603 - our own command
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    finally:
        os.close(out)
    try:
        while launcher.poll() is None:
            record = folder.read_record()
            if record is not None and record.launcher.pid == launcher.pid:
                if record.ready:
                    launcher.returncode = 0  # keeps subprocess from warning that the launcher is still running
                    return
                if record.step:
                    on_step(*record.step.partition(": ")[::2])
            time.sleep(0.05)
    except BaseException:
        process.stop(launcher, _STOP_SECONDS)
        raise
    record = folder.read_record()
    if record is not None and record.launcher.pid == launcher.pid and record.error:
        raise LocalStackError(record.error)
    reason = process.exit_reason(launcher.returncode)
    raise LocalStackError(f"the launcher ended during the start ({reason}). The end of {log}:\n{process.tail(log)}")


def stop(folder: DataFolder) -> bool:
    """Stop the stack in a data folder through its launcher, or server by server if the launcher was killed.

    Args:
        folder: The data folder, which need not exist.

    Returns:
        Whether anything was running.
    """
    stopped = folder.stop_launcher(_STOP_SECONDS)
    return bool(folder.stop_leftovers_if_unlocked()) or stopped


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Raise `Interrupted` in the main thread at the first signal; ignore later ones, since stopping has deadlines."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as `nohup` sets it
        numbers.append(signal.SIGHUP)

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
