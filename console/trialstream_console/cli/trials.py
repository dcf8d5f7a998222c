"""`trials`: list the trials, or those whose process stopped without finishing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.table import Column
from trialstream.config import Config
from trialstream.event_log.topics import trial_ends
from trialstream.reading.mongo import MongoReader
from trialstream.waiting import waiting_for
from trialstream_schemas.model.trial import Trial

from trialstream_console.cli.output import print_json, print_table, say
from trialstream_console.cli.running import run

__all__ = ["register"]

# A started trial sends a heartbeat every 10 s: six missing heartbeats are more than a delay.
_SILENT_SECONDS = 60.0
_WAIT_FOLDED_SECONDS = 10.0


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(trials)


def trials(
    lost: Annotated[
        bool, typer.Option("--lost", help="List only trials with a running status and no recent event or heartbeat.")
    ] = False,
    silent: Annotated[
        float, typer.Option(min=0.0, help="With --lost: minimum time since the last event or heartbeat, in seconds.")
    ] = _SILENT_SECONDS,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of trials; the latest come first.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each trial.")] = False,
) -> None:
    """List trials, the latest first.

    With --lost, list only trials whose process was killed or disconnected: their status is a running one, and their
    last event or heartbeat is older than --silent seconds. First, the command waits until the projection has caught up
    with the log, because without a consumer every running trial would look lost.
    """
    query: dict[str, Any] = {}
    if lost:
        oldest = datetime.now(UTC) - timedelta(seconds=silent)
        query = {"status.code": {"$gte": 100, "$lt": 200}, "last_seen": {"$lt": oldest}}
    found = run(_trials, Config.from_env(), query, limit, lost)
    if as_json:
        for each in found:
            print_json(_record(each))
        return
    if not found:
        say("no trials")
        return
    print_table(
        (Column("uid", no_wrap=True), "status", Column("last seen (UTC)", no_wrap=True), "name"),
        [
            (record["uid"], record["status"] or "", (record["last_seen"] or "")[:19], record["name"])
            for record in map(_record, found)
        ],
    )


async def _trials(config: Config, query: dict[str, Any], limit: int, wait_folded: bool) -> list[Trial]:
    reader = MongoReader(config, _WAIT_FOLDED_SECONDS)
    mongo = f"MongoDB at {config.mongo_hosts}"
    try:
        with waiting_for(mongo):
            await reader.open()
        if wait_folded:
            ends = await trial_ends(config)
            with waiting_for(f"a consumer, which folds the log into {mongo}"):
                await reader.wait_folded(ends, _WAIT_FOLDED_SECONDS)
        with waiting_for(mongo):
            return await reader.trials(query, sort=["-created", "-uid"], limit=limit)()
    finally:
        reader.close()


def _record(trial: Trial) -> dict[str, Any]:
    return {
        "uid": trial.uid,
        "name": trial.name,
        "project": trial.project_id,
        "status": trial.status.name if trial.status else None,
        "starts": trial.starts,
        "started": _time(trial.started),
        "last_seen": _time(trial.last_seen),
        "lost_events": trial.lost_events,
    }


def _time(time: datetime | None) -> str | None:
    return time.isoformat(sep=" ", timespec="seconds") if time else None
