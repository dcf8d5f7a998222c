"""Reads the projection: the only module of the producer's side that talks to MongoDB.

A rebuild may switch from one projection, a database, to another at any time and drop the old one. So each read looks
*afterwards* whether the projection that it read is still the live one, and is made again where it is not: what it
returns was live all the time, and is never part of a database that was being dropped.

Two reads need no such look. What the log decided is the same in every projection, and a trial that is found with its
outcome, in one query, is whole and not older than the decision. A candidate for a claim is a proposal that the log
decides on, so only who finds none looks whether there is another projection.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeAlias, TypeVar

import anyio
from bson.errors import InvalidDocument
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorDatabase
from pymongo import ReadPreference, timeout
from pymongo.errors import DocumentTooLarge, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from trialstream_schemas.errors import ItemNotFound, MongoUnavailable, ProjectionBehind, QueryError
from trialstream_schemas.model.history import Bucket
from trialstream_schemas.model.keys import escape_key
from trialstream_schemas.model.trial import Project, Trial, TrialGroup
from trialstream_schemas.storage.collections import ABOUT, CATALOG, LIVE
from trialstream_schemas.storage.documents import group_from_document, project_from_document, trial_from_document

from trialstream.config import Config
from trialstream.log.topics import Route

__all__ = ["Candidate", "Filter", "Outcome", "Reader"]

log = logging.getLogger("trialstream")

T = TypeVar("T")
Document: TypeAlias = dict[str, Any]
Database: TypeAlias = "AsyncIOMotorDatabase[dict[str, Any]]"
Filter: TypeAlias = Mapping[str, Any]
Keys: TypeAlias = list[tuple[str, int]]

# A replica set elects a new primary within; who asks for less time gets less.
_SELECTION_SECONDS = 5.0
_CLOSE_SECONDS = 1.0
# BadValue (sorting by two lists, say), and a pattern that Python takes and PCRE does not.
_REFUSED = (2, 51091)
# How often to look while something is waited for. A fold takes 5 ms at least, and 10 as a rule: from then on often.
_POLL_SECONDS = (0.004, *(0.001,) * 12, *(0.002,) * 8, 0.004, 0.008, 0.016, 0.032, 0.05)
# After so many looks what is waited for is late, and may be folded into another projection.
_PUNCTUAL_POLLS = 21
# What was decided on is read along; a loser has no use for it.
_WITH_TRIAL: list[Document] = [
    {"$set": {"won": {"$cond": ["$applied", "$uid", None]}}},
    {"$lookup": {"from": "trials", "localField": "won", "foreignField": "_id", "as": "trials"}},
]


class Candidate(NamedTuple):
    """What may be claimed.

    Attributes:
        uid: Its uid.
        version: Its state version as it matched.
    """

    uid: str
    version: int


class Outcome(NamedTuple):
    """What became of a request.

    Attributes:
        uid: Uid of what was created or updated, or that existed already; None when there is none.
        applied: Whether the event changed anything.
        reason: Why the event was refused, or None.
        trial: The trial of that uid, as of then or later; None if it is none, or nothing was applied.
    """

    uid: str | None
    applied: bool
    reason: str | None
    trial: Trial | None


class Reader:
    """Reads the projection. Lives in one event loop.

    Args:
        config: Where MongoDB is.
        timeout: Seconds that it is looked for at most.
    """

    def __init__(self, config: Config, timeout: float) -> None:
        settings: dict[str, Any] = {"socketTimeoutMS": 60_000}
        if "serverselectiontimeoutms" not in config.mongo.lower():  # what the user set wins
            settings["serverSelectionTimeoutMS"] = int(1000 * min(timeout, _SELECTION_SECONDS))
        self._client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(config.mongo, **settings)
        self._config = config
        # Until the first look: a rebuild may have made another one the live one.
        self._database = self._of(config.named_projection if config.projection else config.database)
        # From the primary, whatever the URI prefers: one that lags could call a projection live that is being dropped.
        self._catalog = self._of(config.database).get_collection(CATALOG, read_preference=ReadPreference.PRIMARY)
        # Waiting requests share one query: 32 that polled one by one would starve each other on the driver's threads.
        self._waiting: dict[str, anyio.Event] = {}
        self._outcomes: dict[str, Document] = {}
        self._polls = 0
        self._wake = anyio.Event()
        self._folded: dict[Route, int] = {}

    def close(self) -> None:
        """Let go of the connections."""
        with timeout(_CLOSE_SECONDS):  # it tells MongoDB which sessions have ended, and would wait for it
            self._client.close()

    @asynccontextmanager
    async def _errors(self) -> AsyncIterator[None]:
        try:
            yield
        except (InvalidDocument, DocumentTooLarge) as error:
            raise QueryError(f"MongoDB cannot take the query: {error}") from error
        except PyMongoError as error:
            if isinstance(error, OperationFailure) and error.code in _REFUSED:
                raise QueryError(f"MongoDB refuses the query: {error}") from error
            raise MongoUnavailable(
                f"MongoDB did not answer ({type(error).__name__}: {error}); start one with `trialstream up`, or set "
                "TRIALSTREAM_MONGO"
            ) from error

    # --- The projection

    def _of(self, database: str) -> Database:
        return self._client.get_database(database, read_concern=ReadConcern("majority"))

    async def check_named(self) -> None:
        """Check that the named projection can be read, if there is to be one.

        Raises:
            ItemNotFound: there is none of that name, or it is not finished.
            MongoUnavailable: MongoDB does not answer.
        """
        name = self._config.projection
        if not name:
            return
        async with self._errors():
            about = await self._database[CATALOG].find_one({"_id": ABOUT})
        if about is None or about["kind"] != "until":
            raise ItemNotFound(
                f"there is no projection {name!r} of {self._config.prefix}: `trialstream projections` lists them, "
                f"`trialstream rebuild --until TIME --name {name}` makes it"
            )
        if not about["ready"]:
            raise ItemNotFound(
                f"projection {name!r} of {self._config.prefix} is not finished: run its `trialstream rebuild --until` "
                "again"
            )

    async def _switched(self) -> bool:
        """Look which projection is live; whether it is another one than before."""
        if self._config.projection:
            return False
        pointer = await self._catalog.find_one({"_id": LIVE})
        live = pointer["database"] if pointer else self._config.database
        if live == self._database.name:
            return False
        self._database = self._of(live)
        return True

    async def _read(self, read: Callable[[Database], Awaitable[T]], sure: Callable[[T], object] = lambda _: False) -> T:
        """Run a read on the live projection, and again if another one was live at its end.

        Args:
            read: The read.
            sure: Whether what was found is good without a look at which one is live: see the module.
        """
        async with self._errors():
            while True:
                database = self._database
                try:
                    found = await read(database)
                except PyMongoError:  # it may have been dropped meanwhile
                    if not await self._switched() and database is self._database:
                        raise
                else:
                    if sure(found) or (not await self._switched() and database is self._database):
                        return found

    # --- Documents

    async def trials(self, filter_: Filter, sort: Keys | None = None, limit: int = 0) -> list[Trial]:
        """Trials."""
        found = await self._read(lambda database: _documents(database, "trials", filter_, sort, limit))
        return [trial_from_document(each) for each in found]

    async def groups(self, filter_: Filter, sort: Keys | None = None, limit: int = 0) -> list[TrialGroup]:
        """Groups, with the uids of their trials."""

        async def read(database: Database) -> list[TrialGroup]:
            groups = [group_from_document(each) for each in await _documents(database, "groups", filter_, sort, limit)]
            trials = await _members(database, "trials", "group_id", [each.uid for each in groups])
            for group in groups:
                group.trials = trials.get(group.uid, [])
            return groups

        return await self._read(read)

    async def projects(self, filter_: Filter, sort: Keys | None = None, limit: int = 0) -> list[Project]:
        """Projects, with the uids of their groups and trials."""

        async def read(database: Database) -> list[Project]:
            documents = await _documents(database, "projects", filter_, sort, limit)
            projects = [project_from_document(each) for each in documents]
            uids = [each.uid for each in projects]
            groups = await _members(database, "groups", "project_id", uids)
            trials = await _members(database, "trials", "project_id", uids)
            for project in projects:
                project.groups = groups.get(project.uid, [])
                project.trials = trials.get(project.uid, [])
            return projects

        return await self._read(read)

    async def exists(self, collection: str, uid: str) -> bool:
        """Whether there is a document of that id."""
        return await self._read(lambda database: database[collection].find_one({"_id": uid}, {"_id": 1})) is not None

    async def versions(self, collection: str, filter_: Filter, limit: int) -> list[Candidate]:
        """The oldest that match, to be claimed."""

        async def read(database: Database) -> list[Candidate]:
            cursor = database[collection].find(filter_, {"state_version": 1})
            cursor = cursor.sort([("created", 1), ("_id", 1)]).limit(limit)
            return [Candidate(each["_id"], each["state_version"]) for each in await cursor.to_list(None)]

        return await self._read(read, sure=bool)

    async def buckets(self, uid: str, section: str, names: Iterable[str]) -> list[Bucket]:
        """The history of a trial, with no other columns than the names (all if there are none)."""
        wanted = list(names)
        filter_: Document = {"trial": uid, "section": section}
        fields = None
        if wanted:
            filter_["names"] = {"$in": wanted}
            plain = ("trial", "section", "names", "step_type", "number", "rows", "segments", "steps", "times")
            fields = dict.fromkeys((*plain, *(f"values.{escape_key(name)}" for name in wanted)), 1)

        async def read(database: Database) -> list[Document]:
            # One snapshot: else a bucket that is filled while a long history is read would come twice, open and full.
            async with await self._client.start_session(snapshot=True) as session:
                return await database.series.find(filter_, fields, session=session).to_list(None)

        found = await self._read(read)
        if wanted:
            for each in found:
                each["names"] = [name for name in each["names"] if name in wanted]
        return [Bucket.from_document(each) for each in found]

    # --- Waiting for the fold

    async def folded(self, marks: Mapping[Route, int], timeout: float) -> None:
        """Return when the projection has all events before the marks (by partition, an offset).

        Raises:
            ProjectionBehind: it has not in that many seconds; the message says how far it is behind.
        """
        if self._config.projection:
            return  # it is what it is, and nothing more will be folded into it
        missing = self._missing(marks)
        polls = 0
        if missing:
            await self._read_checkpoints(missing, polls)  # even without time: the error says how far behind
        with anyio.move_on_after(timeout):
            while missing := self._missing(missing):
                await anyio.sleep(_pause(polls))
                polls += 1
                await self._read_checkpoints(missing, polls)
            return
        raise ProjectionBehind(self._behind(missing))

    def _missing(self, marks: Mapping[Route, int]) -> dict[Route, int]:
        return {route: offset for route, offset in marks.items() if self._folded.get(route, 0) < offset}

    def _behind(self, marks: Mapping[Route, int]) -> str:
        """What to tell a user whose wait for the marks has ended."""
        events = sum(max(0, offset - self._folded.get(route, 0)) for route, offset in marks.items())
        where = ", ".join(
            f"{route.topic}/{route.partition} at offset {self._folded.get(route, 0)} of {offset}"
            for route, offset in sorted(marks.items())
        )
        return (
            f"the projection is {events} event{'s' * (events != 1)} behind ({where}): is a consumer running? start "
            "one with `trialstream consume` (or `trialstream up`); nothing is lost, the events lie in Kafka"
        )

    async def _read_checkpoints(self, marks: Mapping[Route, int], polls: int) -> None:
        ids = {f"{route.topic}/{route.partition}": route for route in marks}
        async with self._errors():
            for each in await self._database.checkpoints.find({"_id": {"$in": list(ids)}}, {"offset": 1}).to_list(None):
                self._folded[ids[each["_id"]]] = each["offset"]
            # A projection that takes over is at least as far, so what was found stays true; the next look is there.
            if _look(polls) and self._missing(marks):
                await self._switched()

    # --- Outcomes

    async def outcome(self, request: str, timeout: float) -> Outcome | None:
        """What became of a request, or None if the fold has not decided it in that many seconds."""
        decided = self._waiting[request] = anyio.Event()
        self._polls = min(self._polls, 1)  # what is late makes nobody else wait
        self._wake.set()
        try:
            with anyio.move_on_after(timeout):
                await decided.wait()
            if (found := self._outcomes.pop(request, None)) is None:
                return None
            trial = trial_from_document(found["trials"][0]) if found["trials"] else None
            return Outcome(found["uid"], found["applied"], found["reason"], trial)
        finally:
            del self._waiting[request]

    async def poll_outcomes(self) -> None:
        """Look for the outcomes that are waited for, all in one query, until cancelled."""
        while True:
            if not self._waiting:
                self._wake = anyio.Event()
                await self._wake.wait()
            self._polls = 0
            while self._waiting:
                await anyio.sleep(_pause(self._polls))
                self._polls += 1
                try:
                    if await self._decided():
                        self._polls = 1
                    elif _look(self._polls):
                        await self._switched()
                except PyMongoError:  # who waits has a deadline; MongoDB may come back before it
                    log.debug("outcomes could not be read", exc_info=True)

    async def _decided(self) -> int:
        """Look for outcomes; how many there were."""
        pending = [request for request, event in self._waiting.items() if not event.is_set()]
        if not pending:
            return 0
        found = await self._database.outcomes.aggregate([{"$match": {"_id": {"$in": pending}}}, *_WITH_TRIAL]).to_list(
            None
        )
        for each in found:
            if (event := self._waiting.get(each["_id"])) is not None:  # else its wait has ended
                self._outcomes[each["_id"]] = each
                event.set()
        return len(found)


def _pause(polls: int) -> float:
    """Seconds until the next look, after so many."""
    return _POLL_SECONDS[min(polls, len(_POLL_SECONDS) - 1)]


def _look(polls: int) -> bool:
    """Whether to look which projection is live, after so many looks for what a fold brings."""
    return polls == 0 or polls > _PUNCTUAL_POLLS


async def _documents(
    database: Database, collection: str, filter_: Filter, sort: Keys | None, limit: int
) -> list[Document]:
    return await database[collection].find(filter_, sort=sort, limit=limit).to_list(None)


async def _members(database: Database, collection: str, field: str, uids: list[str]) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {}
    if uids:
        cursor = database[collection].find({field: {"$in": uids}}, {field: 1})
        for each in await cursor.sort([("created", 1), ("_id", 1)]).to_list(None):
            members.setdefault(each[field], []).append(each["_id"])
    return members
