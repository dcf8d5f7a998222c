"""Comparison of the live projection with another one, document by document, as BSON, while consumers run.

The live projection is read in a snapshot, and the other one is first folded to the checkpoints of that snapshot, so
both versions of a document are of the same moment. MongoDB keeps a snapshot for five minutes only, so a long comparison
takes a new one every minute.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClientSession
from trialstream.config import Config
from trialstream.reading.live import Collections, collections_of
from trialstream_schemas.storage.collections import COLLECTIONS, Namespace
from trialstream_schemas.storage.outcomes import COPY_OF

from trialstream_consumer.projection.client import Document, mongo_client, mongo_errors

__all__ = ["Comparison", "Difference"]

_SNAPSHOT_SECONDS = 60.0
# Number of documents in a batch. A full history bucket of a few columns has 30 KB, so a batch has some megabytes.
_DOCUMENTS = 256
# Maximum number of paths in a difference.
_FIELDS = 8
# The log determines the offset of a checkpoint. It does not determine the owner of a partition, nor the checkpoint of a
# partition that was taken over and never folded, nor the copy of an outcome whose request two subjects used.
_FILTERS: dict[str, Document] = {
    "checkpoints": {"offset": {"$ne": 0}},
    "outcomes": {COPY_OF: {"$exists": False}},
}
_FIELDS_LEFT_OUT: dict[str, dict[str, int]] = {"checkpoints": {"epoch": 0, "session": 0}}


@dataclass(frozen=True)
class Difference:
    """A document of the live projection that differs from the fold of the log.

    Attributes:
        collection: Collection of the document.
        id: `_id` of the document.
        kind: `missing`: only in the fold of the log; `surplus`: only in the live projection; `differs`: in both.
        fields: The first paths that differ, for `differs`; empty if only the order of fields differs.
    """

    collection: str
    id: Any
    kind: Literal["missing", "surplus", "differs"]
    fields: tuple[str, ...] = ()


class Comparison:
    """Comparison of the live projection with another one; an async context manager.

    Args:
        config: Settings with the address of MongoDB.
        live: Place of the live projection.
        other: Place of the other projection, folded from the log and written by no other process.
        fold_to: Folds the other projection up to the given offsets (id of the checkpoint → offset).

    Attributes:
        compared: Number of documents of the live projection compared so far.
    """

    def __init__(
        self,
        config: Config,
        live: Namespace,
        other: Namespace,
        fold_to: Callable[[dict[str, int]], Awaitable[None]],
    ) -> None:
        self.compared = 0
        self._client = mongo_client(config)
        self._live = collections_of(self._client, live)
        self._other = collections_of(self._client, other)
        self._fold_to = fold_to
        self._session: AsyncIOMotorClientSession | None = None
        # When the snapshot was opened, on the monotonic clock.
        self._snapshot_begun = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.close()

    async def count(self) -> int:
        """Estimated number of documents to compare.

        Raises:
            MongoUnavailable: MongoDB did not answer.
        """
        async with mongo_errors(self._client):
            return sum([await self._live[name].estimated_document_count() for name in COLLECTIONS])

    async def differences(self) -> AsyncIterator[Difference]:
        """Compare all documents of all collections.

        Yields:
            Each document that differs.

        Raises:
            MongoUnavailable: MongoDB did not answer.
        """
        for name in COLLECTIONS:
            async for batch, _ in self._batches(name, of_live=True):
                folded = await self._documents(self._other, name, [each["_id"] for each in batch], None)
                for each in batch:
                    if difference := _compare(name, each, folded.get(each["_id"])):
                        yield difference
                self.compared += len(batch)
            async for batch, session in self._batches(name, of_live=False):
                live = await self._documents(self._live, name, [each["_id"] for each in batch], session)
                for each in batch:
                    if each["_id"] not in live:
                        yield Difference(name, each["_id"], "missing")

    async def _batches(
        self, name: str, *, of_live: bool
    ) -> AsyncIterator[tuple[list[RawBSONDocument], AsyncIOMotorClientSession]]:
        """All documents of a collection in the order of their ids, with the snapshot of the live projection.

        Args:
            name: Name of the collection.
            of_live: True for the documents of the live projection, False for the ids of those in the other one.
        """
        last: list[Any] = []
        while True:
            session = await self._snapshot()
            collection = _raw((self._live if of_live else self._other)[name])
            fields = _FIELDS_LEFT_OUT.get(name) if of_live else {"_id": 1}
            cursor = collection.find(_FILTERS.get(name, {}), fields, session=session if of_live else None)
            # The batches continue by the bounds of the index, not by `$gt`, which compares ids of one type only: other
            # programs may have written ids of any type.
            cursor = cursor.sort([("_id", 1)]).hint([("_id", 1)])
            if last:
                cursor = cursor.min([("_id", last[0])]).skip(1)
            while True:
                async with mongo_errors(self._client):
                    batch = await cursor.to_list(_DOCUMENTS)
                if not batch:
                    return
                yield batch, session
                last = [batch[-1]["_id"]]
                if self._is_snapshot_old():
                    break

    def _is_snapshot_old(self) -> bool:
        return time.monotonic() - self._snapshot_begun > _SNAPSHOT_SECONDS

    async def _snapshot(self) -> AsyncIOMotorClientSession:
        """Return a session with a snapshot of the live projection; fold the other one to the snapshot's checkpoints."""
        if self._session is None or self._is_snapshot_old():
            async with mongo_errors(self._client):
                if self._session is not None:
                    await self._session.end_session()
                self._session = await self._client.start_session(snapshot=True)
                found = self._live["checkpoints"].find({"offset": {"$exists": True}}, session=self._session)
                offsets = {each["_id"]: each["offset"] async for each in found}
            await self._fold_to(offsets)
            self._snapshot_begun = time.monotonic()
        return self._session

    async def _documents(
        self, collections: Collections, name: str, ids: list[Any], session: AsyncIOMotorClientSession | None
    ) -> dict[Any, RawBSONDocument]:
        async with mongo_errors(self._client):
            found = _raw(collections[name]).find({"_id": {"$in": ids}}, _FIELDS_LEFT_OUT.get(name), session=session)
            return {each["_id"]: each async for each in found}


def _raw(collection: Any) -> Any:
    return collection.with_options(codec_options=CodecOptions(document_class=RawBSONDocument))


def _compare(name: str, live: RawBSONDocument, folded: RawBSONDocument | None) -> Difference | None:
    if folded is None:
        return Difference(name, live["_id"], "surplus")
    if live.raw == folded.raw:
        return None
    paths = _paths("", bson.decode(live.raw), bson.decode(folded.raw))
    fields = [path for path, _ in zip(paths, range(_FIELDS), strict=False)]
    return Difference(name, live["_id"], "differs", tuple(fields))


def _paths(path: str, live: Any, folded: Any) -> Iterator[str]:
    """The paths at which two values differ, by type or value; the order of fields is ignored."""
    if isinstance(live, dict) and isinstance(folded, dict):
        for key in [*live, *(each for each in folded if each not in live)]:
            inner = f"{path}.{key}" if path else key
            if (key in live) != (key in folded):
                yield inner
            else:
                yield from _paths(inner, live[key], folded[key])
    elif isinstance(live, list) and isinstance(folded, list) and len(live) == len(folded):
        for i, (one, other) in enumerate(zip(live, folded, strict=True)):
            yield from _paths(f"{path}.{i}", one, other)
    elif bson.encode({"": live}) != bson.encode({"": folded}):  # NaN equals NaN, and 1 is not 1.0
        yield path
