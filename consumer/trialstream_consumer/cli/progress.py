"""Steps of a start, as they happen: a spinner on a terminal, and a line for each finished step everywhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console

__all__ = ["Steps"]


class Steps:
    """Shows the step that was named last; called with a step and a detail of it, and with an empty step at the end."""

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
