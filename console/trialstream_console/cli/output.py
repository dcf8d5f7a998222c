"""Standard output and errors of the commands: lines, tables and JSON.

All text is shown literally, since names and messages of any writer may be quoted:

- rich's markup and emoji codes are off, so "[link=…]" and ":bug:" stay what they are;
- control characters and those that change the direction of text are shown as escapes, so a name cannot move the cursor
  or hide a line; JSON escapes them in its own way;
- lines are not wrapped, so that paths and commands can be copied, and nothing is cut in a file or a pipe;
- a character that the encoding of the output lacks is shown as "?".
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Column, Table
from trialstream_schemas.messages import printable

__all__ = [
    "allow_any_encoding",
    "new_console",
    "print_json",
    "print_table",
    "say",
    "say_error",
    "say_notice",
]

# Wider than any row: the width of a table in a file or a pipe.
_UNLIMITED_WIDTH = 1_000_000


def allow_any_encoding() -> None:
    """Replace characters that the encoding of stdout lacks; stderr escapes them already."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def new_console(*, stderr: bool = False) -> Console:
    """Make a console that shows text literally; the caller makes it `printable`."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)


def say(text: str, *, one_line: bool = True) -> None:
    """Print a text to stdout.

    Args:
        text: The text.
        one_line: Whether its tabs and line feeds are escaped: a name that it quotes cannot make a line of its own.
    """
    new_console().print(printable(text, one_line=one_line))


def say_error(error: Exception) -> None:
    """Print an exception as one message to stderr."""
    new_console(stderr=True).print(printable(f"error: {error}"), style="red")


def say_notice(text: str) -> None:
    """Print a notice, such as what is waited for, on one line to stderr; a bar or spinner on the terminal stays."""
    typer.echo(printable(text, one_line=True), err=True)


def print_json(record: Mapping[str, Any], *, indent: int | None = None) -> None:
    """Print one JSON object to stdout: on one line, or indented by `indent` spaces."""
    typer.echo(json.dumps(record, indent=indent))


def print_table(columns: Sequence[str | Column], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to stdout: as wide as the terminal, or as wide as its rows in a file or a pipe.

    Args:
        columns: The columns, or their names.
        rows: The cells of each row.
    """
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(printable(cell, one_line=True) for cell in row))
    console = new_console()
    if not console.file.isatty():
        console.width = _UNLIMITED_WIDTH
    console.print(table, soft_wrap=False)
