"""The records that the live projection could not fold."""

from __future__ import annotations

from trialstream.config import Config
from trialstream_consumer.projection.client import Connection
from trialstream_consumer.projection.dead_letters import DeadLetter, count_dead_letters, latest_dead_letters
from trialstream_consumer.projection.ownership import live_database

__all__ = ["dead_letter_count", "dead_letters"]


async def dead_letters(config: Config, limit: int, before: tuple[int, str] | None = None) -> list[DeadLetter]:
    """Read dead letters, the latest first.

    Args:
        config: Where MongoDB is, and the prefix.
        limit: Maximum number of dead letters.
        before: Time and id of a dead letter: only those that come after it in this order are read.

    Returns:
        The dead letters.

    Raises:
        MongoUnavailable: MongoDB did not answer.
    """
    connection = Connection(config)
    try:
        return await latest_dead_letters(connection, await live_database(connection), limit, before)
    finally:
        connection.close()


async def dead_letter_count(config: Config) -> int:
    """Return the number of dead letters.

    Args:
        config: Where MongoDB is, and the prefix.

    Raises:
        MongoUnavailable: MongoDB did not answer.
    """
    connection = Connection(config)
    try:
        return await count_dead_letters(connection, await live_database(connection))
    finally:
        connection.close()
