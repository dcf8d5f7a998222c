"""Progress displays of the commands: a spinner for steps, and bars for counts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text
from trialstream.waiting import ignore_notices, notice_if_slow
from trialstream_consumer.progress import Progress
from trialstream_schemas.messages import printable

from trialstream_console.cli.output import new_console

__all__ = ["Steps", "progress_bar", "spinner"]

# Minimum count between two updates of a bar: an update for each record would cost more than the record.
_UPDATE_COUNT = 256
# The mark of a step, and its style.
_DONE = ("✓", "green")
_FAILED = ("✗", "red")


class Steps:
    """Prints a line for each finished step. A spinner shows the current step; without a terminal, a notice does.

    The step names what is done: waits within it, such as for a server that answers late, give no notices of their own.

    The object is a `StepReport`: call it with a step and its detail, and with an empty step at the end.

    Args:
        console: Where the steps are shown.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._spinner = console.status("")
        self._notice = ExitStack()
        self._step = ""
        self._began = 0.0

    def __call__(self, step: str, detail: str) -> None:
        """Show a step; a step of another name finishes the previous step."""
        if step != self._step:
            self._finish(_DONE)
            self._step, self._began = step, time.monotonic()
            if step:
                if not self._console.is_terminal:
                    self._notice.enter_context(notice_if_slow(step))
                self._notice.enter_context(ignore_notices())
        if step:
            self._spinner.update(Text.assemble(printable(step), " ", (printable(detail), "dim")))
            self._spinner.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish(_DONE if error is None else _FAILED)

    def _finish(self, mark: tuple[str, str]) -> None:
        self._spinner.stop()
        self._notice.close()
        if self._step:
            seconds = time.monotonic() - self._began
            self._console.print(Text.assemble(mark, f" {printable(self._step)} ", (f"{seconds:.1f} s", "dim")))
            self._step = ""


@contextmanager
def spinner(text: str) -> Iterator[None]:
    """Show a text while a block runs: with a spinner on a terminal, otherwise as a notice if the block is slow."""
    console = new_console()
    with console.status(text) if console.is_terminal else notice_if_slow(text), ignore_notices():
        yield


class _Rate(ProgressColumn):
    """The current rate, per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s", style="progress.data.speed")


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show a bar on stderr for each step, with count, rate and time left; nothing if stderr is not a terminal.

    Yields:
        A function to call with the step, the count done and the total count.
    """
    description = TextColumn("{task.description}", markup=False)
    columns = (description, BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    console = new_console(stderr=True)
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}
        shown: dict[str, int] = {}

        def progress(step: str, done: int, total: int) -> None:
            if step not in tasks:
                # The rate of a resumed step must not include the count at which it resumes.
                tasks[step] = bar.add_task(printable(step, one_line=True), completed=done, total=total)
                shown[step] = done
            if done - shown[step] >= _UPDATE_COUNT or done == total:
                shown[step] = done
                bar.update(tasks[step], completed=done, total=total)

        yield progress
