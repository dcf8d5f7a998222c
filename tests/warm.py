"""Python processes that begin with trialstream imported: forks of a process that has done nothing else.

A new interpreter takes a second of processor time to import trialstream, a fork takes milliseconds. The process runs a
module, a script or code as `python` does, as `__main__`, and ends as every interpreter does: exit handlers run, and
modules are torn down. What it does not test is the import itself, nor variables that Python reads at its start
(PYTHON...).
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["WarmProcess", "run"]

# All commands, and what their first calls import.
_IMPORTED = ("trialstream_console.cli", "trialstream.sync", "aiokafka.admin")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


# --- In the process of the tests


class _Template:
    """The process that is forked."""

    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair()
        # A thread of the linear algebra would not be in a fork.
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=env, start_new_session=True)
        theirs.close()
        self._lock = threading.Lock()
        atexit.register(self._end)

    def fork(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        """Request a process."""
        text = json.dumps(request).encode()
        with self._lock:
            socket.send_fds(self._connection, [len(text).to_bytes(4, "big")], descriptors)
            self._connection.sendall(text)

    def _end(self) -> None:
        self._connection.close()
        self._process.wait()


_template: _Template | None = None
_starting = threading.Lock()


def _fork(request: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    global _template  # noqa: PLW0603 - one for all tests of this process
    with _starting:
        if _template is None:
            _template = _Template()
    _template.fork(request, descriptors)


class WarmProcess:
    """A process, with those methods of `subprocess.Popen` that tests use.

    Args:
        command: Command line that begins with `sys.executable`, then `-m` and a module, `-c` and code, or a script.
        env: Environment.
        cwd: Working directory.
        stdout: Descriptor of the output.
        stderr: Descriptor of the error output.

    Attributes:
        pid: Process id.
        returncode: Exit code, or minus the signal; None before `poll` or `wait` has returned it.
    """

    def __init__(
        self, command: Sequence[str | Path], *, env: Mapping[str, str], cwd: str | Path, stdout: int, stderr: int
    ) -> None:
        python, *arguments = map(str, command)
        assert python == sys.executable
        self._results, writing = os.pipe()
        try:
            request = {"arguments": arguments, "env": dict(env), "cwd": str(cwd)}
            _fork(request, [writing, stdout, stderr])
        finally:
            os.close(writing)
        self.pid = self._read()
        self.returncode: int | None = None
        self._reaping = threading.Lock()

    def _read(self) -> int:
        data = os.read(self._results, 4)
        assert data, "the process could not be started"
        return int.from_bytes(data, "big")

    def poll(self) -> int | None:
        """Return the exit code if the process has ended."""
        return self._reap(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return the exit code.

        Raises:
            subprocess.TimeoutExpired: The process still runs after that many seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self._reap(0.05)) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a warm process", timeout or 0.0)
        return code

    def _reap(self, seconds: float) -> int | None:
        with self._reaping:
            if self.returncode is None and select.select([self._results], [], [], seconds)[0]:
                self.returncode = os.waitstatus_to_exitcode(self._read())
                os.close(self._results)
            return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def run(
    command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `subprocess.run` with `capture_output` does.

    Args:
        command: Command line that begins with `sys.executable`, then `-m` and a module, `-c` and code, or a script.
        env: Environment; that of this process by default.
        timeout: Time after which the process is killed, seconds.

    Raises:
        subprocess.TimeoutExpired: The process was killed.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = WarmProcess(
            command, env=os.environ if env is None else env, cwd=Path.cwd(), stdout=out.fileno(), stderr=err.fileno()
        )
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(command, code, *texts)


# --- In the process that is forked, and in its forks


def _die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent has ended, so that no test leaves one behind."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _next_request(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return the next request and its descriptors; end when the tests have ended."""
    head, descriptors, *_ = socket.recv_fds(connection, 4, 3)
    if not head:
        _reap()
        os._exit(0)  # the kernel kills what still runs
    text, size = b"", int.from_bytes(head, "big")
    while len(text) < size:
        text += connection.recv(size - len(text))
    return json.loads(text), descriptors


def _reap() -> None:
    """Wait for the processes that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _forked(connection: socket.socket) -> dict[str, Any]:
    """Serve requests; return one in a process that was forked for it, and never in this one.

    The parent of that process is one that waits for its end and writes how it ended.
    """
    while True:
        request, (results, stdout, stderr) = _next_request(connection)
        _reap()
        template = os.getpid()
        if not os.fork():
            _die_with_parent(template)
            connection.close()
            parent = os.getpid()
            child = os.fork()
            if not child:
                _die_with_parent(parent)
                os.close(results)
                for descriptor, target in ((os.open(os.devnull, os.O_RDONLY), 0), (stdout, 1), (stderr, 2)):
                    os.dup2(descriptor, target)
                    os.close(descriptor)
                return request
            os.write(results, child.to_bytes(4, "big"))
            os.write(results, os.waitpid(child, 0)[1].to_bytes(4, "big"))
            os._exit(0)
        for each in (results, stdout, stderr):
            os.close(each)


def _main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    for each in _IMPORTED:
        importlib.import_module(each)
    gc.collect()
    gc.freeze()
    request = _forked(connection)
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    flag, *arguments = request["arguments"]
    if flag == "-m":
        sys.argv = arguments
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    elif flag == "-c":
        code, *sys.argv[1:] = arguments
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = [flag, *arguments]
        sys.path[0] = str(Path(flag).parent)
        runpy.run_path(flag, run_name="__main__")


if __name__ == "__main__":
    _main()
