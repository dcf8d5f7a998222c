"""The catalog: the projections of a prefix. Each is a database with a document `about` that describes it.

- `<prefix>` is the first projection; this database also holds the pointer to the live projection (`ownership.py`).
- `<prefix>~1`, `<prefix>~2` and so on are rebuilt projections. A number is never reused, and the live projection's
  number only grows, so every projection with a smaller number is left over.
- `<prefix>~<name>` are projections of the log until a time.

Prefixes contain no `~`. A database of that name without a document `about` belongs to others, and so does a collection
of another name than ours: they are neither dropped nor listed, and no projection begins among collections of our names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Literal, Self

from pymongo.write_concern import WriteConcern
from trialstream.config import Config
from trialstream_schemas.errors import ConfigError, ItemNotFound, TrialStreamError
from trialstream_schemas.storage.collections import ABOUT, CATALOG, COLLECTIONS

from trialstream_consumer.projection.client import Connection, Document
from trialstream_consumer.projection.ownership import live_database
from trialstream_consumer.projection.store import Store

__all__ = ["Catalog", "Projection", "ProjectionExists"]

_VERIFYING = "verify"
# Dropping and listing databases may take longer than the calls of a consumer.
_CALL_SECONDS = 30.0


class ProjectionExists(TrialStreamError):
    """Another projection already has the name; the message says how to drop that projection."""


@dataclass(frozen=True)
class Projection:
    """Description of a projection.

    Attributes:
        database: Name of the projection's database.
        name: Name for `connect(projection=...)`; None if the projection cannot be read by name.
        state: `live`; `ready` if the projection can be read by name; `unfinished` if its rebuild is running or was
            killed; `left over` if the next rebuild drops the projection.
        until: Append time until which the log was folded, milliseconds since 1970 UTC; None if the whole log was.
        size: Size on disk, bytes.
        trials: Number of trials, about.
    """

    database: str
    name: str | None
    state: Literal["live", "ready", "unfinished", "left over"]
    until: int | None
    size: int
    trials: int


class Catalog:
    """Begins, finishes, lists and drops the projections of a prefix; an async context manager.

    Args:
        config: Settings with the address of MongoDB and the prefix.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._connection = Connection(config, _CALL_SECONDS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connection.close()

    # --- Stores

    async def live_store(self) -> Store:
        """Return the store of the live projection.

        Raises:
            MongoUnavailable: MongoDB did not answer.
        """
        return Store(self._connection, await live_database(self._connection))

    def offline_store(self, database: str) -> Store:
        """Return a store of a projection that is not the live one; writes fail once the projection is live.

        Args:
            database: Database of the projection, as one of the `begin` methods returned it.
        """
        return Store(self._connection, database, live=False)

    # --- Building

    async def begin_rebuild(self) -> str:
        """Choose the database of a rebuild: that of an interrupted rebuild by this version, or a new one.

        Returns:
            Name of the database.

        Raises:
            ConfigError: The database has collections of others.
            MongoUnavailable: MongoDB did not answer.
        """
        await self.clean()
        live = _number(await live_database(self._connection))
        numbers = [_number(each) for each in await self._databases() if _number(each)]
        latest = max([live, *numbers])
        if latest > live:
            about = await self._about(self._rebuilt(latest))
            # To continue the rebuild of an older version would mix the results of both versions.
            if about is not None and about["version"] == version("trialstream"):
                return self._rebuilt(latest)
        database = self._rebuilt(latest + 1)
        await self._begin(database, "rebuild")
        return database

    async def begin_named(self, name: str, until: int) -> str:
        """Choose the database of a projection until a time: that of an interrupted rebuild, or a new one.

        Args:
            name: Name of the projection.
            until: The append time, milliseconds since 1970 UTC.

        Returns:
            Name of the database.

        Raises:
            ConfigError: The name is invalid or reserved, or the database has collections of others.
            ProjectionExists: A finished projection, or one until another time or of another version, has the name.
            MongoUnavailable: MongoDB did not answer.
        """
        database = self._named(name)
        about = await self._about(database)
        if about is not None:
            # An unfinished projection of another version cannot be continued either.
            same = (about["kind"], about["until"], about["version"]) == ("until", until, version("trialstream"))
            if about["ready"] or not same:
                raise ProjectionExists(
                    f"projection {name!r} of {self._config.prefix} exists already: drop it with `trialstream "
                    f"projections --drop {name}`, or give another --name"
                )
            return database
        await self._begin(database, "until", until)
        return database

    async def finish_named(self, name: str) -> None:
        """Mark a projection until a time as ready to be read.

        Args:
            name: Name of the projection.

        Raises:
            MongoUnavailable: MongoDB did not answer.
        """
        async with self._connection.errors():
            await self._descriptions(self._named(name)).update_one({"_id": ABOUT}, {"$set": {"ready": True}})

    async def begin_verify(self) -> str:
        """Drop the database of an earlier comparison, and create an empty one to compare with the live projection.

        Returns:
            Name of the database.

        Raises:
            ConfigError: The database has collections of others.
            MongoUnavailable: MongoDB did not answer.
        """
        await self.end_verify()
        database = f"{self._config.prefix}~{_VERIFYING}"
        await self._begin(database, _VERIFYING)
        return database

    async def end_verify(self) -> None:
        """Drop the projection of a comparison.

        Raises:
            MongoUnavailable: MongoDB did not answer.
        """
        database = f"{self._config.prefix}~{_VERIFYING}"
        about = await self._about(database)
        if about is not None and about["kind"] == _VERIFYING:
            await self._drop(database)

    # --- Dropping

    async def clean(self) -> None:
        """Drop the projections that rebuilds have left over, and all but the pointer in `<prefix>` if it is not live.

        Raises:
            MongoUnavailable: MongoDB did not answer.
        """
        live = await live_database(self._connection)
        for database in await self._databases():
            if 0 < _number(database) < _number(live):
                if await self._about(database) is None:
                    await self._drop_strays(database)
                else:
                    await self._drop(database)
        if live != self._config.database:
            await self._drop_collections(self._config.database, COLLECTIONS)

    async def drop(self, name: str) -> None:
        """Drop a projection that was built until a time.

        Args:
            name: Name of the projection.

        Raises:
            ConfigError: The name is invalid or reserved.
            ItemNotFound: No projection until a time has the name.
            MongoUnavailable: MongoDB did not answer.
        """
        database = self._named(name)
        about = await self._about(database)
        if about is None or about["kind"] != "until":
            raise ItemNotFound(f"there is no projection {name!r} of {self._config.prefix} to drop")
        await self._drop(database)

    async def _drop(self, database: str) -> None:
        """Drop the collections of a projection; its description last, so that a drop that was killed is repeated.

        MongoDB drops a database with its last collection.
        """
        await self._drop_collections(database, (*COLLECTIONS, CATALOG))

    async def _drop_strays(self, database: str) -> None:
        """Drop the checkpoints that a fenced consumer has made in a projection that was dropped before."""
        ours = {"_id": {"$regex": f"^{self._config.prefix}\\."}}  # ids begin with a topic
        async with self._connection.errors():
            checkpoints = self._connection.client[database].checkpoints
            if await checkpoints.find_one(ours) and not await checkpoints.find_one({"$nor": [ours]}):
                await checkpoints.drop()

    async def _drop_collections(self, database: str, names: Sequence[str]) -> None:
        async with self._connection.errors():
            for name in names:
                await self._connection.client[database].drop_collection(name)

    # --- Listing

    async def listing(self) -> list[Projection]:
        """List all projections, the live one first.

        Raises:
            MongoUnavailable: MongoDB did not answer.
        """
        live = await live_database(self._connection)
        first = {"kind": "rebuild", "until": None, "ready": False}  # `<prefix>` has no description
        found = [await self._projection(live, live, await self._about(live) or first)]
        described = {each: await self._about(each) for each in sorted(await self._databases()) if each != live}
        return found + [
            await self._projection(each, live, about) for each, about in described.items() if about is not None
        ]

    async def _projection(self, database: str, live: str, about: Document) -> Projection:
        async with self._connection.errors():
            size = int((await self._connection.client[database].command("dbStats"))["totalSize"])
            trials = int(await self._connection.client[database].trials.estimated_document_count())
        state: Literal["live", "ready", "unfinished", "left over"]
        if database == live:
            state = "live"
        elif about["ready"]:
            state = "ready"
        elif about["kind"] == "until" or _number(database) > _number(live):
            state = "unfinished"
        else:
            state = "left over"
        name = database.removeprefix(f"{self._config.prefix}~") if about["kind"] == "until" else None
        return Projection(database, name, state, about["until"], size, trials)

    # --- Databases and their descriptions

    def _rebuilt(self, number: int) -> str:
        return f"{self._config.prefix}~{number}"

    def _named(self, name: str) -> str:
        if name == _VERIFYING:
            raise ConfigError(f"projection {name!r}: reserved for `trialstream verify`; choose another name")
        return replace(self._config, projection=name).named_projection

    async def _databases(self) -> list[str]:
        async with self._connection.errors():
            names = await self._connection.client.list_database_names()
        return [each for each in names if each.startswith(f"{self._config.prefix}~")]

    def _descriptions(self, database: str) -> Any:
        return self._connection.client[database].get_collection(CATALOG, write_concern=WriteConcern("majority"))

    async def _about(self, database: str) -> Document | None:
        async with self._connection.errors():
            found: Document | None = await self._descriptions(database).find_one({"_id": ABOUT})
        return found

    async def _begin(self, database: str, kind: str, until: int | None = None) -> None:
        """Describe a new projection, before anything else of it is written."""
        async with self._connection.errors():
            names = await self._connection.client[database].list_collection_names()
        if foreign := sorted({*COLLECTIONS, CATALOG}.intersection(names)):
            raise ConfigError(
                f"database {database}: expected no collection {foreign[0]}, since no projection has been made there; "
                "rename that collection or drop it if it is not needed, or use another prefix"
            )
        about = {"_id": ABOUT, "kind": kind, "until": until, "ready": False, "version": version("trialstream")}
        async with self._connection.errors():
            await self._descriptions(database).replace_one({"_id": ABOUT}, about, upsert=True)


def _number(database: str) -> int:
    """Return the number of a rebuilt projection; 0 for the first projection and for named ones."""
    _, _, suffix = database.partition("~")
    return int(suffix) if suffix.isdecimal() else 0
