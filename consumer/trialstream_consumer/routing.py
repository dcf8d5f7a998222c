"""Where an event belongs: each partition is folded by itself, so whatever it changes must lie in no other one."""

from __future__ import annotations

from functools import lru_cache

from trialstream.config import Config
from trialstream.log.topics import partition_of
from trialstream_schemas.model.identity import hash_of
from trialstream_schemas.wire.events import Event, TrialEvent

__all__ = ["misplaced"]


@lru_cache(maxsize=16384)  # murmur2 in Python takes 8 µs
def _partition(trial: str, partitions: int) -> int:
    return partition_of(hash_of(trial).encode(), partitions)


def misplaced(event: Event, topic: str, partition: int, *, config: Config, partitions: int) -> str | None:
    """Say why an event does not belong where it lies; None when it does.

    Args:
        event: The event.
        topic: The topic in which it lies.
        partition: The partition in which it lies.
        config: Names the topics.
        partitions: Partition count of the trials topic.
    """
    if isinstance(event, TrialEvent):
        wanted = config.trials_topic, _partition(event.trial, partitions)
    else:
        wanted = config.registry_topic, 0
    if wanted == (topic, partition):
        return None
    return f"it lies in {topic}/{partition} and belongs into {wanted[0]}/{wanted[1]}: use Kafka's default partitioner"
