"""`spool`, `push`: what waits on disk, and sending it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from trialstream.config import Config
from trialstream.pipeline.push import Waiting, push_spool, waiting
from trialstream_consumer.progress import Progress
from trialstream_schemas.errors import SpoolError

from trialstream_console.cli.progress import counting
from trialstream_console.cli.running import run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("spool")(spool)
    app.command("push")(push)


def spool(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Where; TRIALSTREAM_SPOOL_DIR if not given."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List the events that wait on disk, by writer."""
    found = list(waiting(paths or [Path(Config.from_env().spool_dir).expanduser()]))
    if as_json:
        for each in found:
            print(json.dumps({**vars(each), "folder": str(each.folder), "since": each.since.isoformat()}))  # noqa: T201
        return
    for each in found:
        said = ", in use" * each.busy + f", {each.lost_bytes} bytes torn or damaged" * bool(each.lost_bytes)
        since = each.since.isoformat(sep=" ", timespec="seconds")[:19]
        # No table: it would break a path that somebody copies.
        _say(f"{each.folder}: {each.events} events, {each.bytes} bytes, since {since} UTC{said}")
    if not found:
        _say("nothing waits")


def push(paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Spools, or folders of spools.")]) -> None:
    """Send what waits on disk to the configured Kafka, and delete it there.

    It can be interrupted and run again, and run twice: what is sent twice counts once. Spools of running processes are
    left to these.
    """
    for path in paths:
        if not path.exists():
            raise SpoolError(f"there is no {path}")
    found = list(waiting(paths))
    if not found:
        return _say("nothing waits")
    with counting() as progress:
        for each in found:
            if each.busy:
                _say(f"left {each.folder} to the process that is using it")
                continue
            run(partial(push_spool, Config.from_env(), each.folder, partial(_show, progress, each)))
            damage = f"; {each.lost_bytes} bytes of it were torn or damaged" if each.lost_bytes else ""
            _say(f"sent {each.events} events from {each.folder}{damage}")
    return None


def _show(progress: Progress, each: Waiting, done: int) -> None:
    progress(f"sending {each.folder.name}", done, each.events)


def _say(text: str) -> None:
    Console().print(text, markup=False, highlight=False, soft_wrap=True)
