"""The connection to MongoDB: the one place where a client is made and the driver's errors are translated.

Checkpoints and the pointer to the live projection are read and written by majority (`Connection`), because a
decision about ownership must survive the loss of a primary.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pymongo import timeout
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern
from trialstream.config import Config
from trialstream.reading.diagnosis import BSON_ERRORS, mongo_address, mongo_message, mongo_trouble
from trialstream.reading.live import Collections, collections_of
from trialstream.reading.uri import driver_options
from trialstream.waiting import waiting_for
from trialstream_schemas.errors import MongoUnavailable
from trialstream_schemas.messages import shortened
from trialstream_schemas.storage.collections import CATALOG, Namespace

__all__ = [
    "CALL_SECONDS",
    "Connection",
    "Document",
    "Unwritable",
    "mongo_client",
    "mongo_errors",
]

Document: TypeAlias = dict[str, Any]

# Time limit of a call, and of a transaction as a whole. The limit is thousands of times the measured durations, and it
# bounds the time that a consumer takes to stop while MongoDB hangs.
CALL_SECONDS = 8.0
_CLOSE_SECONDS = 1.0
_MAJORITY: dict[str, Any] = {"write_concern": WriteConcern("majority"), "read_concern": ReadConcern("majority")}
# MongoDB's error codes for what is wrong with a document itself: nested too deep (Overflow), InvalidBSON, a key that
# MongoDB rejects (DollarPrefixedFieldName), too large (BSONObjectTooLarge, KeyTooLong and two codes of updates).
_UNWRITABLE_CODES = frozenset({15, 22, 52, 10334, 17280, 17419, 17420})


class Unwritable(MongoUnavailable):
    """MongoDB cannot take a document or a query, so a retry would fail too; the message gives the reason."""


def mongo_client(config: Config, **options: Any) -> AsyncIOMotorClient[Document]:
    """Make a client of the configured MongoDB, which the caller must close.

    Args:
        config: Settings with the address of MongoDB.
        **options: Further options of the driver's client.

    Raises:
        ConfigError: The URI of MongoDB is invalid.
    """
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(config.mongo, **driver_options(config), **options)
    return client


@asynccontextmanager
async def mongo_errors(client: AsyncIOMotorClient[Document]) -> AsyncIterator[None]:
    """Translate the driver's errors that the block raises; give notice if it waits long (`trialstream.waiting`).

    Args:
        client: The client of the requests.

    Raises:
        Unwritable: A document or a query is too large, nested too deep, or has a key or value that cannot be stored.
        MongoUnavailable: A request failed; the message has the addresses, the step that failed (DNS, connection, TLS or
            authentication), and what to do.
    """
    try:
        with waiting_for(f"MongoDB at {mongo_address(client)}"):
            yield
    except BSON_ERRORS as error:
        raise Unwritable(shortened(f"MongoDB cannot take a document or a query: {error!r}")) from error
    except PyMongoError as error:
        if _UNWRITABLE_CODES & _codes(error):
            raise Unwritable(f"MongoDB cannot take a document or a query: {mongo_message(error)}") from error
        raise MongoUnavailable(await mongo_trouble(client, error)) from error


def _codes(error: PyMongoError) -> set[Any]:
    """MongoDB's codes of an error, and of the writes of a bulk that failed."""
    if not isinstance(error, OperationFailure):
        return set()
    writes = (error.details or {}).get("writeErrors") or []
    return {error.code, *(each.get("code") for each in writes)}


class Connection:
    """A client of MongoDB, shared by the stores of several projections of one prefix.

    Args:
        config: Settings with the address of MongoDB and the prefix.
        seconds: Time limit of each call.

    Attributes:
        config: The settings.
        client: The driver's client.
    """

    def __init__(self, config: Config, seconds: float = CALL_SECONDS) -> None:
        self.config = config
        self.client = mongo_client(config, timeoutMS=int(seconds * 1000))

    def collections(self, namespace: Namespace) -> Collections:
        """Return the collections of a projection, which are read and written by majority.

        Args:
            namespace: The place of the projection.
        """
        return collections_of(self.client, namespace, **_MAJORITY)

    def catalog(self, database: str) -> AsyncIOMotorCollection[Document]:
        """Return the collection of the descriptions and the pointer, which is read and written by majority.

        Args:
            database: Name of the database.
        """
        return self.client.get_database(database, **_MAJORITY)[CATALOG]

    def errors(self) -> AbstractAsyncContextManager[None]:
        """Translate the driver's errors that the block raises, as `mongo_errors` does.

        Raises:
            Unwritable: MongoDB cannot take a document or a query.
            MongoUnavailable: A request failed; the message gives the reason and what to do.
        """
        return mongo_errors(self.client)

    def close(self) -> None:
        """Close the connections, within a second."""
        # The driver reports ended sessions to MongoDB, and without a limit waits for an answer.
        with timeout(_CLOSE_SECONDS):
            self.client.close()
