"""The projection in MongoDB: the only module that writes it.

One transaction per batch, in this order, which is its correctness argument:

1. compare-and-set the checkpoint: it still has our epoch and the offset at which the batch begins, or we are fenced;
2. replace the documents that the batch changed;
3. insert the history buckets that it filled, its outcomes and its dead letters.

So a batch is in the documents if and only if the checkpoint is past it. A worker that takes a partition over increments
the epoch first: whoever had it before fails at step 1 and drops its state. The checkpoint names the session of its
owner's transactions too: MongoDB keeps one that a killed owner left open, and what it has locked, for 60 seconds
unless the next owner ends it.

A projection is a database. The live one is named by a pointer in the database `<prefix>`, and is `<prefix>` itself
where there is none. `switch` moves the pointer in one transaction that also increments the epochs of both, so:

- whoever folded into the old one fails at step 1 from then on, and takes its partition over in the new one, at the new
  one's checkpoint: no event is folded twice into a projection, or left out of it;
- `acquire` increments the epoch first and reads the pointer then, both by majority. If the switch came between or
  before, the pointer tells, and nothing is written; if it comes later, its epoch fences. The order holds whether or not
  the old database is there any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from bson.errors import BSONError
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorClientSession, AsyncIOMotorDatabase
from pymongo import ASCENDING, ReplaceOne, ReturnDocument, timeout
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern
from trialstream.config import Config
from trialstream_schemas.errors import Fenced, LogMismatch, MongoUnavailable
from trialstream_schemas.model.history import Bucket
from trialstream_schemas.storage.collections import CATALOG, COLLECTIONS, LIVE, LOG_ID
from trialstream_schemas.storage.documents import (
    group_from_document,
    group_to_document,
    outcome_from_document,
    outcome_to_document,
    project_from_document,
    project_to_document,
    trial_from_document,
    trial_to_document,
)
from trialstream_schemas.wire.events import LogCreated

from trialstream_consumer.fold import BucketKey, Needs, State, resolve

__all__ = ["Checkpoint", "DeadLetter", "Store", "Unwritable", "ensure_indexes", "mongo_errors"]

Document: TypeAlias = dict[str, Any]

_INDEXES: dict[str, list[list[tuple[str, int]]]] = {
    "trials": [
        [("hash", ASCENDING), ("revision", ASCENDING)],
        [("project_id", ASCENDING)],
        [("group_id", ASCENDING)],
        [("status.name", ASCENDING), ("created", ASCENDING), ("_id", ASCENDING)],
        [("name", ASCENDING)],
        [("created", ASCENDING), ("_id", ASCENDING)],
    ],
    "groups": [[("project_id", ASCENDING)]],
    "projects": [],
    "series": [[("trial", ASCENDING), ("section", ASCENDING), ("names", ASCENDING)]],
    "outcomes": [],
    "checkpoints": [],
    "dead_letters": [[("time", ASCENDING), ("_id", ASCENDING)]],
}
_INTERRUPTED = 11601
# What a call, and a transaction as a whole, may take: thousands of times what was measured, and the longest that a
# consumer whose MongoDB hangs takes to stop.
_SECONDS = 8.0
_CLOSE_SECONDS = 1.0
# MongoDB's codes: nested too deep (Overflow), a key it does not take (DollarPrefixedFieldName), BSONObjectTooLarge.
_UNWRITABLE = (15, 52, 10334)


class Unwritable(Exception):
    """MongoDB can hold no such document, so trying again is of no use; the message says why."""


@dataclass(frozen=True)
class Checkpoint:
    """How far a partition is folded.

    Attributes:
        topic: Name of the topic.
        partition: Number of the partition.
        offset: The next one to fold.
        epoch: Counts the takeovers of the partition.
    """

    topic: str
    partition: int
    offset: int
    epoch: int

    @property
    def id(self) -> str:
        """Its document's id, `<topic>/<partition>`."""
        return f"{self.topic}/{self.partition}"


