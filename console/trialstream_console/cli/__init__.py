"""The `trialstream` command: one file per group of commands."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from trialstream_schemas.errors import TrialStreamError

from trialstream_console.cli import archive, replay, service, spool, stack, trials
from trialstream_console.local.launcher import Interrupted

__all__ = ["app", "main"]

app = typer.Typer(
    name="trialstream",
    help="Log experiments as a stream of events.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Every group of commands registers itself here.
stack.register(app)
service.register(app)
archive.register(app)
replay.register(app)
trials.register(app)
spool.register(app)


def main() -> None:
    """Entry point of `trialstream`: an error is one message on stderr and exit code 1."""
    try:
        app()
    except TrialStreamError as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except Interrupted as signal:
        sys.exit(128 + signal.number)
