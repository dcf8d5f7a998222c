"""The `trialstream` command: one module for each group of commands.

| module | commands |
|---|---|
| `stack` | `up`, `down`, `status`, `env` |
| `service` | `consume`, `dead-letters` |
| `trials` | `trials` |
| `dashboard` | `dashboard` |
| `tail` | `tail` |
| `spool` | `spool`, `push` |
| `rights` | `rights`, `setup` |
| `archive` | `export`, `import` |
| `transfer` | `export-to`, `import-from` |
| `replay` | `rebuild`, `verify`, `projections` |
| `copying` | `replay` |

`supervisor` runs the processes of `consume --workers N`, and `worker` is what such a process runs.

A command is added in `register` of its module. All share `output`, `progress`, `running`, `times` and `logs`.
"""

from __future__ import annotations

import sys

import typer
from trialstream.waiting import receive_notices
from trialstream_schemas.errors import TrialStreamError

from trialstream_console.cli import (
    archive,
    copying,
    dashboard,
    replay,
    rights,
    service,
    spool,
    stack,
    tail,
    transfer,
    trials,
)
from trialstream_console.cli.logs import log_printable
from trialstream_console.cli.output import allow_any_encoding, say_error, say_notice
from trialstream_console.local.errors import Interrupted

__all__ = ["app", "main"]

app = typer.Typer(
    name="trialstream",
    help="Log machine-learning experiments as a stream of events.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# The order in the help text.
stack.register(app)
service.register(app)
archive.register(app)
transfer.register(app)
replay.register(app)
copying.register(app)
trials.register(app)
dashboard.register(app)
tail.register(app)
spool.register(app)
rights.register(app)


def main() -> None:
    """Run `trialstream`: an error is one message on stderr and exit code 1; a signal is exit code 128 + its number."""
    allow_any_encoding()
    log_printable()
    try:
        with receive_notices(say_notice):
            app()
    except TrialStreamError as error:
        say_error(error)
        sys.exit(1)
    except Interrupted as signal:
        sys.exit(128 + signal.number)
