"""The projection that is read: the live one, or a named one.

A projection is the collections of one suffix in a database (`Namespace`). A rebuild may switch from one projection to
another at any time, and drop the old one. So each read checks *afterwards* whether the projection that was read still
is the live one, and is repeated if it is not. A result therefore comes from a projection that was live during the whole
read, never from one that was being dropped.

Each request has a time limit in MongoDB (`max_time_ms`): what is left of the budget of its call (`budget.py`). So no
query occupies the server for longer than its caller would wait, also once it is cancelled. MongoDB looks at the limit
between documents; how long one document can take is bounded by the number of conditions and patterns (`query.py`).

The pointer to the live projection also names the log from which that was folded. If the reader knows the log to which
events are sent (`check_log`), each such check, and each read of checkpoints, compares the two: otherwise reads would
return the documents of another log once one of the servers was replaced.

The check may run during a read of one collection that finds documents (`documents`): MongoDB ends a query whose
collection is dropped with an error, and an empty result is checked afterwards. Documents of a projection that was live
during the call, and stopped being live before the read, are those that it had then, or later ones.

Two reads need no such check. An outcome is the same in every projection, and a trial that is found together with its
outcome, in one query, is complete and not older than the decision. A candidate for a claim is only a proposal on which
the log decides, so only a query that finds no candidate checks for another projection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from operator import itemgetter
from typing import Any, TypeAlias, TypeVar

import anyio
from motor.frameworks.asyncio import run_on_executor
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pymongo import ReadPreference
from pymongo.collection import Collection as SyncCollection
from pymongo.errors import OperationFailure, PyMongoError, ServerSelectionTimeoutError
from pymongo.read_concern import ReadConcern
from trialstream_schemas.errors import ItemNotFound, LogMismatch, MongoUnavailable, QueryError
from trialstream_schemas.messages import shortened
from trialstream_schemas.storage.collections import CATALOG, COLLECTIONS, LIVE, LOG_ID, Namespace

from trialstream.config import Config
from trialstream.reading.budget import remaining, timed_out
from trialstream.reading.diagnosis import BSON_ERRORS, is_refusal, known_refusal, mongo_message, mongo_trouble

__all__ = ["Collections", "Document", "LiveProjection", "SyncCollection", "collections_of", "run_driver"]

T = TypeVar("T")
Document: TypeAlias = dict[str, Any]
Collections: TypeAlias = "Mapping[str, AsyncIOMotorCollection[dict[str, Any]]]"
"""The collections of one projection, by their names without its suffix."""

# MongoDB ends a request at its time limit, with an error that says why. The client does not wait for it past this time.
_GRACE_SECONDS = 0.5
# The last request of a wait has this time in any case, so that its error is the one of the wait.
_LEAST_SECONDS = 0.25
_MAX_TIME_MS = 2**31 - 1  # MongoDB reads it as an int32
_MAX_TIME_EXPIRED = 50
_DATABASE_BYTES = 63  # the longest name of a database
_MAJORITY = ReadConcern("majority")
# BadValue (sorting by two lists, for example), an index of a list that is also a key of a dict in the list, and a
# pattern that Python accepts and PCRE does not.
_QUERY_ERRORS = (2, 16746, 51091)


@asynccontextmanager
async def _reading_errors(timeout: float, client: AsyncIOMotorClient[Document]) -> AsyncIterator[None]:
    """End requests that take too long, and translate the errors of the MongoDB driver.

    Args:
        timeout: Time limit of requests that belong to no call with a budget, seconds.
        client: The client of the requests.

    Raises:
        QueryError: MongoDB refused the query.
        QueryTimeout: The request took longer than the time limit.
        MongoUnavailable: MongoDB did not answer; the message has the addresses and the step that failed (DNS,
            connection, TLS or authentication).
    """
    try:
        if refusal := known_refusal(client):
            raise refusal
        with anyio.move_on_after(remaining(timeout) + _GRACE_SECONDS) as scope:
            yield
        if scope.cancelled_caught:
            if client.delegate.topology_description.has_known_servers:
                raise timed_out(timeout)
            raise ServerSelectionTimeoutError("no server was found in time")
    except BSON_ERRORS as error:
        raise QueryError(f"query: MongoDB cannot encode it: {shortened(str(error))}") from error
    except PyMongoError as error:
        if isinstance(error, OperationFailure) and error.code in _QUERY_ERRORS:
            raise QueryError(f"query: MongoDB refused it: {mongo_message(error)}") from error
        if isinstance(error, OperationFailure) and error.code == _MAX_TIME_EXPIRED:
            raise timed_out(timeout) from error
        raise MongoUnavailable(await mongo_trouble(client, error)) from error


def run_driver(function: Callable[[], T]) -> asyncio.Future[T]:
    """Run a function that calls the driver in one of the threads for it, in a copy of the context, as motor does."""
    running: asyncio.Future[T] = run_on_executor(asyncio.get_running_loop(), function)  # type: ignore[no-untyped-call]
    return running


def collections_of(client: AsyncIOMotorClient[Document], namespace: Namespace, **options: Any) -> Collections:
    """Return the collections of a projection.

    They are made once for each projection: one object takes the driver 60 µs, a tenth of a round trip.

    Args:
        client: The driver's client.
        namespace: The place of the projection.
        **options: Options of the driver's database.
    """
    database = client.get_database(namespace.database, **options)
    return {each: database[namespace.collection(each)] for each in COLLECTIONS}


class LiveProjection:
    """The projection that is read now.

    Args:
        client: The driver's client.
        config: Names the database.
        timeout: Maximum time of each request in MongoDB, and of all requests of a call, seconds.

    Attributes:
        is_named: Whether the configuration names a projection; the live one is then not looked up.
        namespace: Place of the projection that is read: the named one, or the one that was live at the last `refresh`.
        collections: The collections of that projection; another object after each switch.
    """

    def __init__(self, client: AsyncIOMotorClient[Document], config: Config, timeout: float) -> None:
        self._timeout = timeout
        self._client = client
        self._config = config
        self.is_named = bool(config.projection)
        # The first projection until the first `refresh`, though a rebuild may have made another one the live one.
        self._set(config.named_projection if config.projection else Namespace(config.database))
        # Always read from the primary, even if the URI prefers others: a secondary that lags could name a projection
        # that is being dropped.
        self._catalog = self._catalog_of(config.database)
        # Id of the log to which events are sent; empty if it is unknown.
        self._log = ""

    def _set(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.collections = collections_of(self._client, namespace, read_concern=_MAJORITY)

    def _catalog_of(self, database: str) -> AsyncIOMotorCollection[Document]:
        found = self._client.get_database(database, read_concern=_MAJORITY)
        return found.get_collection(CATALOG, read_preference=ReadPreference.PRIMARY)

    @property
    def max_time_ms(self) -> int:
        """Time that is left to a request of this call in MongoDB, milliseconds; every request passes it on."""
        seconds = max(remaining(self._timeout), min(self._timeout, _LEAST_SECONDS))
        return max(1, int(min(1000 * seconds, _MAX_TIME_MS)))

    def raise_refusal(self) -> None:
        """Raise the error by which MongoDB has refused this user, instead of a wait for its next heartbeat.

        Raises:
            PyMongoError: That error.
        """
        if refusal := known_refusal(self._client):
            raise refusal

    async def translated(self, error: PyMongoError) -> MongoUnavailable:
        """Translate an error of a request that MongoDB refuses."""
        return MongoUnavailable(await mongo_trouble(self._client, error))

    def errors(self) -> AbstractAsyncContextManager[None]:
        """End requests that take too long, and translate the errors of the MongoDB driver: see `_reading_errors`."""
        return _reading_errors(self._timeout, self._client)

    async def check_named(self) -> None:
        """Check that the named projection exists and is complete.

        One that an earlier version has made is a database of its own.

        Raises:
            ItemNotFound: There is no projection of that name, or it is not finished.
            MongoUnavailable: MongoDB does not answer.
        """
        name, prefix = self._config.projection, self._config.prefix
        async with self.errors():
            about = await self._about(self.namespace)
            earlier = Namespace(f"{prefix}~{name}")
            if about is None and len(earlier.database) <= _DATABASE_BYTES:
                try:
                    about = await self._about(earlier)
                except OperationFailure as error:
                    if not is_refusal(error):  # a user who may read `<prefix>` alone has no such database
                        raise
                if about is not None:
                    self._set(earlier)
        if about is None or about["kind"] != "until":
            raise ItemNotFound(
                f"there is no projection {name!r} of {prefix}: `trialstream projections` lists them, "
                f"`trialstream rebuild --until TIME --name {name}` makes it"
            )
        if not about["ready"]:
            raise ItemNotFound(
                f"projection {name!r} of {prefix} is not finished: run its `trialstream rebuild --until` again"
            )

    async def _about(self, namespace: Namespace) -> Document | None:
        catalog = self._catalog_of(namespace.database)
        return await catalog.find_one({"_id": namespace.about}, max_time_ms=self.max_time_ms)

    async def check_log(self, log: Awaitable[str]) -> None:
        """Compare the log of the live projection with the one to which events are sent: see `Reader.check_log`."""
        try:
            async with self.errors():
                pointer = await self._find_pointer()
                self._set_live(pointer)
                limit = self.max_time_ms
                found = await self.collections["checkpoints"].find_one({"_id": LOG_ID}, max_time_ms=limit)
        except MongoUnavailable:
            self._log = await log
            raise
        self._log = await log
        self.compare_log(pointer)
        self.compare_log(found)

    def compare_log(self, found: Document | None) -> None:
        """Compare a document that names the log of the projection with the log to which events are sent.

        Args:
            found: The document; None, or a document without an id, if the log of the projection is not recorded.

        Raises:
            LogMismatch: The projection was folded from another log.
        """
        log = found.get("log") if found else None
        if log and self._log and log != self._log:
            raise LogMismatch(
                f"MongoDB database {self.namespace.database} was folded from log {log}, but "
                f"{self._config.trials_topic} of Kafka at {self._config.kafka} is log {self._log}: set "
                "TRIALSTREAM_MONGO or TRIALSTREAM_KAFKA to the server of the same log; if the topics were recreated, "
                "drop the database to fold the new log"
            )

    async def refresh(self) -> bool:
        """Look up which projection is live.

        Returns:
            Whether another projection than before is live.

        Raises:
            LogMismatch: The live projection was folded from another log.
        """
        if self.is_named:
            return False
        pointer = await self._find_pointer()
        self.compare_log(pointer)
        return self._set_live(pointer)

    async def _find_pointer(self) -> Document | None:
        catalog, limit = self._catalog.delegate, self.max_time_ms
        found: Document | None = await run_driver(lambda: catalog.find_one({"_id": LIVE}, max_time_ms=limit))
        return found

    def _set_live(self, pointer: Document | None) -> bool:
        """Read from the projection that a pointer names; return whether that is another one than before."""
        live = Namespace.parse(pointer["database"] if pointer else self._config.database)
        if self.is_named or live == self.namespace:
            return False
        self._set(live)
        return True

    async def read(
        self, read: Callable[[Collections], Awaitable[T]], is_final: Callable[[T], object] | None = None
    ) -> T:
        """Run a read on the live projection, and again if another one is live at its end.

        Args:
            read: The read, of the collections of a projection.
            is_final: Returns whether a result is valid without that check, see the module's docstring; None: no result.

        Returns:
            The result of the read.

        Raises:
            QueryError: MongoDB refused the query.
            LogMismatch: The live projection was folded from another log.
            MongoUnavailable: MongoDB does not answer, or not within `max_time_ms`.
        """
        async with self.errors():
            while True:
                collections = self.collections
                try:
                    found = await read(collections)
                except ServerSelectionTimeoutError:
                    raise
                except PyMongoError as error:  # the projection may have been dropped during the read
                    if is_refusal(error):
                        raise
                    if not await self.refresh() and collections is self.collections:
                        raise
                else:
                    if is_final is not None and is_final(found):
                        return found
                    if not await self.refresh() and collections is self.collections:
                        return found

    async def documents(self, name: str, query: Callable[[SyncCollection[Document]], list[T]]) -> list[T]:
        """Run a query of one collection of the live projection in a thread of the driver.

        The live projection is looked up at the same time, and after a query that finds nothing.

        Args:
            name: Name of the collection, without a suffix.
            query: Sends one query and converts its documents.

        Returns:
            The result of the query.

        Raises:
            QueryError: MongoDB refused the query.
            LogMismatch: The live projection was folded from another log.
            MongoUnavailable: MongoDB does not answer, or not within `max_time_ms`.
        """

        async def query_beside(collections: Collections) -> tuple[list[T], bool]:
            """Return the result, and whether it is known to be valid."""
            query_once = partial(query, collections[name].delegate)
            found, changed = await asyncio.gather(run_driver(query_once), self.refresh())
            return found, bool(found) and not changed and collections is self.collections

        found, _ = await self.read(query_beside, is_final=itemgetter(1))
        return found
