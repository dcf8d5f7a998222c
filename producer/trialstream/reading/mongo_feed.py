"""The `ChangeFeed` over MongoDB: a change stream of the trials of the live projection.

The stream returns the ids of changed documents only: the consumer replaces whole documents, and a trial that changes
many times between two looks is read once. The commands are sent one by one, because the driver's change streams do not
show where an answer ends, which is where a look begins.

Stream and documents are read from the primary, whatever the URI prefers: a secondary that lags would return documents
that are older than the change.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import anyio
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorClientSession, AsyncIOMotorCollection
from pymongo import ReadPreference
from pymongo.errors import OperationFailure, PyMongoError
from trialstream_schemas.errors import MongoUnavailable
from trialstream_schemas.model.trial import Trial

from trialstream.reading.diagnosis import is_refusal
from trialstream.reading.feed import ChangeFeed, PositionLost, bad_position
from trialstream.reading.live import Document, LiveProjection, SyncCollection
from trialstream.reading.pieces import pieces

__all__ = ["MongoFeed", "parts_of"]

# How long MongoDB waits for a change before it answers. It occupies a thread of the driver, and closing waits for it.
_AWAIT_SECONDS = 0.25
# Interval at which a feed without changes looks up which projection is live.
_REFRESH_SECONDS = 1.0
_CLOSE_SECONDS = 1.0
# InvalidResumeToken, ChangeStreamFatalError, ChangeStreamHistoryLost.
_LOST = (260, 280, 286)
# CursorNotFound: the server has closed a stream that nothing has read for ten minutes.
_CURSOR_NOT_FOUND = 43
_ONLY_IDS = {"$project": {"documentKey": 1}}


class _Stream(NamedTuple):
    """An open change stream.

    Attributes:
        trials: The collection that it follows.
        session: The session of all its commands.
        cursor: Id of its cursor in MongoDB.
    """

    trials: AsyncIOMotorCollection[Document]
    session: AsyncIOMotorClientSession
    cursor: int


class MongoFeed(ChangeFeed):
    """Follows the trials of the live projection. Belongs to one event loop.

    Args:
        client: The driver's client.
        live: The projection that is read.
        filter_: The query in MongoDB's form.
        projection: The fields of the documents; None for all.
        made: Makes a trial of a document.
    """

    def __init__(
        self,
        client: AsyncIOMotorClient[Document],
        live: LiveProjection,
        filter_: Mapping[str, Any],
        projection: Mapping[str, int] | None,
        made: Callable[[Document], Trial],
    ) -> None:
        self._client = client
        self._live = live
        self._filter = filter_
        self._projection = projection
        self._made = made
        # The projection that is followed, and the token after the last answer.
        self._name = ""
        self._token = ""
        # None before `open`, and after a request that failed or was cancelled: its answer may be lost.
        self._stream: _Stream | None = None
        self._refreshed = 0.0

    @property
    def position(self) -> str:  # type: ignore[override]  # read-only
        """See `ChangeFeed`: the projection, and MongoDB's resume token."""
        return f"{self._name}/{base64.urlsafe_b64encode(bytes.fromhex(self._token)).decode().rstrip('=')}"

    async def open(self, position: str | None) -> None:
        """See `ChangeFeed.open`."""
        name, token = parts_of(position) if position is not None else ("", "")
        await self.close()
        async with self._live.errors():
            await self._live.refresh()
        self._refreshed = time.monotonic()
        self._name, self._token = str(self._live.namespace), token
        if position is not None and name != self._name:
            raise PositionLost
        try:
            await self._open_stream()
        except MongoUnavailable as error:
            cause = error.__cause__
            if position is None or not isinstance(cause, OperationFailure) or is_refusal(cause):
                raise
            raise bad_position(position) from error  # MongoDB cannot parse the token

    async def _open_stream(self) -> None:
        since = {"resumeAfter": {"_data": self._token}} if self._token else {}
        trials = self._live.collections["trials"]
        pipeline = [{"$changeStream": since}, _ONLY_IDS]
        command = {"aggregate": trials.name, "pipeline": pipeline, "cursor": {"batchSize": 0}}
        async with self._live.errors():
            session = await self._client.start_session(causal_consistency=False)
            stream = _Stream(trials, session, 0)
            try:
                answer = await self._send(stream, command)
            except BaseException:
                await self._end(stream)
                raise
        self._stream = stream._replace(cursor=answer["id"])

    async def _send(self, stream: _Stream, command: dict[str, Any]) -> dict[str, Any]:
        """Send a command of a stream, take over its position, and return the cursor of the answer."""
        try:
            answer = await stream.trials.database.command(
                command, session=stream.session, read_preference=ReadPreference.PRIMARY
            )
        except OperationFailure as error:
            if error.code in _LOST:
                raise PositionLost from error
            raise
        cursor: dict[str, Any] = answer["cursor"]
        if not cursor["id"]:  # the collection was dropped or renamed
            raise PositionLost
        self._token = cursor["postBatchResumeToken"]["_data"]
        return cursor

    async def changed(self, seconds: float) -> list[str]:
        """See `ChangeFeed.changed`."""
        if time.monotonic() - self._refreshed > _REFRESH_SECONDS:
            async with self._live.errors():
                await self._live.refresh()
            self._refreshed = time.monotonic()
        if str(self._live.namespace) != self._name:
            raise PositionLost
        if self._stream is None:
            await self._open_stream()
            assert self._stream is not None
        stream, self._stream = self._stream, None
        wait = max(1, int(1000 * min(seconds, _AWAIT_SECONDS)))  # 0 is MongoDB's default, a second
        command = {"getMore": stream.cursor, "collection": stream.trials.name, "maxTimeMS": wait}
        try:
            async with self._live.errors():
                changes = (await self._send(stream, command))["nextBatch"]
            if not all("documentKey" in each for each in changes):  # the collection was dropped or renamed
                raise PositionLost
        except BaseException as error:
            await self._end(stream)
            cause = error.__cause__
            if isinstance(cause, OperationFailure) and cause.code == _CURSOR_NOT_FOUND:
                return []  # the next call opens the stream again, at the same position
            raise
        self._stream = stream
        return [each["documentKey"]["_id"] for each in changes]

    async def find(self, uids: Sequence[str], *, matching: bool) -> list[Trial]:
        """See `ChangeFeed.find`."""

        def query(trials: SyncCollection[Document]) -> list[Trial]:
            found = []
            for ids in pieces(uids):
                these: dict[str, Any] = {"_id": {"$in": ids}}
                found += self._found(trials, {"$and": [these, self._filter]} if matching else these)
            return found

        return await self._live.documents("trials", query) if uids else []

    async def page(self, after: str, limit: int) -> list[Trial]:
        """See `ChangeFeed.page`."""
        filter_ = {"$and": [{"_id": {"$gt": after}}, self._filter]}
        return await self._live.documents("trials", lambda trials: self._found(trials, filter_, limit))

    def _found(self, trials: SyncCollection[Document], filter_: dict[str, Any], limit: int = 0) -> list[Trial]:
        primary = trials.with_options(read_preference=ReadPreference.PRIMARY)
        sort = [("_id", 1)] if limit else None
        cursor = primary.find(filter_, self._projection, sort=sort, limit=limit, max_time_ms=self._live.max_time_ms)
        return [self._made(each) for each in cursor]

    async def matching_uids(self) -> set[str]:
        """See `ChangeFeed.matching_uids`."""

        def query(trials: SyncCollection[Document]) -> list[str]:
            primary = trials.with_options(read_preference=ReadPreference.PRIMARY)
            # MongoDB would read all documents for all ids.
            hint = None if self._filter else "_id_"
            found = primary.find(self._filter, {"_id": 1}, hint=hint, max_time_ms=self._live.max_time_ms)
            return [each["_id"] for each in found]

        return set(await self._live.documents("trials", query))

    async def close(self) -> None:
        """See `ChangeFeed.close`."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await self._end(stream)

    async def _end(self, stream: _Stream) -> None:
        """Close a stream in MongoDB, if that answers; otherwise its cursor ends after ten minutes."""
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True), suppress(PyMongoError):
            if stream.cursor:
                command = {"killCursors": stream.trials.name, "cursors": [stream.cursor]}
                await stream.trials.database.command(
                    command, session=stream.session, read_preference=ReadPreference.PRIMARY
                )
            await stream.session.end_session()


def parts_of(position: str) -> tuple[str, str]:
    """Return the projection and the resume token of a position.

    MongoDB encodes tokens so that the order of their texts is that of the changes.

    Args:
        position: The position.

    Raises:
        InvalidValue: The text is no position.
    """
    name, _, text = position.rpartition("/")
    try:
        token = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        token = b""
    if not (name and token):
        raise bad_position(position)
    return name, token.hex().upper()
