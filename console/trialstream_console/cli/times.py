"""Times as the commands accept and print them."""

from __future__ import annotations

from datetime import UTC, datetime

import typer

__all__ = ["format_time", "parse_time"]


def parse_time(text: str) -> int:
    """Parse an ISO 8601 time, UTC if it has no offset.

    Returns:
        Milliseconds since 1970.

    Raises:
        typer.BadParameter: The text is not an ISO 8601 time.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"expected an ISO 8601 time such as 2026-07-01T12:00:00Z, got {text!r}") from None
    return round(time.replace(tzinfo=time.tzinfo or UTC).timestamp() * 1000)


def format_time(milliseconds: int) -> str:
    """Format milliseconds since 1970 as ISO 8601 in UTC, such that `parse_time` reads it back."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
