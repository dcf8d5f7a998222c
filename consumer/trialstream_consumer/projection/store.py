"""The store: loads the state that a batch needs, and writes what the batch changed.

Each batch is one transaction with these steps:

1. Compare-and-set the checkpoint: unless the checkpoint has the owner's epoch and the offset at which the batch begins,
   the owner is fenced (`ownership.py`).
2. Replace the documents that the batch changed.
3. Write the history buckets that the batch filled, their outlines, its outcomes and its dead letters.

So the documents contain a batch if and only if the checkpoint is past the batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any
from weakref import WeakSet

from pymongo import ReplaceOne, timeout
from trialstream.reading.live import run_driver
from trialstream.reading.pieces import pieces
from trialstream_schemas.model.history import Bucket
from trialstream_schemas.model.outline import outline_documents
from trialstream_schemas.model.values import size
from trialstream_schemas.storage.collections import Namespace
from trialstream_schemas.storage.documents import (
    group_from_document,
    group_to_document,
    project_from_document,
    project_to_document,
    trial_from_document,
    trial_to_document,
)
from trialstream_schemas.storage.outcomes import (
    outcome_copy,
    outcome_to_document,
    stored_outcome,
    stored_outcome_ids,
)

from trialstream_consumer.fold import BucketKey, Needs, State, resolve
from trialstream_consumer.projection.client import CALL_SECONDS, Connection, Document
from trialstream_consumer.projection.dead_letters import DeadLetter
from trialstream_consumer.projection.ownership import Checkpoint, Ownership

__all__ = ["Oversized", "Store"]

# One batch is folded while another one is written: a third would only take memory. Measured with 8 partitions, a
# consumer that folds a backlog of 64 trials takes 220 MiB instead of 340 to 430, at the same rate.
_TURNS = 2
# Size of a document without its larger fields, bytes, in round figures.
_DOCUMENT_BYTES = 1024


class Oversized(Exception):
    """The documents that a batch needs are too large together.

    Attributes:
        share: Part of the documents that fits, between 0 and 1.
    """

    def __init__(self, share: float) -> None:
        super().__init__(f"the documents that a batch needs are too large together; {share:.1%} of them fit")
        self.share = share


class Store:
    """The documents of one projection. All workers of a process share one store.

    Args:
        connection: Connection to MongoDB.
        namespace: Place of the projection.
        live: True if the projection can be written only while it is the live one; False if only while it is not.

    Attributes:
        namespace: Place of the projection.
        ownership: Checkpoints of the projection.
        turns: Held by a worker while it decodes, folds and writes batches, one after the other: no more batches than
            turns are in memory, decoded, with the documents loaded for them.
        workers: The workers that fold into this projection: they share the memory for states.
    """

    def __init__(self, connection: Connection, namespace: Namespace, *, live: bool = True) -> None:
        self.namespace = namespace
        self.ownership = Ownership(connection, namespace, live=live)
        self.turns = asyncio.Semaphore(_TURNS)
        self.workers: WeakSet[Any] = WeakSet()
        self._connection = connection
        self._collections = connection.collections(namespace)

    # --- Loading

    async def load(self, state: State, needs: Needs, most: int | None = None) -> int:
        """Load the documents that a batch needs and the state lacks.

        A document that does not exist becomes None in the state; the next revision of an unknown hash becomes 0.

        Args:
            state: The state to complete.
            needs: Ids of the documents that a batch needs.
            most: Maximum size of the documents of one collection, bytes; None for no limit.

        Returns:
            The size of the documents that were loaded, bytes, in round figures.

        Raises:
            MongoUnavailable: MongoDB did not answer.
            Oversized: The documents are larger; the state is incomplete.
            Unwritable: MongoDB cannot take a query for them.
        """
        async with self._connection.errors():
            return await self._load(state, needs, most)

    async def _load(self, state: State, needs: Needs, most: int | None) -> int:
        # A trial that is addressed by a request can be resolved only after the request's outcome is loaded, so these
        # trials and their buckets are loaded second.
        plain = {each for each in needs.trials if "~" not in each}
        shapes = {each for each in needs.shapes if each[0] in plain}
        loaded = await _together(
            most,
            (self._load_outcomes, state, needs.outcomes - state.outcomes.keys()),
            (self._load_revisions, state, needs.hashes - state.revisions.keys()),
            (self._load_groups, state, needs.groups - state.groups.keys()),
            (self._load_projects, state, needs.projects - state.projects.keys()),
            (self._load_trials, state, plain - state.trials.keys()),
            (self._load_buckets, state, shapes - state.buckets.keys()),
        )
        uids = {uid for address in needs.trials - plain if (uid := resolve(state, address))}
        keys = {(uid, shape) for address, shape in needs.shapes - shapes if (uid := resolve(state, address))}
        return loaded + await _together(
            most,
            (self._load_trials, state, uids - state.trials.keys()),
            (self._load_buckets, state, keys - state.buckets.keys()),
        )

    async def _load_outcomes(self, state: State, ids: set[str], most: int | None) -> int:
        stored = {stored for id_ in ids for stored in stored_outcome_ids(id_)}
        found, loaded = await self._find("outcomes", stored, most)
        state.outcomes.update({id_: stored_outcome(id_, found) for id_ in ids})
        return loaded

    async def _load_revisions(self, state: State, hashes: set[str], _: int | None) -> int:
        state.revisions.update(dict.fromkeys(hashes, 0))
        for some in pieces(sorted(hashes)):
            pipeline: list[Document] = [
                {"$match": {"hash": {"$in": some}}},
                {"$group": {"_id": "$hash", "latest": {"$max": "$revision"}}},
            ]
            latest = await self._collections["trials"].aggregate(pipeline).to_list(None)
            state.revisions.update({each["_id"]: each["latest"] + 1 for each in latest})
        return 0

    async def _load_groups(self, state: State, uids: set[str], most: int | None) -> int:
        found, loaded = await self._find("groups", uids, most)
        state.groups.update({uid: group_from_document(each) if each else None for uid, each in found.items()})
        return loaded

    async def _load_projects(self, state: State, uids: set[str], most: int | None) -> int:
        found, loaded = await self._find("projects", uids, most)
        state.projects.update({uid: project_from_document(each) if each else None for uid, each in found.items()})
        return loaded

    async def _load_trials(self, state: State, uids: set[str], most: int | None) -> int:
        found, loaded = await self._find("trials", uids, most)
        state.trials.update({uid: trial_from_document(each) if each else None for uid, each in found.items()})
        return loaded

    async def _load_buckets(self, state: State, keys: set[BucketKey], most: int | None) -> int:
        buckets = {Bucket(*key).open_id: key for key in keys}
        found, loaded = await self._find("series", buckets, most)
        state.buckets.update(
            {buckets[id_]: Bucket.from_document(each) if each else None for id_, each in found.items()}
        )
        return loaded

    async def _find(
        self, collection: str, ids: Iterable[str], most: int | None
    ) -> tuple[dict[str, Document | None], int]:
        """Find documents by id, and their size; see `load`."""
        documents, size_of = self._collections[collection].delegate, _SIZES.get(collection, _known_size)

        def find() -> tuple[dict[str, Document | None], int]:
            found: dict[str, Document | None] = dict.fromkeys(ids)
            total = count = 0
            for some in pieces(list(found)):
                for document in documents.find({"_id": {"$in": some}}):
                    found[document["_id"]] = document
                    total += size_of(document)
                    count += 1
                    if most is not None and total > most:
                        raise Oversized(count / len(found))
            return found, total

        return await run_driver(
            find
        )  # MongoDB sends the documents in parts of 16 MiB: no more are held than are counted

    # --- Writing

    async def write(
        self, checkpoint: Checkpoint, offset: int, state: State, dead_letters: list[DeadLetter]
    ) -> Checkpoint:
        """Write the changes of the batch from `checkpoint` to `offset`.

        Args:
            checkpoint: The checkpoint at which the batch begins.
            offset: The offset after the last record of the batch.
            state: The state after the batch, with the changes of the batch.
            dead_letters: Dead letters of the batch.

        Returns:
            The checkpoint after the batch.

        Raises:
            Fenced: The partition was taken over, or the checkpoint has moved; nothing was written.
            MongoUnavailable: MongoDB did not answer; `Ownership.current` shows whether the batch was written.
            Unwritable: A document is too large or holds a value that BSON cannot encode; nothing was written.
        """
        with timeout(CALL_SECONDS):
            async with self._connection.errors():
                writes = _writes(state, dead_letters)
                async with self.ownership.advancing(checkpoint, offset) as session:
                    for collection, operations in writes.items():
                        await self._collections[collection].bulk_write(operations, ordered=False, session=session)
        return replace(checkpoint, offset=offset)


async def _together(
    most: int | None, *loads: tuple[Callable[[State, Any, int | None], Awaitable[int]], State, set[Any]]
) -> int:
    """Run all loads that have something to load at the same time, because each takes a round trip."""
    return sum(await asyncio.gather(*(load(state, missing, most) for load, state, missing in loads if missing)))


def _known_size(document: Document) -> int:
    """Size of a document: about that of an outcome, or that which a trial has in it."""
    return _DOCUMENT_BYTES + int(document.get("size", 0))


def _labels_size(document: Document) -> int:
    return _DOCUMENT_BYTES + size(document["metadata"]) + size(document["tags"])


def _bucket_size(document: Document) -> int:
    return _DOCUMENT_BYTES + len(document["times"]) * (len(document["names"]) + 2)


_SIZES = {"groups": _labels_size, "projects": _labels_size, "series": _bucket_size}


def _writes(state: State, dead_letters: list[DeadLetter]) -> dict[str, list[ReplaceOne[Document]]]:
    """Return, by collection, the replacements that make the documents equal the state."""
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
        "outlines": [*outline_documents(changes.filled)],
        "outcomes": [
            *map(outcome_to_document, changes.outcomes),
            *filter(None, map(outcome_copy, changes.outcomes)),
        ],
        "dead_letters": [each.to_document() for each in dead_letters],
    }
    return {
        collection: [ReplaceOne({"_id": each["_id"]}, each, upsert=True) for each in found]
        for collection, found in documents.items()
        if found
    }
