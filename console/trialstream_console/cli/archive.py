"""`export` and `import`: the log as one file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from trialstream.config import Config
from trialstream_consumer.archive import Archive, Selection, export_log, import_archive
from trialstream_schemas.messages import counted

from trialstream_console.cli.output import say
from trialstream_console.cli.progress import progress_bar
from trialstream_console.cli.running import run
from trialstream_console.cli.times import parse_time

__all__ = ["register"]


def _archive_path(text: str) -> Path:
    if text == "-":
        raise typer.BadParameter(
            "expected the path of a file, got '-': an archive is read and written in several places, which standard "
            "input and output do not allow"
        )
    return Path(text)


_DAMAGED = (
    "batch or record that cannot be read, and is a dead letter",
    "batches or records that cannot be read, and are dead letters",
)

File = Annotated[Path, typer.Argument(parser=_archive_path, metavar="FILE.avro", help="Path of the archive.")]
Since = Annotated[
    int | None,
    typer.Option(parser=parse_time, metavar="TIME", help="Export only records appended at this time or later."),
]
Until = Annotated[
    int | None, typer.Option(parser=parse_time, metavar="TIME", help="Export only records appended before this time.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("export")(export)
    app.command("import")(import_)


def export(
    file: File,
    project: Annotated[str | None, typer.Option(help="Export only this project, its groups and its trials.")] = None,
    trial: Annotated[
        str | None, typer.Option(help="Export only this trial: a uid, or a hash for all its revisions.")
    ] = None,
    since: Since = None,
    until: Until = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write the log, or a part of it, into an Avro file.

    The file includes the schemas, and any Avro tool can read it. Times are ISO 8601, in UTC unless they have an offset,
    and are compared with the broker's timestamps. An exported trial always includes its creation, whatever the time
    limits.
    """
    selection = Selection(project, trial, since, until)
    with progress_bar() as progress:
        exported = run(partial(export_log, Config.from_env(), file, selection, progress, force=force))
    unread, damaged = counted(exported.unreadable, "record"), counted(exported.damaged, *_DAMAGED)
    left_out = f"; left out {unread} that cannot be decoded" if exported.unreadable else ""
    left_out += f"; left out {damaged}" if exported.damaged else ""
    left_out += _too_large(exported.too_large)
    say(
        f"exported {exported.records['registry']} registry and {counted(exported.records['trials'], 'trial record')} "
        f"with {counted(exported.schemas, 'schema')} to {file}{left_out}"
    )


def import_(file: File) -> None:
    """Append the records of an archive to the configured Kafka.

    Records that are already in the log have no effect.
    """
    with progress_bar() as progress:
        archive = Archive.check(file, progress)
        sent = run(import_archive, Config.from_env(), archive, progress)
    say(
        f"imported {sent['registry']} registry and {counted(sent['trials'], 'trial record')} with "
        f"{counted(len(archive.schemas), 'schema')} from {file}{_too_large(sent['too large'])}"
    )


def _too_large(count: int) -> str:
    what = counted(count, "record that is larger", "records that are larger")
    return f"; left out {what} than a batch of Kafka" if count else ""
