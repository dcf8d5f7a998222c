"""The columns that trials have, and the check and the completion of queries."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from trialstream_schemas.errors import TrialStreamError

from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.endpoints import Endpoint
from trialstream_console.dashboard.refusals import Refusal
from trialstream_console.dashboard.sampling import Sample, sample_of
from trialstream_console.dashboard.selection import Group, Project, Where
from trialstream_console.dashboard.shapes import Limits
from trialstream_console.queries import complete, parse_where
from trialstream_console.queries.completion import operators

__all__ = ["ENDPOINTS"]

Text = Annotated[str, Limits("Text of the query language.", most=20_000)]


class ColumnInfo(TypedDict):
    """A path that trials have.

    Attributes:
        path: The path.
        kind: What it is a part of.
        type: Type of its values.
        count: Number of trials of the sample that have it.
        operators: Operators of the query language that fit the type.
    """

    path: str
    kind: Literal["field", "parameter", "metric", "chrono", "tag", "metadata"]
    type: Literal["number", "text", "time", "status", "mixed"]
    count: int
    operators: list[str]


class Columns(TypedDict):
    """The paths that trials have.

    Attributes:
        columns: The paths: fields first, then the more frequent ones.
        sampled: Number of trials of which they are.
    """

    columns: list[ColumnInfo]
    sampled: int


class Checked(TypedDict):
    """A text that is a query."""

    ok: bool


class CompletionItem(TypedDict):
    """A text that can stand at a place.

    Attributes:
        text: The text.
        kind: Kind of its column, `operator`, `word` or `value`.
    """

    text: str
    kind: str


# `from` is a keyword of Python.
Completed = TypedDict("Completed", {"from": int, "items": list[CompletionItem]})
Completed.__doc__ = """Completions at a place of a text.

    Attributes:
        from: Index of the character from which an item replaces the text up to the place.
        items: The items, the best first.
    """


async def columns(context: Context, where: Where = "", project: Project = None, group: Group = None) -> Columns:
    """The paths that the latest trials of a view have."""
    return await context.compute(_columns, await sample_of(context, where, project, group))


def _columns(found: Sample) -> Columns:
    return {
        "columns": [
            {
                "path": each.path,
                "kind": each.kind,  # type: ignore[typeddict-item]  # the kinds of a sample
                "type": each.type,  # type: ignore[typeddict-item]
                "count": count,
                "operators": list(operators(each.type)),
            }
            for each, count in zip(found.columns, found.counts, strict=True)
        ],
        "sampled": found.trials,
    }


async def check_where(context: Context, text: Text = "") -> Checked:
    """Whether a text is a query; if not, the error has its column."""
    await context.compute(parse_where, text)
    return {"ok": True}


async def complete_where(
    context: Context,
    text: Text = "",
    at: Annotated[int, Limits("Index of the character before which the place is.", 0, 20_000)] = 0,
    project: Project = None,
    group: Group = None,
) -> Completed:
    """Completions at a place of a query; while MongoDB is away, fields and operators only."""
    try:
        known = (await sample_of(context, "", project, group)).columns
    except (TrialStreamError, Refusal):
        known = []
    found = await context.compute(complete, text, at, known)
    return {"from": found.begin, "items": [{"text": each.text, "kind": each.kind} for each in found.items]}


ENDPOINTS = (
    Endpoint("GET", "/columns", columns, etag=True, places="expensive"),
    Endpoint("GET", "/where/check", check_where),
    Endpoint("GET", "/where/complete", complete_where, places="expensive"),
)
