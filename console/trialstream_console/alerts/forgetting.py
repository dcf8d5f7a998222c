"""Forgetting old alerts, so that the state of the rules does not grow for ever."""

from __future__ import annotations

from collections.abc import Container, Sequence
from datetime import UTC, datetime, timedelta

from trialstream.reading.read_only import ReadOnlyProtocol

from trialstream_console.alerts.state import Entry

__all__ = ["KEPT", "forget"]

KEPT = timedelta(days=90)
"""Time for which an alert is remembered, and a trial is looked at, after the last event of the trial."""
# Trials that are asked for at once.
_UIDS_AT_ONCE = 1000


async def forget(protocol: ReadOnlyProtocol, rules: Sequence[dict[str, Entry]], held: Container[str]) -> bool:
    """Drop old alerts of trials that were not heard from for as long.

    Args:
        protocol: Reads the trials.
        rules: The alerts of each rule, by the uid of the trial.
        held: Uids of trials that the rules concern, whose alerts are kept.

    Returns:
        Whether any was old enough to be looked at.
    """
    oldest = datetime.now(UTC) - KEPT
    times = [(uid, datetime.fromisoformat(each.time)) for entries in rules for uid, each in entries.items()]
    old = sorted({uid for uid, time in times if time < oldest and uid not in held})
    for first in range(0, len(old), _UIDS_AT_ONCE):
        uids = old[first : first + _UIDS_AT_ONCE]
        heard = {"uid": {"$in": uids}, "last_seen": {"$gte": oldest}}
        for uid in set(uids).difference(*await protocol.fetch_values(["uid"], heard)):
            for entries in rules:
                entries.pop(uid, None)
    return bool(old)
