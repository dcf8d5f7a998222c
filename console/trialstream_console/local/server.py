"""Base class of the servers: one child process that can be started, stopped, killed and started again."""

from __future__ import annotations

import os
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import Signals

from trialstream_console.local import process
from trialstream_console.local.errors import LocalStackError
from trialstream_console.local.private_folder import PrivateFolder
from trialstream_console.local.process import ProcessId

__all__ = ["Server"]

_LOG_LIMIT = 10 * 2**20  # bytes; a larger log is renamed to `*.log.1` at the next start


class Server(ABC):
    """A child process and its log file.

    Attributes:
        name: Short name, used for the log file and in records.
        title: Name in messages.
        start_seconds: Time limit of a start.
        stop_seconds: Time between SIGTERM and SIGKILL.
        folder: Working directory of the process; a `PrivateFolder`, created at the first start.
        log: File to which the process writes its output.
        on_change: Called after every start and end, so that the owner can record the pids.
    """

    name: str
    title: str
    # Detects a hang: a start takes 4 s, and 30 s on a machine with three times its load (measured).
    start_seconds = 120.0
    stop_seconds = 15.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / f"{self.name}.log"
        self.on_change: Callable[[], None] = lambda: None
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._private: PrivateFolder | None = None

    @property
    def pid(self) -> int:
        """Process id.

        Raises:
            LocalStackError: The server is not running.
        """
        return self._running_process().pid

    @property
    def running(self) -> bool:
        """Whether the process is alive; it may be paused."""
        return self._process is not None and self._process.poll() is None

    @property
    def failure(self) -> str:
        """Message about an unexpected end of the server, with that of its log; empty while it runs and after `stop`."""
        if self._process is None or self._process.poll() is None:
            return ""
        return f"{self.title} died ({process.exit_reason(self._process.returncode)}). {self._log_end()}"

    def start(self) -> None:
        """Start the process and wait until the server is ready; does nothing if it is running already.

        Raises:
            LocalStackError: The server could not start, died at start (with the end of its log), or was not ready in
                time.
        """
        if self.running:
            return
        self._close_folder()
        self._private = PrivateFolder.create(self.folder, "choose another folder")
        self._private.hide()
        self._prepare()
        self._roll_log()
        process.run_on_spawner_thread(self._spawn)
        self.on_change()
        deadline = time.monotonic() + self.start_seconds
        while not self._poll_startup():
            if failure := self.failure:
                self._forget()
                raise LocalStackError(failure)
            if time.monotonic() > deadline:
                self.kill()
                raise LocalStackError(f"{self.title} was not ready after {self.start_seconds:.0f} s. {self._log_end()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server with SIGTERM, or with SIGKILL if that takes longer than `stop_seconds`."""
        process.run_on_spawner_thread(lambda: None)  # waits for an interrupted start to return
        if self._process is not None:
            process.stop(self._process, self.stop_seconds)
            self._forget()
        self._close_folder()

    def kill(self) -> None:
        """Kill the server with SIGKILL, and wait until the process has ended."""
        process.run_on_spawner_thread(lambda: None)
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._forget()
        self._close_folder()

    def signal(self, number: Signals) -> None:
        """Send a signal to the server, such as SIGSTOP to pause it and SIGCONT to resume it.

        Args:
            number: The signal.

        Raises:
            LocalStackError: The server is not running.
        """
        self._running_process().send_signal(number)

    @property
    @abstractmethod
    def address(self) -> str:
        """`host:port` at which the server listens; empty if it does not listen."""

    @abstractmethod
    def _poll_startup(self) -> bool:
        """Do one step of a start, if one is due, and return whether the server is ready."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """Return the command line."""

    @abstractmethod
    def _prepare(self) -> None:
        """Check the ports and write the files that the server reads; called before each start."""

    def _environment(self) -> Mapping[str, str] | None:
        """Return the environment of the process, or None for that of this process."""
        return None

    def _running_process(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise LocalStackError(f"{self.title} is not running: call start() first")
        return self._process

    @property
    def _files(self) -> PrivateFolder:
        """The working directory; open from a start to the end of the process."""
        assert self._private is not None
        return self._private

    def _listens(self, port: int) -> bool:
        """Whether the process itself accepts connections on a port, and not another one that has taken it first."""
        found = None if self._process is None else ProcessId.of(self._process.pid)
        return found is not None and found.listens_on(port)

    def _spawn(self) -> None:
        self._process = self._spawn_process(self._command(), self._environment())

    def _spawn_process(
        self, command: Sequence[str | Path], env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process in the folder that writes to the log; see `process.spawn`."""
        log = self._files.open_file(self.log.name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            return process.spawn(command, log=log, cwd=self._files.descriptor, env=env)
        finally:
            os.close(log)

    def _forget(self) -> None:
        self._process = None
        self.on_change()

    def _close_folder(self) -> None:
        if self._private is not None:
            self._private.close()
            self._private = None

    def _roll_log(self) -> None:
        files, name = self._files, self.log.name
        size = os.stat(name, dir_fd=files.descriptor, follow_symlinks=False).st_size if files.has(name) else 0
        if size > _LOG_LIMIT:
            os.replace(name, f"{name}.1", src_dir_fd=files.descriptor, dst_dir_fd=files.descriptor)
            size = 0
        self._log_start = size

    def _log_text(self) -> str:
        """Return the output since the last start."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def _log_end(self) -> str:
        lines = process.tail(self.log, offset=self._log_start)
        return f"The end of {self.log}:\n{lines}" if lines else f"Its log {self.log} is empty"
