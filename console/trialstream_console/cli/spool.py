"""`spool` and `push`: list the events on disk, and send them."""

from __future__ import annotations

import os
import shlex
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from trialstream.config import Config
from trialstream.pipeline.push import WaitingSpool, push_spool, waiting_spools
from trialstream.spool.checks import check_spools
from trialstream_consumer.progress import Progress

from trialstream_console.cli.output import print_json, say
from trialstream_console.cli.progress import progress_bar
from trialstream_console.cli.running import run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("spool")(spool)
    app.command("push")(push)


def spool(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Spools, or folders of spools. The default is TRIALSTREAM_SPOOL_DIR."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each spool.")] = False,
) -> None:
    """List the spools with events that are not sent yet."""
    own = _own_folder()
    if not paths:
        paths = [own] if own.exists() else []  # the first event creates the folder
    found = list(waiting_spools(_checked(paths)))
    if as_json:
        for each in found:
            print_json({**vars(each), "folder": str(each.folder), "since": each.since.isoformat()})
        return
    for each in found:
        notes = ", in use" * each.busy + f", {each.lost_bytes} bytes torn or damaged" * bool(each.lost_bytes)
        notes += f"; {_refused(each)}" * bool(each.refused)
        since = each.since.isoformat(sep=" ", timespec="seconds")[:19]
        # Not a table, since a table would wrap paths, which are then hard to copy.
        say(f"{each.folder}: {each.events} events, {each.bytes} bytes, since {since} UTC{notes}")
    if not found:
        say("no events to send")


def push(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Spools, or folders of spools.")],
    refused: Annotated[
        bool,
        typer.Option(
            "--refused", help="Send events too that Kafka refused as too large, after max.message.bytes was raised."
        ),
    ] = False,
) -> None:
    """Send the events on disk to the configured Kafka.

    Acknowledged events are deleted from disk. The command can be interrupted and run again: an event that is sent twice
    counts once. Spools of running processes are skipped, because these processes send the events.
    """
    found = list(waiting_spools(_checked(paths)))
    if not found:
        say("no events to send")
        return
    with progress_bar() as progress:
        for each in found:
            if each.busy:
                say(f"skipped {each.folder}: it is in use by a running process, which sends its events")
                continue
            send = partial(push_spool, with_refused=refused)
            total = each.events + each.refused * refused
            sent = run(send, Config.from_env(), each.folder, partial(_show, progress, each.folder.name, total))
            notes = f"; {each.lost_bytes} bytes of it were torn or damaged" if each.lost_bytes else ""
            for left in waiting_spools([each.folder]):
                notes += f"; {_refused(left)}" * bool(left.refused)
            say(f"sent {sent} events from {each.folder}{notes}")


def _own_folder() -> Path:
    """Return the folder of TRIALSTREAM_SPOOL_DIR."""
    return Path(Config.from_env().spool_dir).expanduser()


def _checked(paths: list[Path]) -> list[Path]:
    """Return the paths; raise SpoolError if one is neither a spool nor a folder of spools.

    The folder of TRIALSTREAM_SPOOL_DIR may hold other files, and no spool at the moment.
    """
    own = os.path.realpath(_own_folder())
    for path in paths:
        check_spools(path, others_allowed=os.path.realpath(path) == own)
    return paths


def _refused(each: WaitingSpool) -> str:
    """Describe the refused events of a spool, and how to send them."""
    command = f"trialstream push --refused {shlex.quote(str(each.folder))}"
    return f"{each.refused} events that Kafka refused as too large: raise max.message.bytes, then run `{command}`"


def _show(progress: Progress, name: str, total: int, done: int) -> None:
    progress(f"sending {name}", done, total)
