"""Runs the coroutine of a command so that a signal cancels it and its cleanup is executed; the number of processes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar, TypeVarTuple

import anyio
import typer

from trialstream_console.local.errors import Interrupted

__all__ = ["Workers", "run"]

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

Workers = Annotated[int, typer.Option(min=1, metavar="N", help="Number of processes that share the partitions.")]


def run(function: Callable[[*Arguments], Coroutine[Any, Any, T]], *arguments: *Arguments) -> T:
    """Run a coroutine function and return its result; SIGTERM and Ctrl-C cancel it.

    Args:
        function: The coroutine function.
        *arguments: Its arguments.

    Raises:
        Interrupted: A signal cancelled the coroutine; the command ends with the exit code of that signal.
    """

    async def main() -> T:
        received: list[int] = []
        with anyio.CancelScope() as scope:

            def interrupt(number: int) -> None:
                received.append(number)
                scope.cancel()

            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, interrupt, number)
            return await function(*arguments)
        raise Interrupted(received[0])

    return anyio.run(main)
