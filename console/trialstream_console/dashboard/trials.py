"""Projects, groups, the table of trials, and one trial."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, TypeAlias, TypedDict

from trialstream.reading.reader import Heading, Owner, TrialCounts
from trialstream_schemas.model.status import CustomStatus, Status

from trialstream_console.dashboard.caches import PerContext, Recent
from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.details import TrialDetail, detail_of
from trialstream_console.dashboard.encoding import encoded_column
from trialstream_console.dashboard.endpoints import Endpoint
from trialstream_console.dashboard.refusals import Refusal
from trialstream_console.dashboard.selection import Group, Project, Where, selected
from trialstream_console.dashboard.shapes import Limits
from trialstream_console.dashboard.statuses import StatusInfo, status_info

__all__ = ["ENDPOINTS"]

_MAX_ROWS = 10_000
_MAX_COLUMNS = 200
# A table of 10,000 trials has 100 columns.
_MAX_CELLS = 1_000_000
# More than a page shows of a value; and what the values of an answer take together, in BSON.
_MAX_CELL_BYTES, _MAX_BYTES = 4096, 64 * 1024 * 1024
_MAX_LISTED = 10_000
_COUNTS_SECONDS = 2.0
_MAX_COUNTS = 16

Counts: TypeAlias = dict[str, TrialCounts]

_COUNTS = PerContext[Recent[Counts]](lambda _: Recent(_COUNTS_SECONDS, _MAX_COUNTS))


class ProjectRow(TypedDict):
    """A project.

    Attributes:
        uid: Uid of the project.
        name: Its name.
        description: The first 1,000 characters of its description.
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
        description: The first 1,000 characters of its description.
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
        values: For each column, the value of each trial; null for a trial that has none. One that is too large for a
            table is `{"$long": type, "start": the beginning of a text, "size": bytes}`.
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
    """The latest 10,000 projects by name, with the numbers of their trials."""
    protocol = await context.protocol()
    found = await protocol.headings("projects", limit=_MAX_LISTED)
    counts = await _counts(context, "project_id", None)
    return await context.compute(_project_rows, found, counts)


async def groups(context: Context, project: Project = None) -> list[GroupRow]:
    """The latest 10,000 groups by name, of a project or all, with the numbers of their trials."""
    protocol = await context.protocol()
    found = await protocol.headings("groups", project or None, limit=_MAX_LISTED)
    counts = await _counts(context, "group_id", project or None)
    return await context.compute(_group_rows, found, counts)


async def _counts(context: Context, by: Owner, project: str | None) -> Counts:
    """Count the trials of each project or group, once for all requests between two changes of trials.

    A page that was told of a change gets counts with it: the cursor is another one then. While changes are not seen,
    counts are at most two seconds old.
    """
    cursor = await context.feed.cursor()

    async def count() -> Counts:
        protocol = await context.protocol()
        return {each.uid: each for each in await protocol.trial_counts(by, project)}

    return await _COUNTS.of(context).get((by, project, cursor), count)


def _project_rows(found: list[Heading], counts: Counts) -> list[ProjectRow]:
    return [_row(each, counts) for each in _by_name(found)]


def _group_rows(found: list[Heading], counts: Counts) -> list[GroupRow]:
    return [{**_row(each, counts), "project": each.project_id} for each in _by_name(found)]


def _by_name(found: list[Heading]) -> list[Heading]:
    return sorted(found, key=lambda each: (each.name, each.uid))


def _row(found: Heading, counts: Counts) -> ProjectRow:
    _, trials, running, failed, last_seen = counts.get(found.uid) or TrialCounts(found.uid, 0, 0, 0, None)
    return {
        "uid": found.uid,
        "name": found.name,
        "description": found.description,
        "trials": trials,
        "running": running,
        "failed": failed,
        "created": found.created,
        "latest": last_seen,
    }


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
    """Rows of the table of trials, the latest first.

    A value may take 4 KiB, and less where many are asked for: 64 MiB for all of them. A larger one is cut: see
    `GET /trials/{uid}`.
    """
    cells = limit * len(columns)
    if cells > _MAX_CELLS:
        raise Refusal(
            "too_large",
            f"columns: expected at most {_MAX_CELLS} values, got {limit} rows of {len(columns)}: "
            "ask for fewer rows or columns",
            place="limit",
        )
    query = await selected(context, where, project, group)
    cursor = await context.feed.cursor()  # before the rows, so that no change is between them
    protocol = await context.protocol()
    fields = ["uid", "name", "status", "last_seen", *columns]
    order = [*sort, "uid"] if sort else ["-created", "-uid"]  # the latter is the order of an index
    most = min(_MAX_CELL_BYTES, _MAX_BYTES // max(1, cells))
    rows = await protocol.fetch_cells(fields, query, max_bytes=most, sort=order, limit=limit, offset=offset)
    is_end = len(rows) < limit and (rows or not offset)
    total = offset + len(rows) if is_end else await protocol.count_trials(query)
    return await context.compute(_table, columns, rows, total, offset, cursor)


def _table(columns: Sequence[str], rows: list[tuple[Any, ...]], total: int, offset: int, cursor: str) -> TrialTable:
    uids, names, statuses, seen, *values = zip(*rows, strict=True) if rows else [()] * (4 + len(columns))
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
    return await context.compute(detail_of, await context.trial(uid))


ENDPOINTS = (
    Endpoint("GET", "/projects", projects, places="large", etag=True),
    Endpoint("GET", "/groups", groups, places="large", etag=True),
    Endpoint("GET", "/trials", trials, places="large", etag=True),
    Endpoint("GET", "/trials/{uid}", trial, places="large", etag=True),
)