@dataclass(frozen=True)
class DeadLetter:
    """A record that could not be folded.

    Attributes:
        topic: Where it lies.
        partition: Where it lies.
        offset: Where it lies.
        reason: Why it could not be folded.
        time: When the broker took it, milliseconds since 1970 UTC.
        value: Its bytes.
    """

    topic: str
    partition: int
    offset: int
    reason: str
    time: int
    value: bytes

    def to_document(self) -> Document:
        """Its document."""
        return {"_id": f"{self.topic}/{self.partition}/{self.offset}", **vars(self)}


@asynccontextmanager
async def mongo_errors(config: Config) -> AsyncIterator[None]:
    """Translate what the driver raises inside.

    Raises:
        MongoUnavailable: with the reason and what to do.
    """
    try:
        yield
    except PyMongoError as error:
        raise MongoUnavailable(
            f"MongoDB does not do what it should ({type(error).__name__}: {error}); is it a replica set, and running? "
            f"`trialstream up` starts one, TRIALSTREAM_MONGO names another (database {config.database})"
        ) from error


async def ensure_indexes(config: Config, projection: str | None = None) -> None:
    """Create the collections and indexes of a projection where they are missing.

    Args:
        config: Where MongoDB is.
        projection: Its database; `<prefix>` if not given.

    Raises:
        MongoUnavailable: MongoDB does not answer.
    """
    async with mongo_errors(config):
        client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(config.mongo, serverSelectionTimeoutMS=10_000)
        try:
            database = client[projection or config.database]
            existing = await database.list_collection_names()
            for name, indexes in _INDEXES.items():
                if name not in existing:
                    # Several consumers may start at once; creating an index creates the collection too, if need be.
                    await database[name].create_index([("_id", ASCENDING)])
                for keys in indexes:
                    await database[name].create_index(keys)
        finally:
            client.close()


