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
from trialstream_schemas.errors import LogMismatch, SpoolError, TrialStreamError
from trialstream_schemas.messages import counted

from trialstream_console.cli.output import print_json, say, say_error, say_notice
from trialstream_console.cli.progress import progress_bar
from trialstream_console.cli.running import run
from trialstream_console.operations.spools import own_folder

__all__ = ["register"]

Others = Annotated[
    bool, typer.Option("--allow-other-owner", help="Include spools and files that belong to other users.")
]


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
    others: Others = False,
) -> None:
    """List the spools with events that are not sent yet."""
    own = own_folder(Config.from_env())
    if not paths:
        paths = [own] if own.exists() else []  # the first event creates the folder
    found = list(waiting_spools(_checked(paths, others=others), others_allowed=others))
    for each in found:
        if as_json:
            since = None if each.since is None else each.since.isoformat()
            print_json({**vars(each), "folder": str(each.folder), "since": since})
            continue
        notes = ", in use" * each.busy + f", {counted(each.lost_bytes, 'byte')} torn or damaged" * bool(each.lost_bytes)
        notes += f"; {_refused(each)}" * bool(each.refused)
        since = "" if each.since is None else f", since {each.since.isoformat(sep=' ', timespec='seconds')[:19]} UTC"
        # Not a table, since a table would wrap paths, which are then hard to copy.
        say(f"{each.folder}: {counted(each.events, 'event')}, {counted(each.bytes, 'byte')}{since}{notes}")
    if not found and not as_json:
        say("no events to send")
    _end([SpoolError(each.trouble) for each in found if each.trouble])


def push(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Spools, or folders of spools.")],
    refused: Annotated[
        bool,
        typer.Option(
            "--refused", help="Send events too that Kafka refused as too large, after max.message.bytes was raised."
        ),
    ] = False,
    others: Others = False,
) -> None:
    """Send the events on disk to the configured Kafka.

    Acknowledged events are deleted from disk. The command can be interrupted and run again: an event that is sent twice
    counts once. Spools of running processes are skipped, because these processes send the events, and so are spools of
    other users. A spool that cannot be sent as a whole is reported at the end, and keeps no other from being sent.
    """
    found = list(waiting_spools(_checked(paths, others=others), others_allowed=others))
    if not found:
        say("no events to send")
        return
    failed: list[TrialStreamError] = []
    try:
        with progress_bar() as progress:
            for each in found:
                if each.busy:
                    say(f"skipped {each.folder}: it is in use by a running process, which sends its events")
                    continue
                send = partial(push_spool, with_refused=refused, others_allowed=others)
                total = each.events + each.refused * refused
                show = partial(_show, progress, each.folder.name, total)
                try:
                    sent = run(send, Config.from_env(), each.folder, show)
                except (SpoolError, LogMismatch) as error:  # concerns this spool; the others may be sent
                    failed.append(error)
                    continue
                notes = f"; {counted(each.lost_bytes, 'byte')} of it torn or damaged" if each.lost_bytes else ""
                for left in waiting_spools([each.folder], others_allowed=others):
                    notes += f"; {_refused(left)}" * bool(left.refused)
                say(f"sent {counted(sent, 'event')} from {each.folder}{notes}")
    except TrialStreamError as error:
        failed.append(error)
    _end(failed)


def _end(failed: list[TrialStreamError]) -> None:
    """Report errors, one line each, and end the command with exit code 1 if there are any."""
    for error in failed:
        say_error(error)
    if failed:
        raise typer.Exit(1)


def _checked(paths: list[Path], *, others: bool) -> list[Path]:
    """Return the paths; raise SpoolError if one is neither a spool nor a folder of spools.

    The folder of TRIALSTREAM_SPOOL_DIR may hold other files, and no spool at the moment. Folders of other users are
    named on stderr, unless they are included.
    """
    own = os.path.realpath(own_folder(Config.from_env()))
    for path in paths:
        found = check_spools(path, files_allowed=os.path.realpath(path) == own, others_allowed=others)
        for folder, reason in found.foreign.items():
            say_notice(f"skipped {folder}: {reason}; include it with --allow-other-owner")
    return paths


def _refused(each: WaitingSpool) -> str:
    """Describe the refused events of a spool, and how to send them."""
    command = f"trialstream push --refused {shlex.quote(str(each.folder))}"
    events = counted(each.refused, "event")
    return f"{events} that Kafka refused as too large: raise max.message.bytes, then run `{command}`"


def _show(progress: Progress, name: str, total: int, done: int) -> None:
    progress(f"sending {name}", done, total)
