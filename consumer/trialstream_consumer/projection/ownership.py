"""Ownership of a projection: its checkpoints, their epochs, and the pointer to the live projection.

The checkpoint of a partition holds the offset up to which the partition is folded, an epoch that counts its takeovers,
and the session of its owner's transactions.

- **Fencing.** A worker that takes a partition over increments the epoch first. Each transaction of an owner compares
  the epoch and the offset (`advancing`), so the next transaction of the previous owner fails, and that owner drops its
  state.
- **Killed owners.** MongoDB keeps a transaction that a killed owner left open, with its locks, for 60 seconds. All
  transactions of an owner run in the session that the checkpoint names; the next owner ends that session.

A projection is the collections of one suffix in a database (`Namespace`). The pointer in the database `<prefix>` names
the live one, and the log from which that was folded; without a pointer, the first projection is live, the one without a
suffix. `switch` moves the pointer in one transaction that also increments the epochs of both projections:

- An owner of a partition in the old projection is fenced at its next batch, and takes the partition over in the new
  projection, at the new projection's checkpoint: no event is folded into a projection twice, and none is left out.
- `acquire` first increments the epoch in the old projection and then reads the pointer, both by majority. If the
  pointer has moved by then, `acquire` fails, and nothing is folded. If the pointer moves later, there are two cases. If
  `hold` came after `acquire`, `hold` has incremented the epoch again, and the new owner is fenced. If `hold` came
  before `acquire`, the switch finds another epoch than `hold` returned, and fails. This is safe even if the old
  projection has been dropped: `acquire` creates its checkpoint anew, reads the moved pointer and fails.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClientSession
from pymongo import ReturnDocument, timeout
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.write_concern import WriteConcern
from trialstream.reading.live import Collections
from trialstream_schemas.errors import Fenced, LogMismatch
from trialstream_schemas.storage.collections import LIVE, LOG_ID, Namespace
from trialstream_schemas.wire.events import LogCreated

from trialstream_consumer.projection.client import CALL_SECONDS, Connection

__all__ = ["Checkpoint", "Ownership", "live_namespace"]

# MongoDB's error code of a call whose session was ended by `killSessions`.
_INTERRUPTED = 11601


@dataclass(frozen=True)
class Checkpoint:
    """Checkpoint of a partition: how far the partition is folded, and in which takeover.

    Attributes:
        topic: Name of the topic.
        partition: Number of the partition.
        offset: The next offset to fold.
        epoch: Number of takeovers of the partition so far.
    """

    topic: str
    partition: int
    offset: int
    epoch: int

    @property
    def id(self) -> str:
        """Id of the document that stores the checkpoint, `<topic>/<partition>`."""
        return f"{self.topic}/{self.partition}"


async def live_namespace(connection: Connection) -> Namespace:
    """Read the pointer to the live projection.

    Args:
        connection: Connection to MongoDB.

    Returns:
        Place of the live projection.

    Raises:
        MongoUnavailable: MongoDB did not answer.
    """
    home = connection.config.database
    async with connection.errors():
        pointer = await connection.catalog(home).find_one({"_id": LIVE})
    return Namespace.parse(pointer["database"] if pointer else home)


class Ownership:
    """The checkpoints of one projection, and the sessions of the partitions that were taken over through this object.

    Args:
        connection: Connection to MongoDB.
        namespace: Place of the projection.
        live: True if partitions can be taken over only while the projection is the live one; False if only while it
            is not.
    """

    def __init__(self, connection: Connection, namespace: Namespace, *, live: bool = True) -> None:
        self._connection = connection
        self._namespace = namespace
        self._must_be_live = live
        self._collections = connection.collections(namespace)
        self._checkpoints = self._collections["checkpoints"]
        # By id of the checkpoint. All transactions of a partition run in one session, so that each ends an earlier one
        # that was left open.
        self._sessions: dict[str, AsyncIOMotorClientSession] = {}

    # --- The log, and how far it is folded

    async def check_log(self, log: LogCreated) -> None:
        """Bind the projection to a log if it is not bound yet; otherwise check that the log is the same.

        The log of the live projection is then also stored in the pointer, for readers.

        Args:
            log: First event of the log's registry.

        Raises:
            LogMismatch: The projection was folded from another log.
            MongoUnavailable: MongoDB did not answer.
        """
        async with self._connection.errors():
            known = await self._checkpoints.find_one_and_update(
                {"_id": LOG_ID},
                {"$setOnInsert": {"log": log.log, "partitions": log.partitions, "time": log.time}},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        assert known is not None
        if known["log"] != log.log:
            raise LogMismatch(
                f"{self._connection.config.registry_topic} is log {log.log}, but {self._namespace} was folded from log "
                f"{known['log']}: the topics were recreated; drop database {self._namespace.database} to fold the new "
                "log"
            )
        if self._must_be_live:
            await self._name_log(log.log)

    async def _name_log(self, log: str) -> None:
        """Store the log of the live projection in the pointer, which readers look up at each read."""
        home = self._connection.config.database
        async with self._connection.errors():
            catalog = self._connection.catalog(home)
            pointer = await catalog.find_one({"_id": LIVE})
            if pointer is None or pointer.get("log") != log:
                await catalog.update_one(
                    {"_id": LIVE}, {"$set": {"log": log}, "$setOnInsert": {"database": home}}, upsert=True
                )

    async def checkpoints(self) -> list[Checkpoint]:
        """Read the checkpoints of all partitions that were ever taken over.

        Raises:
            MongoUnavailable: MongoDB did not answer.
        """
        async with self._connection.errors():
            found = await self._checkpoints.find({"offset": {"$exists": True}}).to_list(None)
        places = [(each["_id"].rpartition("/"), each) for each in found]
        return [Checkpoint(topic, int(number), each["offset"], each["epoch"]) for (topic, _, number), each in places]

    async def current(self, checkpoint: Checkpoint) -> Checkpoint:
        """Read a checkpoint again.

        Args:
            checkpoint: The checkpoint as `acquire` or a later batch returned it.

        Returns:
            The checkpoint with the offset that is stored now.

        Raises:
            Fenced: Another consumer has taken over the partition.
            MongoUnavailable: MongoDB did not answer.
        """
        async with self._connection.errors():
            document = await self._checkpoints.find_one({"_id": checkpoint.id})
        if document is None or document["epoch"] != checkpoint.epoch:
            raise Fenced(f"{checkpoint.id} was taken over by another consumer")
        return replace(checkpoint, offset=document["offset"])

    # --- One partition

    async def acquire(self, topic: str, partition: int, session: AsyncIOMotorClientSession | None = None) -> Checkpoint:
        """Take a partition over, and fence its previous owner.

        1. End the session of the previous owner, and with it a transaction that the owner left open.
        2. Increment the epoch and store the new owner's session.
        3. Read the pointer to the live projection.

        Args:
            topic: Topic of the partition.
            partition: Number of the partition.
            session: Session of all later transactions of the partition; a new one by default.

        Returns:
            The checkpoint with the new epoch.

        Raises:
            Fenced: The projection is no longer the live one (or, for a projection that must not be live, has become
                the live one).
            MongoUnavailable: MongoDB did not answer.
        """
        id_ = f"{topic}/{partition}"
        async with self._connection.errors():
            session = session or await self._connection.client.start_session()
            held = await self._checkpoints.find_one({"_id": id_})
            if held is not None and "session" in held:
                with suppress(OperationFailure):  # without the privilege for this, the session times out by itself
                    await self._connection.client.admin.command("killSessions", [{"id": held["session"]}])
            document = await self._checkpoints.find_one_and_update(
                {"_id": id_},
                {"$inc": {"epoch": 1}, "$setOnInsert": {"offset": 0}, "$set": {"session": _session_id(session)}},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        assert document is not None
        live = await live_namespace(self._connection)
        if (live == self._namespace) != self._must_be_live:
            raise Fenced(
                f"{id_} cannot be taken over in {self._namespace}: a rebuild has switched the live projection to {live}"
            )
        self._sessions[id_] = session
        return Checkpoint(topic, partition, document["offset"], document["epoch"])

    @asynccontextmanager
    async def advancing(self, checkpoint: Checkpoint, offset: int) -> AsyncIterator[AsyncIOMotorClientSession]:
        """Open a transaction that moves a checkpoint, and commit it when the block ends without an error.

        Args:
            checkpoint: The checkpoint, as `acquire`, `current` or the previous batch returned it.
            offset: The offset to move the checkpoint to.

        Yields:
            The session of the transaction: writes in this session are committed with the new offset, or not at all.

        Raises:
            Fenced: The stored checkpoint has another epoch or another offset.
        """
        session = self._sessions[checkpoint.id]
        async with session.start_transaction(write_concern=WriteConcern("majority")):
            await self._advance(checkpoint, offset, session)
            yield session

    async def _advance(self, checkpoint: Checkpoint, offset: int, session: AsyncIOMotorClientSession) -> None:
        done = await self._checkpoints.update_one(
            {"_id": checkpoint.id, "epoch": checkpoint.epoch, "offset": checkpoint.offset},
            {"$set": {"offset": offset}},
            session=session,
        )
        if not done.matched_count:
            raise Fenced(f"{checkpoint.id} is no longer at offset {checkpoint.offset} in epoch {checkpoint.epoch}")

    # --- The switch to another projection

    async def hold(self, partitions: Iterable[tuple[str, int]]) -> list[Checkpoint]:
        """Take partitions over in one session, to `switch` from this projection to another one.

        The previous owners stay fenced until they take their partitions over again. Such a takeover ends the session,
        and with the session the transaction of a switch whose process was killed.

        Args:
            partitions: Topic and number of each partition.

        Returns:
            The checkpoint of each partition, in the same order.

        Raises:
            Fenced: The projection is no longer the live one.
            MongoUnavailable: MongoDB did not answer.
        """
        async with self._connection.errors():
            session = await self._connection.client.start_session()
        return [await self.acquire(topic, partition, session) for topic, partition in partitions]

    async def switch(self, held: list[Checkpoint], to: Namespace, reached: list[Checkpoint]) -> bool:
        """Make another projection the live one.

        1. Store the session of the switch in the other projection's checkpoints: if this process is killed during the
           transaction, the next owner of one of these checkpoints ends it.
        2. In one transaction, increment the epochs of both projections and move the pointer.

        Args:
            held: Checkpoints of this projection, as `hold` returned them.
            to: Place of the other projection.
            reached: Checkpoints of the other projection, each at the same offset or a later one.

        Returns:
            True if the pointer was moved; False if a consumer took a partition over in between.

        Raises:
            Fenced: Another rebuild has taken over the other projection.
            MongoUnavailable: MongoDB did not answer; `live_namespace` shows whether the pointer was moved.
        """
        session = self._sessions[held[0].id]
        other = self._connection.collections(to)
        catalog = self._connection.catalog(self._connection.config.database)
        try:
            with timeout(CALL_SECONDS):
                await other["checkpoints"].update_many(
                    {"_id": {"$in": [each.id for each in reached]}}, {"$set": {"session": _session_id(session)}}
                )
                async with session.start_transaction(write_concern=WriteConcern("majority")):
                    if not all([await self._fence(self._collections, each, session) for each in held]):
                        await session.abort_transaction()
                        return False
                    if not all([await self._fence(other, each, session) for each in reached]):
                        raise Fenced(f"another rebuild has taken over {to}")
                    await catalog.update_one(
                        {"_id": LIVE}, {"$set": {"database": str(to)}}, upsert=True, session=session
                    )
        except PyMongoError as error:
            # A consumer took a partition over at the same time: it made the transaction conflict or ended the session.
            if error.has_error_label("TransientTransactionError") or getattr(error, "code", None) == _INTERRUPTED:
                return False
            async with self._connection.errors():
                raise
        return True

    async def _fence(
        self, collections: Collections, checkpoint: Checkpoint, session: AsyncIOMotorClientSession
    ) -> bool:
        """Increment the epoch of a checkpoint; return False if the stored checkpoint has another epoch."""
        done = await collections["checkpoints"].update_one(
            {"_id": checkpoint.id, "epoch": checkpoint.epoch}, {"$inc": {"epoch": 1}}, session=session
        )
        return bool(done.matched_count)


def _session_id(session: AsyncIOMotorClientSession) -> Any:
    session_id: Any = session.session_id  # the driver's stubs declare a method
    return session_id["id"]
