"""The process that starts the servers and stays with them; starting it apart, and ending it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from trialstream_console.local import parts, process
from trialstream_console.local.errors import LocalStackError
from trialstream_console.local.folder import DataFolder
from trialstream_console.local.stack import LocalStack

__all__ = ["Interrupted", "detach", "down", "supervise"]

_DOWN_SECONDS = 60.0  # three servers with 15 s each, and a margin


class Interrupted(BaseException):
    """A signal asked the launcher to stop.

    Attributes:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__("")
        self.number = number


def supervise(stack: LocalStack, ready: Callable[[], None]) -> None:
    """Start the stack, call `ready`, and stay until a signal (SIGINT, SIGTERM, SIGHUP) comes; then stop it in order.

    Raises:
        LocalStackError: the stack cannot start, or a server died later; the others have been stopped.
        Interrupted: a signal came before everything was ready.
    """
    is_ready = False
    try:
        with _signals_raise(), stack:
            is_ready = True
            ready()
            while not (how := stack.died()):
                time.sleep(0.2)
            stack.stop(error=how)
            raise LocalStackError(f"{how}\nThe other servers have been stopped; the data is kept")
    except Interrupted:
        if not is_ready:
            raise


def detach(folder: DataFolder, arguments: Sequence[str], progress: parts.Progress) -> None:
    """Run `trialstream up` with these arguments in a process of its own; returns when everything is ready.

    Raises:
        LocalStackError: it did not start; what it said.
    """
    parts.check()
    folder.claim()
    log = folder.path / "launcher.log"
    command = [sys.executable, "-m", "trialstream_console.cli", "up", "--data", str(folder.path), *arguments]
    with log.open("wb") as out:
        launcher = subprocess.Popen(  # noqa: S603 - our own command
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        while launcher.poll() is None:
            run = folder.run()
            if run is not None and run.launcher.pid == launcher.pid:
                if run.ready:
                    launcher.returncode = 0  # it stays, and is not waited for
                    return
                if run.step:
                    progress(*run.step.partition(": ")[::2])
            time.sleep(0.05)
    except BaseException:
        process.stop(launcher, _DOWN_SECONDS)
        raise
    run = folder.run()
    if run is not None and run.launcher.pid == launcher.pid and run.error:
        raise LocalStackError(run.error)
    how = process.ended(launcher.returncode)
    raise LocalStackError(f"the launcher ended at start ({how}). The end of {log}:\n{process.tail(log)}")


def down(folder: DataFolder) -> bool:
    """Stop what runs on the folder: by its launcher in good order, or one by one when the launcher is gone.

    Returns:
        Whether anything ran.
    """
    run = folder.run()
    stopped = run is not None and run.launcher.stop(_DOWN_SECONDS)
    return bool(folder.clean()) or stopped


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Let the first signal raise `Interrupted` in the main thread; later ones are ignored, stopping has deadlines."""
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
