"""One server as a child process: start until ready, stop, kill, start again."""

from __future__ import annotations

import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import Signals

from trialstream_console.local import process
from trialstream_console.local.errors import LocalStackError

__all__ = ["Server"]

_LOG_LIMIT = 10 * 2**20  # bytes; a log larger than this is set aside at the next start


class Server(ABC):
    """A child process and its log file.

    Attributes:
        name: Short name, of the log file and in records.
        title: Name for people.
        log: Where its output goes.
        changed: Called after every start and end, so that the owner can record the pids.
    """

    name: str
    title: str
    start_seconds = 120.0  # a hang, not slowness: 4 s were measured, 30 s on a machine with three times its load
    stop_seconds = 15.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / f"{self.name}.log"
        self.changed: Callable[[], None] = lambda: None
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        """The server's own pid.

        Raises:
            LocalStackError: it does not run.
        """
        return self._living().pid

    @property
    def running(self) -> bool:
        """Whether the process is alive; it may be paused."""
        return self._process is not None and self._process.poll() is None

    @property
    def died(self) -> str:
        """How it ended without being asked to, with the end of its log; empty while it runs or after `stop`."""
        if self._process is None or self._process.poll() is None:
            return ""
        return f"{self.title} died ({process.ended(self._process.returncode)}). {self._log_end()}"

    def start(self) -> None:
        """Start the process and wait until it serves; does nothing when it runs already.

        Raises:
            LocalStackError: it cannot start, died at start (with the end of its log), or was not ready in time.
        """
        if self.running:
            return
        self._prepare()
        self._roll_log()
        process.on_lasting_thread(self._spawn)
        self.changed()
        deadline = time.monotonic() + self.start_seconds
        while not self.answers():
            if how := self.died:
                self._forget()
                raise LocalStackError(how)
            if time.monotonic() > deadline:
                self.kill()
                raise LocalStackError(f"{self.title} was not ready after {self.start_seconds:.0f} s. {self._log_end()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it in good order, or kill it when that takes longer than `stop_seconds`."""
        process.on_lasting_thread(lambda: None)  # an interrupted start may still be under way there
        if self._process is not None:
            process.stop(self._process, self.stop_seconds)
            self._forget()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        process.on_lasting_thread(lambda: None)
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._forget()

    def signal(self, number: Signals) -> None:
        """Send it a signal, such as SIGSTOP to pause it and SIGCONT to let it go on.

        Raises:
            LocalStackError: it does not run.
        """
        self._living().send_signal(number)

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it listens, or an empty string."""

    @abstractmethod
    def answers(self) -> bool:
        """Ask once whether it serves."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """The command line."""

    @abstractmethod
    def _prepare(self) -> None:
        """Do what must be done before each start."""

    def _environment(self) -> Mapping[str, str] | None:
        """The environment, or None for this process's own."""
        return None

    def _living(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise LocalStackError(f"{self.title} is not running: start() it first")
        return self._process

    def _spawn(self) -> None:
        self._process = process.spawn(self._command(), log=self.log, cwd=self.folder, env=self._environment())

    def _forget(self) -> None:
        self._process = None
        self.changed()

    def _roll_log(self) -> None:
        size = self.log.stat().st_size if self.log.exists() else 0
        if size > _LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
            size = 0
        self._log_start = size

    def _log_text(self) -> str:
        """What it has written since its start."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def _log_end(self) -> str:
        lines = process.tail(self.log, offset=self._log_start)
        return f"The end of {self.log}:\n{lines}" if lines else f"Its log {self.log} is empty"
