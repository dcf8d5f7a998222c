"""Progress of the live projection: the part of the log that it has folded."""

from __future__ import annotations

from collections.abc import Mapping

from trialstream.config import Config
from trialstream.event_log.topics import Route
from trialstream_consumer.projection.client import Connection
from trialstream_consumer.projection.ownership import Ownership, live_namespace

__all__ = ["folded_offsets", "lags", "read_folded_offsets"]


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
        return await read_folded_offsets(connection)
    finally:
        connection.close()


async def read_folded_offsets(connection: Connection) -> dict[Route, int]:
    """Do what `folded_offsets` does, over a connection that stays open.

    Args:
        connection: Connection to MongoDB.

    Returns:
        The offsets of the partitions that were ever folded.

    Raises:
        MongoUnavailable: MongoDB did not answer.
    """
    found = await Ownership(connection, await live_namespace(connection)).checkpoints()
    return {Route(each.topic, each.partition): each.offset for each in found}


def lags(ends: Mapping[Route, int], folded: Mapping[Route, int]) -> dict[Route, int]:
    """Return, by partition, the number of records that are not folded.

    Args:
        ends: The offset after the last record of each partition.
        folded: The offset up to which a partition is folded; 0 if it is not there.
    """
    return {route: max(0, end - folded.get(route, 0)) for route, end in ends.items()}
