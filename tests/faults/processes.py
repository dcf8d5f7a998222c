"""Child processes of the tests: started, listened to, and ended within a deadline."""

from __future__ import annotations

import json
import os
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
# What Python and libraries say when something was torn down in the wrong order.
MESS = (
    *("Exception ignored", "Fatal Python", "Task was destroyed", "never awaited", "never retrieved"),
    *("exception calling callback", "Unclosed", "please report", "Exception in thread"),
)


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What the condition gives, as soon as that is true.

    Raises:
        TimeoutError: it is not within that many seconds.
    """
    deadline = time.monotonic() + seconds
    while not (met := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {seconds} s")
        time.sleep(0.01)
    return met


@dataclass
class Ended:
    """How a process has ended."""

    code: int
    seconds: float
    told: list[dict[str, Any]]
    stderr: str

    def last(self, word: str) -> dict[str, Any]:
        """What it told last under this word."""
        return [each for each in self.told if each["word"] == word][-1]

    @property
    def mess(self) -> list[str]:
        """Lines that no user should see."""
        return [line for line in self.stderr.splitlines() if any(each in line for each in MESS)]

    @property
    def warnings(self) -> list[str]:
        """What it warned of."""
        return [line for line in self.stderr.splitlines() if "trialstream: " in line]


class Child:
    """A script of `children/` that runs.

    Args:
        config: The settings, through its environment.
        folder: Where its output goes.
        script: Its name.
        *arguments: Its arguments.
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

    def go(self) -> None:
        """Say that it may go on."""
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def told(self, word: str) -> list[dict[str, Any]]:
        """What it has told so far under a word."""
        lines = [json.loads(line) for line in self._out.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [each for each in lines if not word or each["word"] == word]

    def hears(self, word: str, seconds: float = 60.0) -> dict[str, Any]:
        """What it tells under a word, once it does."""

        def heard() -> list[dict[str, Any]]:
            if self.process.poll() is not None and not self.told(word):
                raise AssertionError(f"it has ended ({self.process.returncode}): {self._err.read_text()}")
            return self.told(word)

        return until(heard, seconds)[-1]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self, seconds: float) -> Ended:
        """How it ended.

        Raises:
            AssertionError: it runs after so many seconds; the message says where all of its threads are.
        """
        started = time.monotonic()
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait()
            raise AssertionError(f"it hangs: {self._err.read_text()}") from None
        self.process.stdin.close()
        return Ended(code, time.monotonic() - started, self.told(""), self._err.read_text())

    def kill(self) -> None:
        """End it and whatever it has started, if it still runs."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
