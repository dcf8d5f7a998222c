"""What is being done: steps with a spinner, and counts with a bar."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ["Steps", "counting"]

# Moving the bar for each record would cost more than the record.
_SHOWN = 256


class Steps:
    """A spinner on a terminal, and a line for each finished step everywhere.

    Shows the step that was named last; called with a step and a detail of it, and with an empty step at the end.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._spinner = console.status("")
        self._step = ""
        self._began = 0.0

    def __call__(self, step: str, detail: str) -> None:
        """Go on to a step, or to the next detail of the present one."""
        if step != self._step:
            self._finish("[green]✓[/]")
            self._step, self._began = step, time.monotonic()
        if step:
            self._spinner.update(f"{step} [dim]{detail}[/]")
            self._spinner.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish("[green]✓[/]" if error is None else "[red]✗[/]")

    def _finish(self, mark: str) -> None:
        self._spinner.stop()
        if self._step:
            seconds = time.monotonic() - self._began
            self._console.print(f"{mark} {self._step} [dim]{seconds:.1f} s[/]", highlight=False)
            self._step = ""


class _Rate(ProgressColumn):
    """How many a second, lately."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s", style="progress.data.speed")


@contextmanager
def counting() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr for each step, with count, rate and time left; nothing where stderr is no terminal.

    Yields:
        To be called with the step, how many are done and how many there are.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}
        shown: dict[str, int] = {}

        def progress(step: str, done: int, total: int) -> None:
            if step not in tasks:
                # What is done already when a step goes on must not count in its rate.
                tasks[step] = bar.add_task(step, completed=done, total=total)
                shown[step] = done
            if done - shown[step] >= _SHOWN or done == total:
                shown[step] = done
                bar.update(tasks[step], completed=done, total=total)

        yield progress
