"""Silent trials: those whose process was killed or disconnected, as far as one can see."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

__all__ = ["SILENT_SECONDS", "lost_query"]

SILENT_SECONDS = 60.0
"""Time without an event or heartbeat after which a running trial counts as lost, seconds.

A started trial sends a heartbeat every 10 s: six missing heartbeats are more than a delay.
"""


def lost_query(now: datetime, seconds: float = SILENT_SECONDS) -> dict[str, Any]:
    """Return the query of trials whose process was killed or disconnected.

    Args:
        now: The present time.
        seconds: How long they have sent nothing, seconds.
    """
    return {"status.code": {"$gte": 100, "$lt": 200}, "last_seen": {"$lt": now - timedelta(seconds=seconds)}}
