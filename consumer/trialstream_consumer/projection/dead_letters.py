"""Dead letters: the records that could not be folded, each with its reason and its bytes.

The id of a dead letter is `<topic>/<partition>/<offset>` of its record, so folding the record again replaces the same
document.
"""

from __future__ import annotations

from dataclasses import dataclass

from trialstream_schemas.storage.collections import Namespace

from trialstream_consumer.projection.client import Connection, Document

__all__ = ["DeadLetter", "latest_dead_letters"]


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

    def to_document(self) -> Document:
        """Return the document that stores the dead letter."""
        return {"_id": f"{self.topic}/{self.partition}/{self.offset}", **vars(self)}


async def latest_dead_letters(connection: Connection, namespace: Namespace, limit: int) -> list[DeadLetter]:
    """Read the latest dead letters of a projection.

    Args:
        connection: Connection to MongoDB.
        namespace: Place of the projection.
        limit: Maximum number of dead letters.

    Returns:
        The dead letters, latest first.

    Raises:
        MongoUnavailable: MongoDB did not answer.
    """
    collection = connection.collections(namespace)["dead_letters"]
    async with connection.errors():
        found = collection.find({}, {"_id": 0}).sort([("time", -1), ("_id", -1)]).limit(limit)
        return [DeadLetter(**each) async for each in found]
