"""`trials`: list the trials, those that a text of the query language matches, or those whose process was lost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Column
from trialstream.config import Config
from trialstream.event_log.topics import trial_ends
from trialstream.reading.mongo import MongoReader
from trialstream.waiting import waiting_for
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.trial import Trial

from trialstream_console.cli.output import print_json, print_table, say
from trialstream_console.cli.running import run
from trialstream_console.cli.where import Where
from trialstream_console.silence import SILENT_SECONDS, lost_query

__all__ = ["register"]

_WAIT_FOLDED_SECONDS = 10.0


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(trials)


def trials(
    where: Where = None,
    lost: Annotated[
        bool, typer.Option("--lost", help="List only trials with a running status and no recent event or heartbeat.")
    ] = False,
    silent: Annotated[
        float, typer.Option(min=0.0, help="With --lost: minimum time since the last event or heartbeat, in seconds.")
    ] = SILENT_SECONDS,
    sort: Annotated[
        str, typer.Option(metavar="PATH", help="Paths to sort by, separated by commas; -PATH for descending order.")
    ] = "-created,-uid",
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="PATHS", help="Paths to list, separated by commas, such as parameters.lr,metrics.loss.last."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of trials; the latest come first.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each trial.")] = False,
) -> None:
    """List trials, the latest first.

    With --where, list only trials that match a text of the query language (docs/querying.md).

    With --lost, list only trials whose process was killed or disconnected: their status is a running one, and their
    last event or heartbeat is older than --silent seconds. First, the command waits until the projection has caught up
    with the log, because without a consumer every running trial would look lost.
    """
    from trialstream_console.queries import parse_columns, parse_sort, parse_where  # noqa: PLC0415 (heavy)

    queries = [parse_where(where or "")]
    if lost:
        queries.append(lost_query(datetime.now(UTC), silent))
    paths = None if columns is None else parse_columns(columns)
    found = run(_trials, Config.from_env(), {"$and": queries}, parse_sort(sort), limit, lost, paths)
    records = [_record(each) if isinstance(each, Trial) else each for each in found]
    if as_json:
        for record in records:
            print_json(record)
        return
    if not records:
        say("no trials")
        return
    if paths is not None:
        print_table(list(records[0]), [[_cell(x) for x in record.values()] for record in records])
        return
    print_table(
        (Column("uid", no_wrap=True), "status", Column("last seen (UTC)", no_wrap=True), "name"),
        [
            (record["uid"], record["status"] or "", (record["last_seen"] or "")[:19], record["name"])
            for record in records
        ],
    )


async def _trials(
    config: Config, query: dict[str, Any], sort: list[str], limit: int, wait_folded: bool, paths: list[str] | None
) -> Sequence[Trial | dict[str, Any]]:
    """Read trials; with paths, their values by path."""
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
            if paths is None:
                return await reader.trials(query, sort=sort, limit=limit)()
            names = list(dict.fromkeys(["uid", *paths]))
            rows = await reader.values(names, query, sort=sort, limit=limit)()
            return [dict(zip(names, map(_plain, row), strict=True)) for row in rows]
    finally:
        reader.close()


def _plain(value: Any) -> Any:
    """Return a value of a trial in the types of JSON; what these lack as text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case Status() | CustomStatus():
            return value.name
        case datetime():
            return value.isoformat(sep=" ")
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
    return str(value)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


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
