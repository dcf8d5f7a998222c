"""The `Reader` over a store in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import anyio
from trialstream.event_log.topics import Route
from trialstream.pipeline.signals import ProgressSignal
from trialstream.protocol import Query, Sort
from trialstream.reading.feed import ChangeFeed
from trialstream.reading.fields import ATTEMPT_FIELDS, partial_fields
from trialstream.reading.paths import FIELDS, GROUP_FIELDS, PROJECT_FIELDS, TRIAL_FIELDS
from trialstream.reading.query import find, translate
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
from trialstream.reading.sorting import OLDEST_FIRST, sort_keys
from trialstream.reading.values import cut, value_fields
from trialstream_schemas.model.outcome import Outcome
from trialstream_schemas.model.trial import Project, Trial, TrialGroup
from trialstream_schemas.storage.documents import (
    group_from_document,
    partial_group_from_document,
    partial_project_from_document,
    partial_trial_from_document,
    project_from_document,
    trial_from_document,
)

from trialstream_consumer.memory.bson_order import MISSING
from trialstream_consumer.memory.expressions import field_value
from trialstream_consumer.memory.feed import MemoryFeed
from trialstream_consumer.memory.finding import found_documents
from trialstream_consumer.memory.store import Document, MemoryStore

__all__ = ["MemoryReader"]


class MemoryReader(Reader):
    """Reads the documents of a store. Belongs to one event loop.

    Args:
        store: The store.
    """

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._folded = ProgressSignal()
        loop = asyncio.get_running_loop()

        def notify() -> None:
            with suppress(RuntimeError):  # another thread appends while this loop ends
                loop.call_soon_threadsafe(self._folded.notify)

        self._listener = notify
        store.listeners.append(self._listener)

    def close(self) -> None:
        """Stop listening to the store."""
        self._store.listeners.remove(self._listener)

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
        asked, keys = find(query, TRIAL_FIELDS, sort, limit, offset), sort_keys(sort, TRIAL_FIELDS)
        projection = partial_fields(fields, "trials").projection
        made = trial_from_document if projection is None else partial_trial_from_document

        async def read() -> list[Trial]:
            return [
                made(each)
                for each in self._find("trials", asked.filter, keys, asked.limit, projection, offset=asked.offset)
            ]

        return read

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
        asked, keys = find(query, TRIAL_FIELDS, sort, limit, offset), sort_keys(sort, TRIAL_FIELDS)
        wanted = value_fields(fields, max_bytes)

        async def read() -> list[tuple[Any, ...]]:
            found = self._find("trials", asked.filter, keys, asked.limit, offset=asked.offset)
            values = [[cut(field_value(each, path), most) for path, most in wanted.paths] for each in found]
            return wanted.rows({"r": [None if x is MISSING else x for x in row]} for row in values)

        return read

    def trial_counts(self, by: Owner, project: str | None) -> Read[list[TrialCounts]]:
        """See `Reader.trial_counts`."""
        filter_: Mapping[str, Any] = {by: {"$ne": None}} if project is None else {"project_id": project}

        async def read() -> list[TrialCounts]:
            found: dict[str, TrialCounts] = {}
            for each in self._find("trials", filter_, OLDEST_FIRST, projection={by: 1, "status": 1, "last_seen": 1}):
                if (uid := each.get(by)) is not None:
                    code = (each.get("status") or {}).get("code", 0)
                    _, trials, running, failed, seen = found.get(uid, TrialCounts(uid, 0, 0, 0, None))
                    last_seen = max((x for x in (seen, each.get("last_seen")) if x is not None), default=None)
                    running, failed = running + (100 <= code < 200), failed + (200 <= code < 300)
                    found[uid] = TrialCounts(uid, trials + 1, running, failed, last_seen)
            return list(found.values())

        return read

    def headings(
        self, collection: Literal["groups", "projects"], project: str | None, limit: int
    ) -> Read[list[Heading]]:
        """See `Reader.headings`."""
        filter_ = {} if project is None else {"project_id": project}

        async def read() -> list[Heading]:
            found = self._find(collection, filter_, [("created", -1), ("_id", -1)], limit)
            return [
                Heading(
                    each["_id"],
                    each["name"],
                    (each.get("description") or "")[:HEADING_TEXT],
                    each.get("project_id"),
                    each.get("created"),
                )
                for each in found
            ]

        return read

    def count(self, query: Query | None = None) -> Read[int]:
        """See `Reader.count`."""
        filter_ = find(query, TRIAL_FIELDS).filter

        async def read() -> int:
            return len(self._find("trials", filter_, OLDEST_FIRST, projection={}))

        return read

    def groups(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> Read[list[TrialGroup]]:
        """See `Reader.groups`."""
        asked, keys = find(query, GROUP_FIELDS, sort, limit), sort_keys(sort, GROUP_FIELDS)
        projection, members = partial_fields(fields, "groups")
        made = group_from_document if projection is None else partial_group_from_document

        async def read() -> list[TrialGroup]:
            with self._store.lock:
                groups = [made(each) for each in self._find("groups", asked.filter, keys, asked.limit, projection)]
                trials = self._members("trials", "group_id", [each.uid for each in groups], wanted="trials" in members)
            for group in groups:
                group.trials = trials.get(group.uid, [])
            return groups

        return read

    def projects(
        self,
        query: Query | None = None,
        *,
        sort: Sort = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> Read[list[Project]]:
        """See `Reader.projects`."""
        asked, keys = find(query, PROJECT_FIELDS, sort, limit), sort_keys(sort, PROJECT_FIELDS)
        projection, members = partial_fields(fields, "projects")
        made = project_from_document if projection is None else partial_project_from_document

        async def read() -> list[Project]:
            with self._store.lock:
                projects = [made(each) for each in self._find("projects", asked.filter, keys, asked.limit, projection)]
                uids = [each.uid for each in projects]
                groups = self._members("groups", "project_id", uids, wanted="groups" in members)
                trials = self._members("trials", "project_id", uids, wanted="trials" in members)
            for project in projects:
                project.groups = groups.get(project.uid, [])
                project.trials = trials.get(project.uid, [])
            return projects

        return read

    def _find(
        self,
        collection: Collection,
        filter_: Mapping[str, Any],
        sort: Sequence[tuple[str, int]],
        limit: int = 0,
        projection: Mapping[str, int] | None = None,
        *,
        offset: int = 0,
    ) -> list[Document]:
        return self._store.read(
            collection, lambda documents: found_documents(documents, filter_, sort, limit, projection, offset)
        )

    def _members(self, collection: Collection, field: str, uids: list[str], *, wanted: bool) -> dict[str, list[str]]:
        """Return, by uid of a group or project, the uids of its members, the oldest first."""
        members: dict[str, list[str]] = {}
        if wanted and uids:
            for each in self._find(collection, {field: {"$in": uids}}, OLDEST_FIRST, projection={field: 1}):
                members.setdefault(each[field], []).append(each["_id"])
        return members

    def candidates(self, collection: Collection, query: Query) -> CandidateQuery:
        """See `Reader.candidates`."""
        filter_ = translate(query, FIELDS[collection])

        async def find_candidates(limit: int) -> list[Candidate]:
            found = self._find(collection, filter_, OLDEST_FIRST, limit, {"state_version": 1})
            return [Candidate(each["_id"], each["state_version"]) for each in found]

        return CandidateQuery(f"{collection} {filter_!r}", find_candidates)

    def changes(self, query: Query | None = None, *, fields: Sequence[str] | None = None) -> ChangeFeed:
        """See `Reader.changes`."""
        filter_, projection = find(query, TRIAL_FIELDS).filter, partial_fields(fields, "trials").projection
        made = trial_from_document if projection is None else partial_trial_from_document
        return MemoryFeed(self._store, self._folded, filter_, projection, made)

    async def check_log(self, log: object) -> None:
        """Do nothing: the documents are of the only log that there is."""

    async def existing(self, collection: Collection, uids: Sequence[str]) -> list[str]:
        """See `Reader.existing`."""
        found = self._find(collection, {"_id": {"$in": list(uids)}}, OLDEST_FIRST, projection={})
        return [each["_id"] for each in found]

    async def histories(
        self,
        uids: Sequence[str],
        section: Section,
        names: Sequence[str],
        since: Since,  # noqa: ARG002 (all rows are read)
        with_attempts: WithAttempts = "none",
    ) -> StoredHistories:
        """See `Reader.histories`; "rewound" reads all trials with attempts, too."""
        with self._store.lock:
            buckets = self._store.buckets(uids, section, names)
            if with_attempts == "none":
                return StoredHistories(buckets, {})
            filter_ = {"_id": {"$in": list(uids)}, "attempts": {"$exists": True}}
            found = self._find("trials", filter_, OLDEST_FIRST, projection=ATTEMPT_FIELDS)
        return StoredHistories(buckets, {each["_id"]: partial_trial_from_document(each) for each in found})

    # --- Waiting for the fold

    async def outcome(self, id_: str) -> Outcome | None:
        """See `Reader.outcome`."""
        return self._store.outcome(id_)[0]

    async def decision(self, id_: str, timeout: float) -> Decision | None:
        """See `Reader.decision`."""
        with anyio.move_on_after(timeout):
            while (decided := self._store.outcome(id_))[0] is None:
                await self._folded.wait()
        outcome, trial = decided
        if outcome is None:
            return None
        return Decision(outcome, None if trial is None else trial_from_document(trial))

    async def poll_decisions(self) -> None:
        """Wait until cancelled: the store reports what it has folded."""
        await anyio.sleep_forever()

    async def wait_folded(self, offsets: Mapping[Route, int], timeout: float, *, fresh: bool = False) -> None:
        """Do nothing: an event is folded once it is in the log."""
