"""Outcome of a request: the fold writes one for each request, once, and the producer that made the request reads it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Outcome"]


@dataclass(frozen=True)
class Outcome:
    """Outcome of a request: a creation, or an update that names a version or waits for its result.

    Attributes:
        request: Id of the request.
        uid: Uid of the trial, group or project that was created or updated, or that existed already; None if the
            request has none.
        applied: Whether the event changed anything.
        reason: Why the event was refused; None if it was not refused.
    """

    request: str
    uid: str | None
    applied: bool
    reason: str | None = None
