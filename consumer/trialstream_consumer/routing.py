"""Routing: the check that an event may be folded in a partition.

Each partition is folded independently, so all events that change one document must be in one partition.
"""

from __future__ import annotations

from functools import lru_cache

from trialstream.config import Config
from trialstream.event_log.topics import partition_of
from trialstream_schemas.model.identity import hash_of
from trialstream_schemas.wire.envelope import envelope_fault
from trialstream_schemas.wire.events import Event, TrialEvent

__all__ = ["misplacement"]


# murmur2 in Python takes 8 µs. At most 12 MiB, since addresses are bounded.
@lru_cache(maxsize=16384)
def _partition(trial: str, partitions: int) -> int:
    return partition_of(hash_of(trial).encode(), partitions)


def misplacement(event: Event, topic: str, partition: int, *, config: Config, partitions: int) -> str | None:
    """Check that the ids of an event are within their bounds, and that the event is in the right partition.

    Args:
        event: The event.
        topic: Topic of the event's record.
        partition: Partition of the event's record.
        config: Settings with the names of the topics.
        partitions: Number of partitions of the trials topic.

    Returns:
        The reason for a dead letter, which names the field or both partitions; None if the event may be folded.
    """
    if fault := envelope_fault(event):
        return fault
    if isinstance(event, TrialEvent):
        wanted = config.trials_topic, _partition(event.trial, partitions)
    else:
        wanted = config.registry_topic, 0
    if wanted == (topic, partition):
        return None
    return (
        f"the event is in {topic}/{partition} but belongs in {wanted[0]}/{wanted[1]}: use Kafka's default partitioner"
    )
