"""`tail`: the events of the log as they are appended."""

from __future__ import annotations

import sys
from collections import deque
from typing import Annotated

import anyio
import typer
from trialstream.streaming.filters import Kind
from trialstream.streaming.items import LogEvent
from trialstream.streaming.opening import stream
from trialstream.streaming.positions import BEGIN, NOW, Position, Since
from trialstream.streaming.stream import Delivery, Stream
from trialstream_schemas.errors import InvalidValue
from trialstream_schemas.messages import counted

from trialstream_console.cli.event_text import event_record, event_text
from trialstream_console.cli.output import print_json, say, say_notice
from trialstream_console.cli.running import run

__all__ = ["register"]

_LINES = 20
# Time between two looks whether the past of the log has been read, seconds.
_LOOK_SECONDS = 0.2


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(tail)


def _place(text: str) -> Since:
    if text in (BEGIN.value, NOW.value):
        return BEGIN if text == BEGIN.value else NOW
    if text.startswith("{"):
        try:
            return Position.parse(text)
        except InvalidValue as error:
            raise typer.BadParameter(str(error)) from None
    return text


Place = typer.Option(metavar="PLACE", help="Where to begin: begin, now, a time in ISO 8601, or a position of --json.")


def tail(
    trial: Annotated[
        str | None, typer.Argument(metavar="[TRIAL]", help="Uid of a trial, or a hash for all its revisions.")
    ] = None,
    project: Annotated[str | None, typer.Option(help="Show only this project, its groups and its trials.")] = None,
    group: Annotated[str | None, typer.Option(help="Show only this group and its trials: its uid.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for further events, until Ctrl-C.")] = False,
    since: Annotated[str | None, Place] = None,
    until: Annotated[str | None, typer.Option(metavar="PLACE", help="Where to end, likewise.")] = None,
    kinds: Annotated[
        str | None, typer.Option(metavar="KIND,…", help="Show only these kinds, such as StatusSet,Rows.")
    ] = None,
    lines: Annotated[
        int | None,
        typer.Option("--lines", "-n", min=0, help=f"Show only so many past events. [{_LINES}; all with --since]"),
    ] = None,
    one_by_one: Annotated[bool, typer.Option("--rows", help="Show each row of metrics on a line of its own.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object for each event; its `position` is a PLACE.")
    ] = False,
) -> None:
    """Show the events of the log, the latest last.

    The log is read directly: no consumer is needed, and none is disturbed. Times are ISO 8601, in UTC unless they have
    an offset, and are compared with the broker's timestamps.
    """
    wanted: list[Kind] | None = None if kinds is None else [each.strip() for each in kinds.split(",")]
    rows: Delivery = "one" if one_by_one else "together"
    selected = stream(
        project=project,
        group=group,
        trial=trial,
        kinds=wanted,
        since=BEGIN if since is None else _place(since),
        until=None if until is None else _place(until),
        follow=follow,
        rows=rows,
    )
    run(_show, selected, _LINES if lines is None and since is None else lines, as_json)


async def _show(selected: Stream, lines: int | None, as_json: bool) -> None:
    """Print events: of the past, only the last ones."""
    async with selected as events:
        held: deque[tuple[LogEvent, Position | None]] = deque(maxlen=lines)
        is_past = lines is not None
        while True:
            item = None
            with anyio.move_on_after(_LOOK_SECONDS if is_past else None) as looking:
                item = await events.next_event()
            position = events.position if as_json else None
            if item is not None and is_past and events.is_behind:
                held.append((item, position))
                continue
            if is_past and not (looking.cancelled_caught and events.is_behind):
                is_past = False
                if item is not None:
                    held.append((item, position))
                for each in held:
                    _print(*each)
            elif item is not None:
                _print(item, position)
            sys.stdout.flush()
            if item is None and not looking.cancelled_caught:
                break
        if events.skipped:
            skipped = counted(events.skipped, "record that is no event", "records that are no events")
            say_notice(f"left out {skipped}: see `trialstream dead-letters`")


def _print(item: LogEvent, position: Position | None) -> None:
    """Print an event: as JSON if its position is given."""
    if position is None:
        say(event_text(item))
    else:
        print_json({**event_record(item), "position": str(position)})
