"""Dead letters: the records that could not be folded, each with its reason and its bytes.

The id of a dead letter is `<topic>/<partition>/<offset>` of its record, so folding the record again replaces the same
document.
"""

from __future__ import annotations

from dataclasses import dataclass

from trialstream_consumer.projection.client import Connection, Document

__all__ = ["DeadLetter", "count_dead_letters", "latest_dead_letters"]


@dataclass(frozen=True)
class DeadLetter:
    """A record that could not be folded.

    Attributes:
        topic: Topic of the record.
        partition: Partition of the record.
        offset: Offset of the record.
        reason: Why the record could not be folded.
        time: When the broker appended the record, milliseconds since 1970 UTC.
        value: Bytes of the record, at most the first MiB.
    """

    topic: str
    partition: int
    offset: int
    reason: str
    time: int
    value: bytes

    @property
    def id(self) -> str:
        """Id of the document that stores the dead letter."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    def to_document(self) -> Document:
        """Return the document that stores the dead letter."""
        return {"_id": self.id, **vars(self)}


async def latest_dead_letters(
    connection: Connection, database: str, limit: int, before: tuple[int, str] | None = None
) -> list[DeadLetter]:
    """Read the latest dead letters of a projection.

    Args:
        connection: Connection to MongoDB.
        database: Database of the projection.
        limit: Maximum number of dead letters.
        before: Time and id of a dead letter: only those that come after it in this order are read.

    Returns:
        The dead letters, latest first.

    Raises:
        MongoUnavailable: MongoDB did not answer.
    """
    collection = connection.database(database).dead_letters
    async with connection.errors():
        query: Document = {}
        if before is not None:
            time, id_ = before
            query = {"$or": [{"time": {"$lt": time}}, {"time": time, "_id": {"$lt": id_}}]}
        found = collection.find(query, {"_id": 0}).sort([("time", -1), ("_id", -1)]).limit(limit)
        return [DeadLetter(**each) async for each in found]


async def count_dead_letters(connection: Connection, database: str) -> int:
    """Return the number of dead letters of a projection.

    Args:
        connection: Connection to MongoDB.
        database: Database of the projection.

    Raises:
        MongoUnavailable: MongoDB did not answer.
    """
    async with connection.errors():
        return int(await connection.database(database).dead_letters.estimated_document_count())
