"""How far the live projection has folded the log."""

from __future__ import annotations

from trialstream.config import Config
from trialstream.event_log.topics import Route
from trialstream_consumer.projection.client import Connection
from trialstream_consumer.projection.ownership import Ownership, live_database

__all__ = ["folded_offsets"]


async def folded_offsets(config: Config) -> dict[Route, int]:
    """Read, by partition, the offset up to which the live projection is folded.

    Args:
        config: Where MongoDB is, and the prefix.

    Returns:
        The offsets of the partitions that were ever folded.

    Raises:
        MongoUnavailable: MongoDB did not answer.
    """
    connection = Connection(config)
    try:
        found = await Ownership(connection, await live_database(connection)).checkpoints()
    finally:
        connection.close()
    return {Route(each.topic, each.partition): each.offset for each in found}
