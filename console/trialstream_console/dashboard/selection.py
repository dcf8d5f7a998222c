"""The trials of a view: a query from the parameters `where`, `project` and `group`."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.shapes import Limits
from trialstream_console.queries import parse_where

__all__ = ["Group", "Project", "Where", "selected"]

Where: TypeAlias = Annotated[str, Limits("Query, such as `status = Running and metrics.loss.last < 0.1`.", most=20_000)]
Project: TypeAlias = Annotated[str | None, Limits("Uid of the project of the trials.", most=1024)]
Group: TypeAlias = Annotated[str | None, Limits("Uid of the group of the trials.", most=1024)]


async def selected(context: Context, where: str, project: str | None, group: str | None) -> dict[str, Any]:
    """Return the query for the trials of a view, in the form of `fetch_trials`.

    Args:
        context: The context.
        where: Query as text; empty for all trials.
        project: Uid of a project; None or empty for all.
        group: Uid of a group; None or empty for all.

    Raises:
        WhereError: The text is no query; `column` is where.
    """
    parts: list[dict[str, Any]] = []
    if where.strip():
        parts.append(await context.compute(parse_where, where))
    if project:
        parts.append({"project_id": project})
    if group:
        parts.append({"group_id": group})
    return {"$and": parts} if len(parts) > 1 else parts[0] if parts else {}
