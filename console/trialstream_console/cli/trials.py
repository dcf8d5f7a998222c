"""`trials`: what is in the projection, and which trials stopped without finishing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import anyio
import typer
from rich.console import Console
from rich.table import Column, Table
from trialstream.config import Config
from trialstream.log.topics import trial_ends
from trialstream.reading.query import TRIAL_FIELDS, translate
from trialstream.reading.reader import Reader
from trialstream_schemas.model.trial import Trial

__all__ = ["register"]

# A started trial beats every 10 s: six beats that did not come are no hiccup.
_SILENT_SECONDS = 60.0
_CATCH_UP_SECONDS = 10.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(trials)


def trials(
    lost: Annotated[
        bool, typer.Option("--lost", help="Only those that run by their status and have not been heard of.")
    ] = False,
    silent: Annotated[float, typer.Option(min=0.0, help="With --lost: for how many seconds.")] = _SILENT_SECONDS,
    limit: Annotated[int, typer.Option(min=1, help="How many at most, the latest first.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List trials, the latest first.

    With --lost those whose process was killed or cut off: their status says that they run, and their last event or
    heartbeat is older than --silent seconds. The projection is waited for first, so that a consumer that is down does
    not make running trials look lost.
    """
    query: dict[str, Any] = {}
    if lost:
        heard = datetime.now(UTC) - timedelta(seconds=silent)
        query = {"status.code": {"$gte": 100, "$lt": 200}, "last_seen": {"$lt": heard}}
    found = anyio.run(_trials, Config.from_env(), query, limit, lost)
    if as_json:
        for each in found:
            print(json.dumps(_row(each)))  # noqa: T201 (this is the output)
        return
    table = Table(Column("uid", no_wrap=True), "status", Column("last seen (UTC)", no_wrap=True), "name", box=None)
    for each in found:
        row = _row(each)
        table.add_row(row["uid"], row["status"] or "", (row["last_seen"] or "")[:19], row["name"])
    console = Console(markup=False, highlight=False)
    console.print(table if found else "no trials")


async def _trials(config: Config, query: dict[str, Any], limit: int, caught_up: bool) -> list[Trial]:
    reader = Reader(config, _CATCH_UP_SECONDS)
    try:
        await reader.check_named()
        if caught_up:
            await reader.folded(await trial_ends(config), _CATCH_UP_SECONDS)
        return await reader.trials(translate(query, TRIAL_FIELDS), [("created", -1), ("_id", -1)], limit)
    finally:
        reader.close()


def _row(trial: Trial) -> dict[str, Any]:
    return {
        "uid": trial.uid,
        "name": trial.name,
        "project": trial.project_id,
        "status": trial.status.name if trial.status else None,
        "starts": trial.starts,
        "started": _shown(trial.started),
        "last_seen": _shown(trial.last_seen),
        "lost_events": trial.lost_events,
    }


def _shown(time: datetime | None) -> str | None:
    return time.isoformat(sep=" ", timespec="seconds") if time else None
