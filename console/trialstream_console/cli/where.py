"""The option `--where` of the commands."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Where"]

Where = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT", help="Only trials that match, such as 'status = Running and metrics.loss.last < 0.1'."
    ),
]
