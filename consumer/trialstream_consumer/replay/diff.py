"""Compares two projections document by document, as BSON, while the live one is written.

The live one is read in a snapshot, and the other one is first folded to the checkpoints of that snapshot. MongoDB keeps
a snapshot for five minutes, so a long comparison takes a new one every minute: each document is compared at one moment.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorClientSession
from trialstream.config import Config
from trialstream_schemas.storage.collections import COLLECTIONS

from trialstream_consumer.projection.client import mongo_errors

__all__ = ["Comparison", "Difference"]

Document: TypeAlias = dict[str, Any]

_SNAPSHOT_SECONDS = 60.0
# Full buckets of a few columns have 30 KB: some MB at a time.
_DOCUMENTS = 256
_FIELDS = 8
# Who holds a partition, and one that was taken over and never folded, is not of the log.
_FILTERS: dict[str, Document] = {"checkpoints": {"offset": {"$ne": 0}}}
_FIELDS_LEFT_OUT: dict[str, dict[str, int]] = {"checkpoints": {"epoch": 0, "session": 0}}


@dataclass(frozen=True)
class Difference:
    """A document that is not in the live projection what the log says.

    Attributes:
        collection: Where it is.
        id: Its `_id`.
        kind: Whether the live projection lacks it, has it beyond the log, or has another one.
        fields: For another one, the paths that differ, the first of them; none if only the order of fields does.
    """

    collection: str
    id: Any
    kind: Literal["missing", "surplus", "differs"]
    fields: tuple[str, ...] = ()


class Comparison:
    """The live projection beside another one; an async context manager.

    Args:
        config: Where MongoDB is.
        live: Database of the live one.
        other: Database of the one that was folded from the log, and which nobody else writes.
        catch_up: Folds the other one to these offsets, by id of the checkpoint.

    Attributes:
        compared: Documents of the live one so far.
    """

    def __init__(
        self, config: Config, live: str, other: str, catch_up: Callable[[dict[str, int]], Awaitable[None]]
    ) -> None:
        self.compared = 0
        self._config = config
        self._client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(config.mongo)
        self._live = self._client[live]
        self._other = self._client[other]
        self._catch_up = catch_up
        self._session: AsyncIOMotorClientSession | None = None
        self._since = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.close()

    async def count(self) -> int:
        """About how many documents there are to compare.

        Raises:
            MongoUnavailable: MongoDB does not answer.
        """
        async with mongo_errors(self._config):
            return sum([await self._live[name].estimated_document_count() for name in COLLECTIONS])

    async def differences(self) -> AsyncIterator[Difference]:
        """Each document that differs.

        Raises:
            MongoUnavailable: MongoDB does not answer.
        """
        for name in COLLECTIONS:
            async for batch, _ in self._batches(name, of_live=True):
                theirs = await self._documents(self._other, name, [each["_id"] for each in batch], None)
                for each in batch:
                    if difference := _compare(name, each, theirs.get(each["_id"])):
                        yield difference
                self.compared += len(batch)
            async for batch, session in self._batches(name, of_live=False):
                ours = await self._documents(self._live, name, [each["_id"] for each in batch], session)
                for each in batch:
                    if each["_id"] not in ours:
                        yield Difference(name, each["_id"], "missing")

    async def _batches(
        self, name: str, *, of_live: bool
    ) -> AsyncIterator[tuple[list[RawBSONDocument], AsyncIOMotorClientSession]]:
        """All documents of a collection in the order of their ids, with the snapshot to read the live one in."""
        last: list[Any] = []
        while True:
            session = await self._snapshot()
            collection = _raw(self._live if of_live else self._other, name)
            fields = _FIELDS_LEFT_OUT.get(name) if of_live else {"_id": 1}
            cursor = collection.find(_FILTERS.get(name, {}), fields, session=session if of_live else None)
            # Ids may be of any type where somebody else has written, and `$gt` would stay within one.
            cursor = cursor.sort([("_id", 1)]).hint([("_id", 1)])
            if last:
                cursor = cursor.min([("_id", last[0])]).skip(1)
            while True:
                async with mongo_errors(self._config):
                    batch = await cursor.to_list(_DOCUMENTS)
                if not batch:
                    return
                yield batch, session
                last = [batch[-1]["_id"]]
                if self._is_old():
                    break

    def _is_old(self) -> bool:
        return time.monotonic() - self._since > _SNAPSHOT_SECONDS

    async def _snapshot(self) -> AsyncIOMotorClientSession:
        """A session in which the live one stands still, at the offsets to which the other one is folded."""
        if self._session is None or self._is_old():
            async with mongo_errors(self._config):
                if self._session is not None:
                    await self._session.end_session()
                self._session = await self._client.start_session(snapshot=True)
                found = self._live.checkpoints.find({"offset": {"$exists": True}}, session=self._session)
                offsets = {each["_id"]: each["offset"] async for each in found}
            await self._catch_up(offsets)
            self._since = time.monotonic()
        return self._session

    async def _documents(
        self, database: Any, name: str, ids: list[Any], session: AsyncIOMotorClientSession | None
    ) -> dict[Any, RawBSONDocument]:
        async with mongo_errors(self._config):
            found = _raw(database, name).find({"_id": {"$in": ids}}, _FIELDS_LEFT_OUT.get(name), session=session)
            return {each["_id"]: each async for each in found}


def _raw(database: Any, name: str) -> Any:
    return database.get_collection(name, codec_options=CodecOptions(document_class=RawBSONDocument))


def _compare(name: str, ours: RawBSONDocument, theirs: RawBSONDocument | None) -> Difference | None:
    if theirs is None:
        return Difference(name, ours["_id"], "surplus")
    if ours.raw == theirs.raw:
        return None
    paths = _paths("", bson.decode(ours.raw), bson.decode(theirs.raw))
    fields = [path for path, _ in zip(paths, range(_FIELDS), strict=False)]
    return Difference(name, ours["_id"], "differs", tuple(fields))


def _paths(path: str, ours: Any, theirs: Any) -> Iterator[str]:
    """Where two values differ, by type or value; the order of fields aside."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in [*ours, *(each for each in theirs if each not in ours)]:
            inner = f"{path}.{key}" if path else key
            if (key in ours) != (key in theirs):
                yield inner
            else:
                yield from _paths(inner, ours[key], theirs[key])
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for i, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from _paths(f"{path}.{i}", one, other)
    elif bson.encode({"": ours}) != bson.encode({"": theirs}):  # NaN equals NaN, and 1 is not 1.0
        yield path
