"""Child processes of the launcher.

On Linux a child cannot outlive the launcher (`die_with_parent.py`). A recorded process is identified by its pid, start
time and user, so no unrelated process is ever killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from trialstream_consumer.processes import exit_reason

from trialstream_console.local.errors import LocalStackError

if TYPE_CHECKING:
    import psutil

__all__ = ["ProcessId", "exit_reason", "run_on_spawner_thread", "spawn", "stop", "tail"]

T = TypeVar("T")

# The kernel kills a child when the *thread* that started it ends, and anyio's worker threads end with their event loop.
_SPAWNER_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trialstream-spawner")

_DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def run_on_spawner_thread(function: Callable[[], T]) -> T:
    """Run a function on the spawner thread, which lives as long as this process, after all earlier calls there."""
    return _SPAWNER_THREAD.submit(function).result()


def spawn(
    command: Sequence[str | Path], *, log: Path | int, cwd: Path | int, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a child that writes to `log` and is killed when this process ends; call through `run_on_spawner_thread`.

    The child has a session of its own: Ctrl-C in the terminal reaches the launcher only, which stops the children in
    order. What it creates, only this user can read.

    Args:
        command: Program and arguments.
        log: File to which stdout and stderr are appended, or its descriptor.
        cwd: Working directory, or its descriptor.
        env: Environment, or None for that of this process.
    """
    out = os.open(log, _APPEND, 0o600) if isinstance(log, Path) else os.dup(log)
    folder = os.open(cwd, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if isinstance(cwd, Path) else os.dup(cwd)
    wrapper = [sys.executable, "-I", "-S", str(_DIE_WITH_PARENT), str(os.getpid()), str(folder)]
    try:
        return subprocess.Popen(  # noqa: S603 - the commands are our own
            [*wrapper, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            pass_fds=(folder,),
            env=env,
            start_new_session=True,
        )
    finally:
        os.close(out)
        os.close(folder)


def stop(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Send SIGTERM, then SIGKILL after `seconds`; return when the process has ended."""
    try:
        process.terminate()
        process.send_signal(signal.SIGCONT)  # a paused process does not handle SIGTERM
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait()


def tail(log: Path, *, offset: int = 0, lines: int = 15) -> str:
    """Return the last lines of a log file without the frames of Java stack traces; empty if it cannot be read.

    Args:
        log: Log file.
        offset: Start of the relevant part, bytes.
        lines: Maximum number of lines; each is cut at 400 characters.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(offset, log.stat().st_size - 64 * 1024))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    # The frames of a stack trace would displace its message.
    shown = [line[:400] for line in text.splitlines() if not line.startswith(("\tat ", "\t..."))]
    return "\n".join(shown[-lines:])


@dataclass(frozen=True)
class ProcessId:
    """A pid of this user with its start time: the system may give the pid to another process later.

    Attributes:
        pid: Process id.
        created: Start time of the process, seconds since 1970.
    """

    pid: int
    created: float

    # Linux counts from a boot time in whole seconds, which moves by one when the clock is corrected.
    _TOLERANCE = 1.0

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """Return the id of the running process with this pid, or None if no such process runs.

        Raises:
            LocalStackError: The package psutil is not installed.
        """
        process = cls._look_up(pid)
        return None if process is None else cls(pid, process.create_time())

    @property
    def alive(self) -> bool:
        """Whether the process with this pid and start time is running, and belongs to this user."""
        return self._find() is not None

    def command(self) -> list[str]:
        """Return the program and the arguments of the process; empty if it is not running."""
        return self._ask(lambda process: process.cmdline())

    def open_files(self) -> list[str]:
        """Return the paths of the regular files that the process has open; empty if it is not running."""
        return self._ask(lambda process: [each.path for each in process.open_files()])

    def listens_on(self, port: int) -> bool:
        """Whether the process accepts connections on a TCP port."""
        found = self._ask(lambda process: process.net_connections("tcp"))
        return any(each.status == "LISTEN" and each.laddr.port == port for each in found)

    def stop(self, seconds: float) -> bool:
        """Send SIGTERM, then SIGKILL after `seconds`; another process with the same pid is left alone.

        Returns:
            Whether the process was running.

        Raises:
            LocalStackError: The process belongs to another user.
        """
        if not self._signal(signal.SIGTERM):
            return False
        self._signal(signal.SIGCONT)
        if not self.wait(seconds):
            self._signal(signal.SIGKILL)
            self.wait(seconds)
        return True

    def wait(self, seconds: float) -> bool:
        """Wait until the process has ended; return False if it still runs after `seconds`."""
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
            raise LocalStackError(
                f"process {self.pid} belongs to another user: it must be stopped by that user"
            ) from None
        return True

    def _ask(self, question: Callable[[psutil.Process], list[T]]) -> list[T]:
        process = self._find()
        if process is None:
            return []
        import psutil  # noqa: PLC0415 - an optional dependency, which `_find` has found

        try:
            return question(process)
        except (psutil.Error, OSError):  # it has ended, or its user has changed
            return []

    def _find(self) -> psutil.Process | None:
        process = self._look_up(self.pid)
        if process is None or abs(process.create_time() - self.created) > self._TOLERANCE:
            return None
        return process

    @staticmethod
    def _look_up(pid: int) -> psutil.Process | None:
        try:
            import psutil  # noqa: PLC0415 - an optional dependency
        except ImportError:
            raise LocalStackError("psutil is not installed: pip install 'trialstream[local]'") from None
        try:
            process = psutil.Process(pid)
            is_ours = process.status() != psutil.STATUS_ZOMBIE and process.uids().effective == os.geteuid()
        except psutil.Error:
            return None
        return process if is_ours else None
