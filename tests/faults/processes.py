"""Child processes of the tests: start, messages, and an end within a deadline."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trialstream.config import Config
from trialstream_console.local.consumer import environment

CHILDREN = Path(__file__).with_name("children")
# Messages of Python and libraries when something was torn down in the wrong order.
TEARDOWN_ERRORS = (
    *("Exception ignored", "Fatal Python", "Task was destroyed", "never awaited", "never retrieved"),
    *("exception calling callback", "Unclosed", "please report", "Exception in thread"),
)

# Python reports an exception of a signal handler that runs in the callback of a weak reference, and drops it.
DROPPED = re.compile(
    r"Exception ignored in: <function WeakSet\.__init__\.<locals>\._remove .*\nTraceback.*\n"
    r"(?:(?: .*)?\n)*(?:KeyboardInterrupt|SystemExit).*\n"
)


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until the condition is true, and return its value.

    Raises:
        TimeoutError: The condition was not met within that many seconds.
    """
    deadline = time.monotonic() + seconds
    while not (met := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"condition not met after {seconds} s")
        time.sleep(0.01)
    return met


@dataclass
class Ended:
    """Result of a process that has ended; `stderr` is without the exceptions that Python drops."""

    code: int
    seconds: float
    messages: list[dict[str, Any]]
    stderr: str

    def last(self, word: str) -> dict[str, Any]:
        """Return its last message of this kind."""
        return [each for each in self.messages if each["word"] == word][-1]

    @property
    def teardown_errors(self) -> list[str]:
        """Lines of its stderr that no user should see."""
        return [line for line in self.stderr.splitlines() if any(each in line for each in TEARDOWN_ERRORS)]

    @property
    def warnings(self) -> list[str]:
        """Warnings of trialstream in its stderr."""
        return [line for line in self.stderr.splitlines() if "trialstream: " in line]


class Child:
    """A running script of `children/`.

    Args:
        config: Settings, passed through the environment.
        folder: Folder of its output.
        script: Name of the script.
        *arguments: Arguments of the script.
        options: Options of Python.
    """

    def __init__(self, config: Config, folder: Path, script: str, *arguments: Any, options: Sequence[str] = ()) -> None:
        self._out, self._err = (folder / f"{uuid.uuid4().hex}.{each}" for each in ("out", "err"))
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", *options, CHILDREN / script, *map(str, arguments)],
                env={**os.environ, **environment(config)},
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.pid = self.process.pid
        self._sent = signal.SIGINT

    def go(self) -> None:
        """Send the go-ahead that the child waits for."""
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def messages(self, word: str) -> list[dict[str, Any]]:
        """Return its messages of this kind so far."""
        lines = [json.loads(line) for line in self._out.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [each for each in lines if not word or each["word"] == word]

    def wait_for(self, word: str, seconds: float = 60.0) -> dict[str, Any]:
        """Wait for a message of this kind, and return it."""

        def received() -> list[dict[str, Any]]:
            if self.process.poll() is not None and not self.messages(word):
                raise AssertionError(f"the child has ended ({self.process.returncode}): {self._err.read_text()}")
            return self.messages(word)

        return until(received, seconds)[-1]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._sent = number
        self.process.send_signal(number)

    def _wait(self, seconds: float) -> int:
        """Wait for the end. A signal whose exception Python has dropped is sent again."""
        try:
            return self.process.wait(seconds / 2)
        except subprocess.TimeoutExpired:
            if DROPPED.search(self._err.read_text()):
                self.process.send_signal(self._sent)
            return self.process.wait(seconds / 2)

    def end(self, seconds: float) -> Ended:
        """Wait for the end, and return the result.

        Raises:
            AssertionError: The child still runs after that many seconds; the message has the stacks of all its threads.
        """
        started = time.monotonic()
        try:
            code = self._wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait()
            raise AssertionError(f"the child hangs: {self._err.read_text()}") from None
        self.process.stdin.close()
        return Ended(code, time.monotonic() - started, self.messages(""), DROPPED.sub("", self._err.read_text()))

    def kill(self) -> None:
        """Kill the child and every process that it has started, if it still runs."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
