"""Projects, groups, the table of trials, and one trial."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias, TypedDict

from trialstream_schemas.model import trial as model
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.times import to_micros

from trialstream_console.dashboard.caches import PerContext, Recent
from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.details import TrialDetail, detail_of
from trialstream_console.dashboard.encoding import encoded_column, micros
from trialstream_console.dashboard.endpoints import Endpoint
from trialstream_console.dashboard.selection import Group, Project, Where, selected
from trialstream_console.dashboard.shapes import Limits
from trialstream_console.dashboard.statuses import StatusInfo, status_info

__all__ = ["ENDPOINTS"]

_MAX_ROWS = 10_000
_MAX_COLUMNS = 200
_COUNTS_SECONDS = 2.0
_MAX_COUNTS = 16

Counts: TypeAlias = dict[str, list[int]]

_COUNTS = PerContext[Recent[Counts]](lambda _: Recent(_COUNTS_SECONDS, _MAX_COUNTS))


class ProjectRow(TypedDict):
    """A project.

    Attributes:
        uid: Uid of the project.
        name: Its name.
        description: Its description.
        trials: Number of its trials.
        running: Number of those that run.
        failed: Number of those that failed.
        created: When it was created.
        latest: When one of its trials was last seen.
    """

    uid: str
    name: str
    description: str
    trials: int
    running: int
    failed: int
    created: int | None
    latest: int | None


class GroupRow(ProjectRow):
    """A group.

    Attributes:
        uid: Uid of the group.
        name: Its name.
        description: Its description.
        trials: Number of its trials.
        running: Number of those that run.
        failed: Number of those that failed.
        created: When it was created.
        latest: When one of its trials was last seen.
        project: Uid of its project.
    """

    project: str | None


class TrialTable(TypedDict):
    """Rows of the table of trials.

    Attributes:
        columns: Paths of the columns.
        uids: Uid of each trial.
        names: Name of each trial.
        statuses: Status of each trial.
        values: For each column, the value of each trial; null for a trial that has none.
        total: Number of trials that match.
        offset: Number of trials before these.
        cursor: Place in the changes of trials, for `/live`.
    """

    columns: list[str]
    uids: list[str]
    names: list[str]
    statuses: list[StatusInfo]
    values: list[list[Any]]
    total: int
    offset: int
    cursor: str


async def projects(context: Context) -> list[ProjectRow]:
    """The projects, with the numbers of their trials."""
    protocol = await context.protocol()
    found = await protocol.fetch_projects(fields=["description"], sort=["name"])
    counts = await _counts(context, "project_id", None)
    return [_row(each, counts) for each in found]


async def groups(context: Context, project: Project = None) -> list[GroupRow]:
    """The groups, of a project or all, with the numbers of their trials."""
    protocol = await context.protocol()
    query = {"project_id": project} if project else {}
    found = await protocol.fetch_groups(query, fields=["description"], sort=["name"])
    counts = await _counts(context, "group_id", project)
    return [{**_row(each, counts), "project": each.project_id} for each in found]


async def _counts(context: Context, by: Literal["project_id", "group_id"], project: str | None) -> Counts:
    """Count the trials of each project or group, once for all requests between two changes of trials.

    A page that was told of a change gets counts with it: the cursor is another one then. While changes are not seen,
    counts are at most two seconds old.
    """
    cursor = await context.feed.cursor()

    async def count() -> Counts:
        protocol = await context.protocol()
        return _counted(
            await protocol.fetch_values([by, "status.code", "last_seen"], {"project_id": project} if project else {})
        )

    return await _COUNTS.of(context).get((by, project, cursor), count)


def _row(found: model.Project | model.TrialGroup, counts: Counts) -> ProjectRow:
    trials, running, failed, latest = counts.get(found.uid, (0, 0, 0, -1))
    return {
        "uid": found.uid,
        "name": found.name,
        "description": found.description,
        "trials": trials,
        "running": running,
        "failed": failed,
        "created": micros(found.created),
        "latest": None if latest < 0 else latest,
    }


def _counted(rows: Iterable[tuple[Any, ...]]) -> Counts:
    """Count trials by the first of their values: all, running, failed, and the time when the last was seen."""
    found: Counts = {}
    for key, code, last_seen in rows:
        if key is None:
            continue
        counts = found.setdefault(key, [0, 0, 0, -1])
        counts[0] += 1
        counts[1] += 100 <= (code or 0) < 200
        counts[2] += 200 <= (code or 0) < 300
        counts[3] = max(counts[3], -1 if last_seen is None else to_micros(last_seen))
    return found


async def trials(
    context: Context,
    where: Where = "",
    project: Project = None,
    group: Group = None,
    columns: Annotated[list[str], Limits("Paths of the columns.", most=_MAX_COLUMNS)] = (),  # type: ignore[assignment]
    sort: Annotated[list[str], Limits("Paths to sort by; `-` before one for descending.", most=8)] = (),  # type: ignore[assignment]
    limit: Annotated[int, Limits("Maximum number of rows.", 1, _MAX_ROWS)] = 200,
    offset: Annotated[int, Limits("Number of trials to skip.", 0, 10_000_000)] = 0,
) -> TrialTable:
    """Rows of the table of trials, the latest first."""
    query = selected(where, project, group)
    cursor = await context.feed.cursor()  # before the rows, so that no change is between them
    protocol = await context.protocol()
    fields = ["uid", "name", "status", "last_seen", *columns]
    order = [*sort, "uid"] if sort else ["-created", "-uid"]  # the latter is the order of an index
    rows = await protocol.fetch_values(fields, query, sort=order, limit=limit, offset=offset)
    is_end = len(rows) < limit and (rows or not offset)
    total = offset + len(rows) if is_end else await protocol.count_trials(query)
    uids, names, statuses, seen, *values = zip(*rows, strict=True) if rows else [()] * len(fields)
    return {
        "columns": list(columns),
        "uids": list(uids),
        "names": list(names),
        "statuses": _statuses(statuses, seen),
        "values": [encoded_column(each) for each in values],
        "total": total,
        "offset": offset,
        "cursor": cursor,
    }


def _statuses(statuses: Sequence[Status | CustomStatus | None], seen: Sequence[datetime | None]) -> list[StatusInfo]:
    now = time.time()
    return [status_info(each, last, now) for each, last in zip(statuses, seen, strict=True)]


async def trial(context: Context, uid: str) -> TrialDetail:
    """A trial with all of its fields."""
    return detail_of(await context.trial(uid))


ENDPOINTS = (
    Endpoint("GET", "/projects", projects, etag=True),
    Endpoint("GET", "/groups", groups, etag=True),
    Endpoint("GET", "/trials", trials, etag=True),
    Endpoint("GET", "/trials/{uid}", trial, etag=True),
)