class Store:
    """Loads state and writes batches. One for all partitions of a consumer; safe to share between their workers.

    Args:
        config: Where MongoDB is.
        database: The projection; `<prefix>` if not given.
        live: Whether it may be written only while it is the live one; else only while it is not.
        client: Shared with another store, which closes it.
    """

    def __init__(
        self,
        config: Config,
        database: str | None = None,
        *,
        live: bool = True,
        client: AsyncIOMotorClient[Document] | None = None,
    ) -> None:
        self.database = database or config.database
        self._config = config
        self._must_be_live = live
        self._client: AsyncIOMotorClient[Document] = client or AsyncIOMotorClient(
            config.mongo, timeoutMS=int(_SECONDS * 1000)
        )
        self._database = self._majority(self.database)
        # Made once: making one takes the driver 60 µs, a tenth of a round trip.
        self._collections = {name: self._database[name] for name in COLLECTIONS}
        # By checkpoint: all its transactions run in one session, so that each ends what is left of the one before.
        self._sessions: dict[str, AsyncIOMotorClientSession] = {}

    def close(self) -> None:
        """Let go of the connections."""
        with timeout(_CLOSE_SECONDS):  # it tells MongoDB which sessions have ended, and would wait for it
            self._client.close()

    def _majority(self, database: str) -> AsyncIOMotorDatabase[Document]:
        return self._client.get_database(
            database, write_concern=WriteConcern("majority"), read_concern=ReadConcern("majority")
        )

    def of(self, database: str, *, live: bool = True) -> Store:
        """A store of another projection that shares the connections of this one."""
        return Store(self._config, database, live=live, client=self._client)

    async def live(self) -> str:
        """Database of the live projection.

        Raises:
            MongoUnavailable: MongoDB does not answer.
        """
        async with mongo_errors(self._config):
            pointer = await self._majority(self._config.database)[CATALOG].find_one({"_id": LIVE})
        return str(pointer["database"]) if pointer else self._config.database

    async def checkpoints(self) -> list[Checkpoint]:
        """How far each partition is folded that was ever taken over.

        Raises:
            MongoUnavailable: MongoDB does not answer.
        """
        async with mongo_errors(self._config):
            found = await self._database.checkpoints.find({"offset": {"$exists": True}}).to_list(None)
        places = [(each["_id"].rpartition("/"), each) for each in found]
        return [Checkpoint(topic, int(number), each["offset"], each["epoch"]) for (topic, _, number), each in places]

    async def check_log(self, log: LogCreated) -> None:
        """Bind the projection to the log, the first time, and later check that it is the same.

        Raises:
            LogMismatch: the projection was folded from another log.
            MongoUnavailable: MongoDB does not answer.
        """
        async with mongo_errors(self._config):
            known = await self._database.checkpoints.find_one_and_update(
                {"_id": LOG_ID},
                {"$setOnInsert": {"log": log.log, "partitions": log.partitions, "time": log.time}},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        assert known is not None
        if known["log"] != log.log:
            raise LogMismatch(
                f"{self._config.registry_topic} is log {log.log}, and database {self.database} was folded from "
                f"log {known['log']}: the topics were recreated; drop the database to fold the new log"
            )

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """The latest dead letters, latest first.

        Raises:
            MongoUnavailable: MongoDB does not answer.
        """
        async with mongo_errors(self._config):
            found = self._database.dead_letters.find({}, {"_id": 0}).sort([("time", -1), ("_id", -1)]).limit(limit)
            return [DeadLetter(**each) async for each in found]

    async def acquire(self, topic: str, partition: int, session: AsyncIOMotorClientSession | None = None) -> Checkpoint:
        """Take a partition over: whoever had it before is fenced from now on.

        Args:
            topic: Its topic.
            partition: Its number.
            session: To use for the transactions to come; one of its own if not given.

        Raises:
            Fenced: the projection is not the live one any more (or has become it).
            MongoUnavailable: MongoDB does not answer.
        """
        id_ = f"{topic}/{partition}"
        async with mongo_errors(self._config):
            session = session or await self._client.start_session()
            session_id: Any = session.session_id  # the driver's stubs take it for a method
            held = await self._database.checkpoints.find_one({"_id": id_})
            if held is not None and "session" in held:
                with suppress(OperationFailure):  # not allowed: then it ends by itself
                    await self._client.admin.command("killSessions", [{"id": held["session"]}])
            document = await self._database.checkpoints.find_one_and_update(
                {"_id": id_},
                {"$inc": {"epoch": 1}, "$setOnInsert": {"offset": 0}, "$set": {"session": session_id["id"]}},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        assert document is not None
        if ((live := await self.live()) == self.database) != self._must_be_live:
            raise Fenced(f"{id_}: a rebuild has switched from another projection to {live}")
        self._sessions[id_] = session
        return Checkpoint(topic, partition, document["offset"], document["epoch"])

    async def current(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint of the same partition as it is now.

        Raises:
            Fenced: another consumer has taken the partition over.
            MongoUnavailable: MongoDB does not answer.
        """
        async with mongo_errors(self._config):
            document = await self._database.checkpoints.find_one({"_id": checkpoint.id})
        if document is None or document["epoch"] != checkpoint.epoch:
            raise Fenced(f"{checkpoint.id} was taken over by another consumer")
        return replace(checkpoint, offset=document["offset"])

    async def load(self, state: State, needs: Needs) -> None:
        """Load into the state what it lacks of the needs; what does not exist becomes None (a revision: 0).

        Raises:
            MongoUnavailable: MongoDB does not answer.
        """
        async with mongo_errors(self._config):
            await self._load(state, needs)

    async def _load(self, state: State, needs: Needs) -> None:
        # What is addressed by a request waits for that request's outcome, and nothing else for anything.
        plain = {each for each in needs.trials if "~" not in each}
        shapes = {each for each in needs.shapes if each[0] in plain}
        await _together(
            (self._load_outcomes, state, needs.requests - state.outcomes.keys()),
            (self._load_revisions, state, needs.hashes - state.revisions.keys()),
            (self._load_groups, state, needs.groups - state.groups.keys()),
            (self._load_projects, state, needs.projects - state.projects.keys()),
            (self._load_trials, state, plain - state.trials.keys()),
            (self._load_buckets, state, shapes - state.buckets.keys()),
        )
        uids = {uid for address in needs.trials - plain if (uid := resolve(state, address))}
        keys = {(uid, shape) for address, shape in needs.shapes - shapes if (uid := resolve(state, address))}
        await _together(
            (self._load_trials, state, uids - state.trials.keys()),
            (self._load_buckets, state, keys - state.buckets.keys()),
        )

    async def _load_outcomes(self, state: State, requests: set[str]) -> None:
        found = await self._find("outcomes", requests)
        state.outcomes.update(
            {request: outcome_from_document(each) if each else None for request, each in found.items()}
        )

    async def _load_revisions(self, state: State, hashes: set[str]) -> None:
        pipeline: list[Document] = [
            {"$match": {"hash": {"$in": sorted(hashes)}}},
            {"$group": {"_id": "$hash", "latest": {"$max": "$revision"}}},
        ]
        latest = await self._collections["trials"].aggregate(pipeline).to_list(None)
        state.revisions.update(dict.fromkeys(hashes, 0))
        state.revisions.update({each["_id"]: each["latest"] + 1 for each in latest})

    async def _load_groups(self, state: State, uids: set[str]) -> None:
        found = await self._find("groups", uids)
        state.groups.update({uid: group_from_document(each) if each else None for uid, each in found.items()})

    async def _load_projects(self, state: State, uids: set[str]) -> None:
        found = await self._find("projects", uids)
        state.projects.update({uid: project_from_document(each) if each else None for uid, each in found.items()})

    async def _load_trials(self, state: State, uids: set[str]) -> None:
        found = await self._find("trials", uids)
        state.trials.update({uid: trial_from_document(each) if each else None for uid, each in found.items()})

    async def _load_buckets(self, state: State, keys: set[BucketKey]) -> None:
        buckets = {Bucket(*key).open_id: key for key in keys}
        found = await self._find("series", buckets)
        state.buckets.update(
            {buckets[id_]: Bucket.from_document(each) if each else None for id_, each in found.items()}
        )

    async def _find(self, collection: str, ids: Iterable[str]) -> dict[str, Document | None]:
        found: dict[str, Document | None] = dict.fromkeys(ids)
        cursor = self._collections[collection].find({"_id": {"$in": list(found)}})
        found.update({document["_id"]: document for document in await cursor.to_list(None)})
        return found

    async def write(
        self, checkpoint: Checkpoint, offset: int, state: State, dead_letters: list[DeadLetter]
    ) -> Checkpoint:
        """Write what the batch from `checkpoint` to `offset` changed; return the checkpoint after it.

        Raises:
            Fenced: the checkpoint is no longer ours; nothing was written.
            MongoUnavailable: MongoDB did not answer; `current` tells whether the batch was written.
            Unwritable: a document is too large or holds what BSON cannot; nothing was written.
        """
        writes = _writes(state, dead_letters)
        session = self._sessions[checkpoint.id]
        with timeout(_SECONDS):
            async with (
                mongo_errors(self._config),
                session.start_transaction(write_concern=WriteConcern("majority")),
            ):
                await self._advance(checkpoint, offset, session)
                for collection, operations in writes.items():
                    await self._replace(collection, operations, session)
        return replace(checkpoint, offset=offset)

    async def _replace(
        self, collection: str, operations: list[ReplaceOne[Document]], session: AsyncIOMotorClientSession
    ) -> None:
        try:
            await self._collections[collection].bulk_write(operations, ordered=False, session=session)
        except (BSONError, OverflowError) as error:
            raise Unwritable(f"MongoDB cannot hold what becomes of it: {error!r}") from error
        except OperationFailure as error:
            if error.code not in _UNWRITABLE:
                raise
            raise Unwritable(
                f"MongoDB cannot hold what becomes of it: {(error.details or {}).get('errmsg')}"
            ) from error

    async def _advance(self, checkpoint: Checkpoint, offset: int, session: AsyncIOMotorClientSession) -> None:
        done = await self._collections["checkpoints"].update_one(
            {"_id": checkpoint.id, "epoch": checkpoint.epoch, "offset": checkpoint.offset},
            {"$set": {"offset": offset}},
            session=session,
        )
        if not done.matched_count:
            raise Fenced(f"{checkpoint.id} is no longer at offset {checkpoint.offset} in epoch {checkpoint.epoch}")

    async def hold(self, partitions: Iterable[tuple[str, int]]) -> list[Checkpoint]:
        """Take partitions over in one session, to `switch` from here to another projection.

        Whoever folded them stays fenced until it takes them over again; that ends the session, and with it a switch
        that a killed process left open.

        Raises:
            Fenced: the projection is not the live one any more.
            MongoUnavailable: MongoDB does not answer.
        """
        async with mongo_errors(self._config):
            session = await self._client.start_session()
        return [await self.acquire(topic, partition, session) for topic, partition in partitions]

    async def switch(self, held: list[Checkpoint], to: str, reached: list[Checkpoint]) -> bool:
        """Make another projection the live one, in one transaction; False if a consumer has come between.

        Args:
            held: Checkpoints of this one, as `hold` returned them.
            to: The other one's database.
            reached: Its checkpoints, each at least as far.

        Raises:
            Fenced: the other one was taken over by another rebuild.
            MongoUnavailable: MongoDB did not answer; `live` tells whether it has switched.
        """
        session = self._sessions[held[0].id]
        session_id: Any = session.session_id
        other = self._majority(to)
        try:
            with timeout(_SECONDS):
                # Whoever goes on with the other one after a kill ends the transaction that was left open.
                await other.checkpoints.update_many(
                    {"_id": {"$in": [each.id for each in reached]}}, {"$set": {"session": session_id["id"]}}
                )
                async with session.start_transaction(write_concern=WriteConcern("majority")):
                    if not all([await self._fence(self._database, each, session) for each in held]):
                        await session.abort_transaction()
                        return False
                    if not all([await self._fence(other, each, session) for each in reached]):
                        raise Fenced(f"another rebuild has taken over {to}")
                    await self._majority(self._config.database)[CATALOG].replace_one(
                        {"_id": LIVE}, {"database": to}, upsert=True, session=session
                    )
        except PyMongoError as error:
            # A consumer takes a partition over, and has ended our session for it.
            if error.has_error_label("TransientTransactionError") or getattr(error, "code", None) == _INTERRUPTED:
                return False
            async with mongo_errors(self._config):
                raise
        return True

    async def _fence(
        self, database: AsyncIOMotorDatabase[Document], checkpoint: Checkpoint, session: AsyncIOMotorClientSession
    ) -> bool:
        done = await database.checkpoints.update_one(
            {"_id": checkpoint.id, "epoch": checkpoint.epoch}, {"$inc": {"epoch": 1}}, session=session
        )
        return bool(done.matched_count)


async def _together(*loads: tuple[Callable[[State, Any], Awaitable[None]], State, set[Any]]) -> None:
    """Load what is missing, all at once: each takes a round trip."""
    await asyncio.gather(*(load(state, missing) for load, state, missing in loads if missing))


def _writes(state: State, dead_letters: list[DeadLetter]) -> dict[str, list[ReplaceOne[Document]]]:
    """By collection, the replacements that make the documents equal the state."""
    changes = state.changes
    trials = (state.trials[uid] for uid in changes.trials)
    groups = (state.groups[uid] for uid in changes.groups)
    projects = (state.projects[uid] for uid in changes.projects)
    opened = (state.buckets[key] for key in changes.buckets)
    documents: dict[str, list[Document]] = {
        "trials": [trial_to_document(each) for each in trials if each],
        "groups": [group_to_document(each) for each in groups if each],
        "projects": [project_to_document(each) for each in projects if each],
        "series": [
            *(each.to_document(full=True) for each in changes.filled),
            *(each.to_document(full=False) for each in opened if each is not None),
        ],
        "outcomes": [outcome_to_document(each) for each in changes.outcomes],
        "dead_letters": [each.to_document() for each in dead_letters],
    }
    return {
        collection: [ReplaceOne({"_id": each["_id"]}, each, upsert=True) for each in found]
        for collection, found in documents.items()
        if found
    }
