"""`export`, `import`: the log as one file, and back."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from trialstream.config import Config
from trialstream_consumer.archive import Archive, Selection, export_log, import_archive

from trialstream_console.cli.progress import counting
from trialstream_console.cli.running import run
from trialstream_console.cli.times import time_of

__all__ = ["register"]

File = Annotated[Path, typer.Argument(metavar="FILE.avro")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("export")(export)
    app.command("import")(import_)


def export(
    file: File,
    project: Annotated[str | None, typer.Option(help="Only this project with its groups and trials.")] = None,
    trial: Annotated[str | None, typer.Option(help="Only this trial: a uid, or a hash for all its revisions.")] = None,
    since: Annotated[
        int | None, typer.Option(parser=time_of, metavar="TIME", help="Only what came then or later.")
    ] = None,
    until: Annotated[int | None, typer.Option(parser=time_of, metavar="TIME", help="Only what came earlier.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write the log, or a part of it, with its schemas into an Avro file that any Avro tool reads.

    Times are ISO 8601, UTC unless they say otherwise, and compare with the broker's clock. The creation of a trial that
    is kept is always kept.
    """
    selection = Selection(project, trial, since, until)
    with counting() as progress:
        exported = run(partial(export_log, Config.from_env(), file, selection, progress, force=force))
    left_out = f"; left out {exported.unreadable} that cannot be decoded" if exported.unreadable else ""
    _say(
        f"exported {exported.records['registry']} registry and {exported.records['trials']} trial records with "
        f"{exported.schemas} schemas to {file}{left_out}"
    )


def import_(file: File) -> None:
    """Put the records of an exported file into the configured Kafka; what is there already has no effect."""
    with counting() as progress:
        archive = Archive.check(file, progress)
        sent = run(partial(import_archive, Config.from_env(), archive, progress))
    _say(
        f"imported {sent['registry']} registry and {sent['trials']} trial records with {len(archive.schemas)} schemas "
        f"from {file}"
    )


def _say(text: str) -> None:
    Console().print(text, markup=False, highlight=False, soft_wrap=True)
