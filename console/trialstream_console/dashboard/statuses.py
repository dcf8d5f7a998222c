"""The status of a trial, and whether its process seems to be lost."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

from trialstream_schemas.model.status import CustomStatus, Status

from trialstream_console.silence import SILENT_SECONDS

__all__ = ["StatusInfo", "status_info"]


class StatusInfo(TypedDict):
    """The status of a trial.

    Attributes:
        name: Name of the status.
        code: Its code: 0 created, 100 running, 200 failed, 300 ended, and what is between.
        lost: Whether the trial runs, and has been silent for a minute.
    """

    name: str
    code: int
    lost: bool


def status_info(status: Status | CustomStatus | None, last_seen: datetime | None, now: float) -> StatusInfo:
    """Return the status of a trial.

    Args:
        status: The status.
        last_seen: When the trial was last seen.
        now: The time, seconds since 1970 UTC.
    """
    given = status or Status.CreatedGroup
    is_running = 100 <= given.value < 200
    is_silent = last_seen is not None and now - last_seen.timestamp() > SILENT_SECONDS
    return {"name": str(given), "code": given.value, "lost": is_running and is_silent}
