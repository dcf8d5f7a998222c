"""The `Reader` over MongoDB."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import timeout as driver_timeout
from trialstream_schemas.model.outcome import Outcome
from trialstream_schemas.model.outline import Outline
from trialstream_schemas.model.trial import Project, Trial, TrialGroup
from trialstream_schemas.storage.documents import (
    group_from_document,
    partial_group_from_document,
    partial_project_from_document,
    partial_trial_from_document,
    project_from_document,
    trial_from_document,
)
from trialstream_schemas.storage.outcomes import stored_outcome, stored_outcome_ids

from trialstream.config import Config
from trialstream.event_log.topics import Route
from trialstream.protocol import Query, Sort
from trialstream.reading.buckets import read_buckets
from trialstream.reading.feed import ChangeFeed
from trialstream.reading.fields import ATTEMPT_FIELDS, partial_fields
from trialstream.reading.folded import FoldedOffsets
from trialstream.reading.live import Collections, Document, LiveProjection, SyncCollection
from trialstream.reading.mongo_feed import MongoFeed
from trialstream.reading.outcomes import DecisionPoller
from trialstream.reading.outlines import read_outlines
from trialstream.reading.paths import FIELDS, GROUP_FIELDS, PROJECT_FIELDS, TRIAL_FIELDS
from trialstream.reading.pieces import pieces
from trialstream.reading.query import Find, find, translate
from trialstream.reading.raw_documents import documents
from trialstream.reading.reader import (
    HEADING_TEXT,
    Candidate,
    CandidateQuery,
    Collection,
    Decision,
    Heading,
    Owner,
    Read,
    Reader,
    Section,
    Since,
    StoredHistories,
    TrialCounts,
    WithAttempts,
)
from trialstream.reading.sorting import OLDEST_FIRST
from trialstream.reading.uri import driver_options
from trialstream.reading.values import value_fields

__all__ = ["MongoReader"]


# Time to find a server, unless the protocol's timeout is shorter: a replica set elects a new primary within it, and the
# error of a server that refuses this client comes within five seconds.
_SELECTION_SECONDS = 4.0
_CLOSE_SECONDS = 1.0
# A run starts without MongoDB too, so the check of its log may not hold it up.
_CHECK_SECONDS = 1.0
_WITH_ATTEMPTS: dict[str, Document] = {
    "rewound": {"attempts.resume_step": {"$type": "number"}},
    "all": {"attempts": {"$exists": True}},
}
# Trials in one answer of MongoDB. The driver decodes an answer as a whole, and the garbage collector takes a third less
# time if the documents of 10,000 trials are not all held beside what is made from them (measured).
_BATCH_TRIALS = 1000


_HEADING: Document = {
    "name": 1,
    "project_id": 1,
    "created": 1,
    "description": {"$substrCP": [{"$ifNull": ["$description", ""]}, 0, HEADING_TEXT]},
}


def _counted(by: Owner) -> Document:
    """Return the stage that makes the documents of `TrialCounts`."""

    def number(least: int) -> Document:
        code = "$status.code"
        return {"$sum": {"$cond": [{"$and": [{"$gte": [code, least]}, {"$lt": [code, least + 100]}]}, 1, 0]}}

    numbers = {"trials": {"$sum": 1}, "running": number(100), "failed": number(200)}
    return {"$group": {"_id": f"${by}", **numbers, "last_seen": {"$max": "$last_seen"}}}


class MongoReader(Reader):
    """Reads the documents that the consumer writes. Belongs to one event loop.

    Args:
        config: Where MongoDB is, and which projection to read.
        timeout: Maximum time to find a server, and of all requests of a call in MongoDB, seconds.

    Raises:
        ConfigError: The URI of MongoDB is invalid.
    """

    def __init__(self, config: Config, timeout: float) -> None:
        settings: dict[str, Any] = {"socketTimeoutMS": 60_000, **driver_options(config)}
        if "serverselectiontimeoutms" not in config.mongo.lower():  # a timeout in the user's URI wins
            settings["serverSelectionTimeoutMS"] = int(1000 * min(timeout, _SELECTION_SECONDS))
        self._client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(config.mongo, **settings)
        self._live = LiveProjection(self._client, config, timeout)
        self._decisions = DecisionPoller(self._live)
        self._folded = FoldedOffsets(self._live)

    async def open(self) -> None:
        """Check that a named projection can be read.

        Raises:
            ItemNotFound: There is no projection of that name, or it is not finished.
            MongoUnavailable: MongoDB does not answer.
        """
        if self._live.is_named:
            await self._live.check_named()

    def close(self) -> None:
        """Close the connections."""
        # The driver reports its ended sessions to MongoDB, and waits for the answer.
        with driver_timeout(_CLOSE_SECONDS):
            self._client.close()

    # --- Documents

    def trials(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        offset: int = 0,
        fields: Sequence[str] | None = None,
    ) -> Read[list[Trial]]:
        """See `Reader.trials`."""
        asked = find(query, TRIAL_FIELDS, sort, limit, offset)
        projection = partial_fields(fields, "trials").projection
        made = trial_from_document if projection is None else partial_trial_from_document

        return lambda: self._live.documents(
            "trials", lambda trials: [made(each) for each in self._found(trials, asked, projection)]
        )

    def values(
        self,
        fields: Sequence[str],
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        offset: int = 0,
        max_bytes: int | None = None,
    ) -> Read[list[tuple[Any, ...]]]:
        """See `Reader.values`."""
        asked = find(query, TRIAL_FIELDS, sort, limit, offset)
        wanted = value_fields(fields, max_bytes)
        return lambda: self._live.documents(
            "trials", lambda trials: wanted.rows(self._found(trials, asked, wanted.projection))
        )

    def count(self, query: Query | None = None) -> Read[int]:
        """See `Reader.count`."""
        filter_ = find(query, TRIAL_FIELDS).filter

        async def read_from(collections: Collections) -> int:
            found: int = await collections["trials"].count_documents(filter_, maxTimeMS=self._live.max_time_ms)
            return found

        return lambda: self._live.read(read_from)

    def trial_counts(self, by: Owner, project: str | None) -> Read[list[TrialCounts]]:
        """See `Reader.trial_counts`."""
        stages = [{"$match": {by: {"$ne": None}} if project is None else {"project_id": project}}, _counted(by)]

        def read(trials: SyncCollection[Document]) -> list[TrialCounts]:
            found = trials.aggregate(stages, maxTimeMS=self._live.max_time_ms)
            return [TrialCounts(each.pop("_id"), **each) for each in found if each["_id"] is not None]

        return lambda: self._live.documents("trials", read)

    def headings(
        self, collection: Literal["groups", "projects"], project: str | None, limit: int
    ) -> Read[list[Heading]]:
        """See `Reader.headings`."""
        filter_ = {} if project is None else {"project_id": project}

        def read(documents: SyncCollection[Document]) -> list[Heading]:
            found = documents.find(
                filter_, _HEADING, sort=[("created", -1), ("_id", -1)], limit=limit, max_time_ms=self._live.max_time_ms
            )
            return [
                Heading(each["_id"], each["name"], each["description"], each.get("project_id"), each.get("created"))
                for each in found
            ]

        return lambda: self._live.documents(collection, read)

    def _found(
        self, trials: SyncCollection[Document], asked: Find, projection: dict[str, Any] | None
    ) -> Iterable[Document]:
        """Find trials, in a thread of the driver."""
        limit = self._live.max_time_ms
        if asked.order.computed:
            found = trials.aggregate_raw_batches(asked.stages(projection), maxTimeMS=limit)
        else:
            found = trials.find_raw_batches(
                asked.filter, projection, asked.offset, asked.limit, sort=asked.order.keys, max_time_ms=limit
            )
        batches: Iterator[Any] = found.batch_size(_BATCH_TRIALS)  # of bytes, whatever the driver's annotations say
        return documents(batches)

    def groups(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> Read[list[TrialGroup]]:
        """See `Reader.groups`."""
        asked = find(query, GROUP_FIELDS, sort, limit)
        projection, members = partial_fields(fields, "groups")
        made = group_from_document if projection is None else partial_group_from_document

        async def read_from(found: Collections) -> list[TrialGroup]:
            groups = [made(each) for each in await self._documents(found, "groups", asked, projection)]
            uids = [each.uid for each in groups] if "trials" in members else []
            trials = await self._members(found, "trials", "group_id", uids)
            for group in groups:
                group.trials = trials.get(group.uid, [])
            return groups

        return lambda: self._live.read(read_from)

    def projects(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> Read[list[Project]]:
        """See `Reader.projects`."""
        asked = find(query, PROJECT_FIELDS, sort, limit)
        projection, members = partial_fields(fields, "projects")
        made = project_from_document if projection is None else partial_project_from_document

        async def read_from(found: Collections) -> list[Project]:
            projects = [made(each) for each in await self._documents(found, "projects", asked, projection)]
            uids = [each.uid for each in projects]
            groups = await self._members(found, "groups", "project_id", uids if "groups" in members else [])
            trials = await self._members(found, "trials", "project_id", uids if "trials" in members else [])
            for project in projects:
                project.groups = groups.get(project.uid, [])
                project.trials = trials.get(project.uid, [])
            return projects

        return lambda: self._live.read(read_from)

    async def check_log(self, log: Awaitable[str]) -> None:
        """See `Reader.check_log`."""
        with driver_timeout(_CHECK_SECONDS):
            await self._live.check_log(log)

    async def existing(self, collection: Collection, uids: Sequence[str]) -> list[str]:
        """See `Reader.existing`."""
        limit = self._live.max_time_ms

        async def read(found: Collections) -> list[str]:
            return [
                each["_id"]
                for ids in pieces(dict.fromkeys(uids))
                for each in await found[collection]
                .find({"_id": {"$in": ids}}, {"_id": 1}, max_time_ms=limit)
                .to_list(None)
            ]

        return await self._live.read(read)

    async def _documents(
        self, found: Collections, collection: Collection, asked: Find, projection: dict[str, int] | None
    ) -> list[Document]:
        limit = self._live.max_time_ms
        if asked.order.computed:
            return await found[collection].aggregate(asked.stages(projection), maxTimeMS=limit).to_list(None)
        cursor = found[collection].find(
            asked.filter, projection, sort=asked.order.keys, limit=asked.limit, max_time_ms=limit
        )
        return await cursor.to_list(None)

    async def _members(
        self, found: Collections, collection: Collection, field: str, uids: list[str]
    ) -> dict[str, list[str]]:
        """Read, by uid of a group or project, the uids of its members, the oldest first."""
        members: dict[str, list[str]] = {}
        for ids in pieces(uids):
            cursor = found[collection].find(
                {field: {"$in": ids}}, {field: 1}, sort=OLDEST_FIRST, max_time_ms=self._live.max_time_ms
            )
            for each in await cursor.to_list(None):
                members.setdefault(each[field], []).append(each["_id"])
        return members

    def candidates(self, collection: Collection, query: Query) -> CandidateQuery:
        """See `Reader.candidates`."""
        filter_ = translate(query, FIELDS[collection])

        async def find_candidates(limit: int) -> list[Candidate]:
            async def read(found: Collections) -> list[Candidate]:
                cursor = found[collection].find(
                    filter_,
                    {"state_version": 1},
                    sort=OLDEST_FIRST,
                    limit=limit,
                    max_time_ms=self._live.max_time_ms,
                )
                return [Candidate(each["_id"], each["state_version"]) for each in await cursor.to_list(None)]

            return await self._live.read(read, is_final=bool)

        # The key is a text because as dicts, {"x": 1} and {"x": True} would be equal.
        return CandidateQuery(f"{collection} {filter_!r}", find_candidates)

    def changes(self, query: Query | None = None, *, fields: Sequence[str] | None = None) -> ChangeFeed:
        """See `Reader.changes`."""
        filter_, projection = find(query, TRIAL_FIELDS).filter, partial_fields(fields, "trials").projection
        made = trial_from_document if projection is None else partial_trial_from_document
        return MongoFeed(self._client, self._live, filter_, projection, made)

    # --- Histories

    async def histories(
        self,
        uids: Sequence[str],
        section: Section,
        names: Sequence[str],
        since: Since,
        with_attempts: WithAttempts = "none",
    ) -> StoredHistories:
        """See `Reader.histories`."""

        async def read(found: Collections) -> StoredHistories:
            # One snapshot: otherwise a bucket that fills up during a long read would be returned twice, open and full,
            # and a writer of its rows might be missing among the participants.
            async with await self._client.start_session(snapshot=True) as session:
                limit = self._live.max_time_ms
                buckets = await read_buckets(found, session, uids, section, names, since, limit)
                if with_attempts == "none":
                    return StoredHistories(buckets, {})
                trials: dict[str, Trial] = {}
                for ids in pieces(uids):
                    filter_ = {"_id": {"$in": ids}, **_WITH_ATTEMPTS[with_attempts]}
                    started = found["trials"].find(filter_, ATTEMPT_FIELDS, session=session, max_time_ms=limit)
                    trials.update({each["_id"]: partial_trial_from_document(each) async for each in started})
                return StoredHistories(buckets, trials)

        return await self._live.read(read)

    async def outlines(self, uids: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, Outline]]:
        """See `Reader.outlines`."""
        return await self._live.read(lambda found: read_outlines(found, uids, names, self._live.max_time_ms))

    # --- Waiting for the fold

    async def outcome(self, id_: str) -> Outcome | None:
        """See `Reader.outcome`."""
        filter_, limit = {"_id": {"$in": stored_outcome_ids(id_)}}, self._live.max_time_ms
        found = await self._live.read(lambda read: read["outcomes"].find(filter_, max_time_ms=limit).to_list(None))
        return stored_outcome(id_, {each["_id"]: each for each in found})

    async def decision(self, id_: str, timeout: float) -> Decision | None:
        """See `Reader.decision`."""
        return await self._decisions.wait(id_, timeout)

    async def poll_decisions(self) -> None:
        """See `Reader.poll_decisions`."""
        await self._decisions.run()

    async def wait_folded(self, offsets: Mapping[Route, int], timeout: float, *, fresh: bool = False) -> None:
        """See `Reader.wait_folded`."""
        await self._folded.wait(offsets, timeout, fresh=fresh)
