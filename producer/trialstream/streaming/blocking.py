"""`trialstream.sync.watch`: importing this module imports no driver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trialstream.protocol import Query

if TYPE_CHECKING:
    from trialstream.streaming.watch import SyncWatch

__all__ = ["watch"]


def watch(
    query: Query | None = None,
    *,
    fields: Sequence[str] | None = None,
    since: str | None = None,
    interval: float = 0.25,
    url: str | None = None,
    **settings: Any,
) -> SyncWatch:
    """Watch trials in code that is not async: `for change in trialstream.sync.watch({"status": "Running"}): ...`.

    Args:
        query: As for `trialstream.watch`.
        fields: As for `trialstream.watch`.
        since: As for `trialstream.watch`.
        interval: As for `trialstream.watch`, seconds.
        url: As for `trialstream.watch`.
        **settings: As for `trialstream.watch`.

    Returns:
        The watch: an iterable of `TrialChange`, and a context manager.

    Raises:
        ConfigError: A setting is invalid; the message names it.
        InvalidValue: `since` is no cursor, or the interval is invalid.
        QueryError: The query or the fields are not supported; the message names the part.
    """
    from trialstream.streaming.watch import SyncWatch  # noqa: PLC0415 (heavy)

    return SyncWatch(query, fields, since, interval, url, settings)
