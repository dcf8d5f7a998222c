"""Standard output and errors of the commands: lines, tables and JSON.

All text is printed literally: rich's markup is off, because logged text such as "[/bold]" may be quoted, and lines are
not wrapped, so that paths and commands can be copied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

__all__ = ["print_json", "print_table", "say", "say_error"]


def say(text: str) -> None:
    """Print a line to stdout."""
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


def say_error(error: Exception) -> None:
    """Print an exception as one message to stderr."""
    Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)


def print_json(record: Mapping[str, Any], *, indent: int | None = None) -> None:
    """Print one JSON object to stdout: on one line, or indented by `indent` spaces."""
    typer.echo(json.dumps(record, indent=indent))


def print_table(table: Table) -> None:
    """Print a table to stdout."""
    Console(markup=False, highlight=False).print(table)
