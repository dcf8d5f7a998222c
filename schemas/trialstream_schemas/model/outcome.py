"""Outcome of a request: the fold writes one for each request, once, and the producer that made the request reads it.

A request is known by its id together with its subject: the hash of a trial, or the uid of a group or project. So a
request of one subject never has, reads or replaces the outcome of another, whoever has chosen the same id.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Outcome"]


@dataclass(frozen=True)
class Outcome:
    """Outcome of a request: a creation, or an update that names a version or waits for its result.

    Attributes:
        id: `<hash>~<request>` for a trial, `<uid>~<request>/group` for a group, `<uid>~<request>/project` for a
            project. The id of a request has neither `~` nor `/` (`wire/envelope.py`), so no two subjects share one.
        uid: Uid of the trial, group or project that was created or updated, or that existed already; None if the
            request has none.
        applied: Whether the event changed anything.
        reason: Why the event was refused; None if it was not refused.
    """

    id: str
    uid: str | None
    applied: bool
    reason: str | None = None
