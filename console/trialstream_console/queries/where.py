"""`parse_where`: texts of the query language as queries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from trialstream_console.queries.parsing import parse
from trialstream_console.queries.translation import Translation

__all__ = ["parse_where"]


def parse_where(text: str, *, now: datetime | None = None) -> dict[str, Any]:
    """Parse a text such as `status = Running and metrics.loss.last < 0.1`.

    Args:
        text: The text, as docs/querying.md describes it. A text with spaces only matches every trial.
        now: The time to which `2h ago` and `lost` refer; None for the present.

    Returns:
        The query for `fetch_trials`.

    Raises:
        WhereError: The text cannot be read, names a field that does not exist, or compares one with a value that does
            not fit it; `column` is where.
    """
    return Translation(now or datetime.now(UTC)).query(parse(text))
