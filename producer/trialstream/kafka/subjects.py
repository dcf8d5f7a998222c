"""Known subjects: the trials, groups and projects that were created, fetched or looked up before."""

from __future__ import annotations

from trialstream_schemas.errors import ItemNotFound, LogMismatch, MongoUnavailable

from trialstream.reading.reader import Collection, Reader
from trialstream.runtime.lifecycle import Lifecycle

__all__ = ["KnownSubjects"]


class KnownSubjects:
    """Remembers which subjects exist, so that only the first log call for each looks it up.

    Args:
        lifecycle: Runs look-ups in the I/O thread.
    """

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._known: dict[Collection, set[str]] = {"trials": set(), "groups": set(), "projects": set()}

    def add(self, collection: Collection, *uids: str) -> None:
        """Remember that these subjects exist."""
        self._known[collection].update(uids)

    def has(self, collection: Collection, uid: str) -> bool:
        """Whether the subject is known to exist."""
        return uid in self._known[collection]

    async def require(
        self, collection: Collection, uid: str, message: str, *, reader: Reader | None, was_created: bool = True
    ) -> None:
        """Check that a subject exists.

        Args:
            collection: Its collection.
            uid: Its uid.
            message: Message of `ItemNotFound`.
            reader: Reads MongoDB; None while Kafka is not connected, when existence is unknown.
            was_created: Whether the user's object comes from a creation or a fetch; without a reader, the subject is
                then assumed to exist.

        Raises:
            ItemNotFound: The subject does not exist.
        """
        if self.has(collection, uid):
            return
        try:
            exists = was_created if reader is None else await self._lifecycle.call(reader.exists, collection, uid)
        except (MongoUnavailable, LogMismatch) as error:
            # Logging does not depend on MongoDB: an event without a subject becomes a dead letter.
            self._lifecycle.warn_once(
                f"trialstream: the subject of a log call could not be looked up and is assumed to exist: {error}"
            )
        else:
            if not exists:
                raise ItemNotFound(message)
        self.add(collection, uid)
