"""`export`, `import`: the log as one file, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from trialstream.config import Config

from trialstream_consumer.archive import Archive, Progress, Selection, export_log, import_archive

__all__ = ["register"]

# Moving the bar for each record would cost more than the record.
_SHOWN = 256


def _time(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"an ISO 8601 time is needed, such as 2026-07-01T12:00:00Z, not {text!r}") from None
    return int(time.replace(tzinfo=time.tzinfo or UTC).timestamp() * 1000)


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
        int | None, typer.Option(parser=_time, metavar="TIME", help="Only what came then or later.")
    ] = None,
    until: Annotated[int | None, typer.Option(parser=_time, metavar="TIME", help="Only what came earlier.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write the log, or a part of it, with its schemas into an Avro file that any Avro tool reads.

    Times are ISO 8601, UTC unless they say otherwise, and compare with the broker's clock. The creation of a trial that
    is kept is always kept.
    """
    selection = Selection(project, trial, since, until)
    with _bar() as progress:
        exported = anyio.run(partial(export_log, Config.from_env(), file, selection, progress, force=force))
    left_out = f"; left out {exported.unreadable} that cannot be decoded" if exported.unreadable else ""
    _say(
        f"exported {exported.records['registry']} registry and {exported.records['trials']} trial records with "
        f"{exported.schemas} schemas to {file}{left_out}"
    )


def import_(file: File) -> None:
    """Put the records of an exported file into the configured Kafka; what is there already has no effect."""
    with _bar() as progress:
        archive = Archive.check(file, progress)
        sent = anyio.run(import_archive, Config.from_env(), archive, progress)
    _say(
        f"imported {sent['registry']} registry and {sent['trials']} trial records with {len(archive.schemas)} schemas "
        f"from {file}"
    )


def _say(text: str) -> None:
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _bar() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}
        shown: dict[str, int] = {}

        def progress(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=total)
            if done - shown.get(step, 0) >= _SHOWN or done == total:
                shown[step] = done
                bar.update(tasks[step], completed=done)

        yield progress
