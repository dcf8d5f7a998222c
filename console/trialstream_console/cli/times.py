"""Times as the commands take and show them."""

from __future__ import annotations

from datetime import UTC, datetime

import typer

__all__ = ["shown", "time_of"]


def time_of(text: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 time, UTC unless it says otherwise."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"an ISO 8601 time is needed, such as 2026-07-01T12:00:00Z, not {text!r}") from None
    return round(time.replace(tzinfo=time.tzinfo or UTC).timestamp() * 1000)


def shown(milliseconds: int) -> str:
    """A time as `time_of` takes it."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
