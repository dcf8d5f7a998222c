"""Child processes: started so that they cannot outlive the launcher, named so that no other one is ever killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from trialstream_console.local.errors import LocalStackError

if TYPE_CHECKING:
    import psutil

__all__ = ["ProcessId", "ended", "on_lasting_thread", "spawn", "stop", "tail"]

T = TypeVar("T")

# The kernel ties a child to the *thread* that started it, and anyio's worker threads end with their event loop.
_LASTING_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trialstream-spawner")

_TETHER = Path(__file__).with_name("tether.py")


def on_lasting_thread(function: Callable[[], T]) -> T:
    """Run `function` on the one thread that lives as long as this process, after all that was given to it before."""
    return _LASTING_THREAD.submit(function).result()


def spawn(
    command: Sequence[str | Path], *, log: Path, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a child that writes to `log` and dies with this process; call it through `on_lasting_thread`.

    It gets a session of its own: Ctrl-C in the terminal reaches the launcher only, which stops its children in order.
    """
    tether = [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid())]
    with log.open("ab") as out:
        return subprocess.Popen(  # noqa: S603 - the commands are our own
            [*tether, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes], seconds: float) -> None:
    """SIGTERM, then SIGKILL when `seconds` have passed; returns when the process is gone."""
    try:
        process.terminate()
        process.send_signal(signal.SIGCONT)  # a paused process would sit on its SIGTERM
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait()


def ended(code: int) -> str:
    """Say in words how a process ended, from its `returncode`."""
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


def tail(log: Path, *, offset: int = 0, lines: int = 15) -> str:
    """The last lines of a log file, of what was written after `offset`."""
    try:
        with log.open("rb") as file:
            file.seek(max(offset, log.stat().st_size - 64 * 1024))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    # A Java stack trace would push its message out of sight.
    told = [line[:400] for line in text.splitlines() if not line.startswith(("\tat ", "\t..."))]
    return "\n".join(told[-lines:])


@dataclass(frozen=True)
class ProcessId:
    """A pid and when its process began: a pid alone may by now belong to another process.

    Attributes:
        pid: Process id.
        created: Seconds since the epoch at which the process began.
    """

    pid: int
    created: float

    # Linux counts from a boot time in whole seconds, which moves by one when the clock is corrected.
    _TOLERANCE = 1.0

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The running process with this pid, or None.

        Raises:
            LocalStackError: psutil is not installed.
        """
        process = cls._look_up(pid)
        return None if process is None else cls(pid, process.create_time())

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return self._find() is not None

    def stop(self, seconds: float) -> bool:
        """SIGTERM, then SIGKILL when `seconds` have passed; does nothing to another process with the same pid.

        Returns:
            Whether it was running.
        """
        if not self._signal(signal.SIGTERM):
            return False
        self._signal(signal.SIGCONT)
        if not self.wait(seconds):
            self._signal(signal.SIGKILL)
            self.wait(seconds)
        return True

    def wait(self, seconds: float) -> bool:
        """Wait until the process is gone; False when it still runs after `seconds`."""
        deadline = time.monotonic() + seconds
        while self.alive:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _signal(self, number: signal.Signals) -> bool:
        process = self._find()
        if process is None:
            return False
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:
            raise LocalStackError(f"process {self.pid} belongs to another user, who must stop it") from None
        return True

    def _find(self) -> psutil.Process | None:
        process = self._look_up(self.pid)
        if process is None or abs(process.create_time() - self.created) > self._TOLERANCE:
            return None
        return process

    @staticmethod
    def _look_up(pid: int) -> psutil.Process | None:
        try:
            import psutil  # noqa: PLC0415 - an optional part
        except ImportError:
            raise LocalStackError("psutil is missing: pip install 'trialstream[local]'") from None
        try:
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.NoSuchProcess:
            return None
