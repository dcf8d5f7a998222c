"""Calls in child processes: as another user, and with bounds of memory and time."""

from __future__ import annotations

import io
import os
import pickle
import resource
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest

__all__ = ["in_child", "needs_root", "output_of", "shared_folder"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

_PAGE = resource.getpagesize()


def in_child(
    function: Callable[..., Any], *arguments: Any, uid: int | None = None, mebibytes: int = 4096, seconds: int = 60
) -> Any:
    """Call a function in a child process, and return its result.

    A child of another user may not read the files of Python itself, so all that the function imports must be imported
    before.

    Args:
        function: The function.
        *arguments: Its arguments.
        uid: The user; that of this process if not given.
        mebibytes: Memory that the call may take.
        seconds: Time after which a call that hangs is killed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            signal.alarm(seconds)
            if uid is not None:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            size = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE + mebibytes * 1024 * 1024
            resource.setrlimit(resource.RLIMIT_AS, (size, size))
            result = True, function(*arguments)
        except BaseException as error:  # noqa: BLE001 (raised again in the parent)
            result = False, (error, traceback.format_exc())
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(result, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    assert data, f"the call was killed: {status}"
    succeeded, result = pickle.loads(data)
    if not succeeded:
        error, trace = result
        error.add_note(trace)
        raise error
    return result


def output_of(function: Callable[..., Any], *arguments: Any) -> tuple[str, str, Any]:
    """Call a function; return what it prints to stdout and to stderr, and its result or its exit code."""
    with redirect_stdout(io.StringIO()) as stdout, redirect_stderr(io.StringIO()) as stderr:
        try:
            result = function(*arguments)
        except SystemExit as ended:
            result = ended.code
    return stdout.getvalue(), stderr.getvalue(), result


@contextmanager
def shared_folder(mode: int = 0o1777) -> Iterator[Path]:
    """A folder that all users can reach, unlike `tmp_path`, with a mode."""
    folder = Path(tempfile.mkdtemp(prefix="trialstream-shared-"))
    folder.chmod(mode)
    try:
        yield folder
    finally:
        rmtree(folder)
