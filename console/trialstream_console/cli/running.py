"""Runs what a command does, such that a signal lets it clean up."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio

from trialstream_console.local.launcher import Interrupted

__all__ = ["run"]

T = TypeVar("T")


def run(function: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end; SIGTERM or Ctrl-C cancels it.

    Raises:
        Interrupted: it was cancelled; the command ends with the exit code of that signal.
    """

    async def main() -> T:
        received: list[int] = []
        with anyio.CancelScope() as scope:

            def interrupt(number: int) -> None:
                received.append(number)
                scope.cancel()

            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, interrupt, number)
            return await function()
        raise Interrupted(received[0])

    return anyio.run(main)
