"""Counts of the events of a protocol."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Statistics"]


class Statistics(NamedTuple):
    """Counts of the events of one protocol.

    Attributes:
        queued: Events that wait to be acknowledged, in memory or on disk. Rows that will be one event count as one.
        bytes: Estimated memory of all that waits, bytes.
        acked: Events acknowledged by Kafka.
        dropped: Events that were dropped before they reached Kafka, or that Kafka refused because they are too large.
        spooled: Queued events that are on disk.
    """

    queued: int
    bytes: int
    acked: int
    dropped: int
    spooled: int
