"""Which projections there are: each a database that says of itself what it is.

`<prefix>` is the first one, and the home of the pointer to the live one (`store.py`). Rebuilt ones are `<prefix>~1`,
`<prefix>~2` and so on; a number is never used again, and the live one's only grows, so whatever has a smaller one was
left behind. Those that were built until a time are `<prefix>~<name>`. The names of prefixes have no `~`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Literal, Self, TypeAlias

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.write_concern import WriteConcern
from trialstream.config import Config
from trialstream_schemas.errors import ConfigError, ItemNotFound, TrialStreamError
from trialstream_schemas.storage.collections import ABOUT, CATALOG

from trialstream_consumer.projection.store import Store, mongo_errors

__all__ = ["Projection", "ProjectionExists", "Projections"]

Document: TypeAlias = dict[str, Any]

_VERIFYING = "verify"
_SECONDS = 30.0


class ProjectionExists(TrialStreamError):
    """There is a projection of that name; the message says how to get rid of it."""


@dataclass(frozen=True)
class Projection:
    """What there is to say of one.

    Attributes:
        database: Where it lies.
        name: What `connect(projection=...)` takes; None for those that are not made for it.
        state: `unfinished` is a rebuild that runs or was killed; `left over` can go, and the next rebuild drops it.
        until: What it was built until, milliseconds since 1970, or None.
        size: Bytes on disk.
    """

    database: str
    name: str | None
    state: Literal["live", "ready", "unfinished", "left over"]
    until: int | None
    size: int


class Projections:
    """Makes, lists and drops them; an async context manager.

    Attributes:
        store: Of `<prefix>`; its `of` makes those of others.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(config.mongo, timeoutMS=int(_SECONDS * 1000))
        self.store = Store(config, client=self._client)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.store.close()

    async def begin_rebuild(self) -> str:
        """Database of the rebuild to go on with: the one that was interrupted, if this version began it, or a new one.

        Raises:
            MongoUnavailable: MongoDB does not answer.
        """
        await self.clean()
        live = self._number(await self.store.live())
        numbers = [self._number(each) for each in await self._databases() if self._number(each)]
        latest = max([live, *numbers])
        if latest > live:
            about = await self._about(self._rebuilt(latest))
            # Half folded by an older version would be neither its result nor ours.
            if about is not None and about["version"] == version("trialstream"):
                return self._rebuilt(latest)
        database = self._rebuilt(latest + 1)
        await self._describe(database, "rebuild")
        return database

    async def begin_named(self, name: str, until: int) -> str:
        """Database of a projection until a time, new or interrupted.

        Raises:
            ProjectionExists: there is one of that name, finished or of another time.
            MongoUnavailable: MongoDB does not answer.
        """
        database = self._named(name)
        about = await self._about(database)
        if about is not None:
            # One of another version, half folded, cannot be gone on with either.
            same = (about["kind"], about["until"], about["version"]) == ("until", until, version("trialstream"))
            if about["ready"] or not same:
                raise ProjectionExists(
                    f"there is a projection {name!r} of {self._config.prefix} already: drop it with `trialstream "
                    f"projections --drop {name}`, or give another --name"
                )
            return database
        await self._describe(database, "until", until)
        return database

    async def finish_named(self, name: str) -> None:
        """Let readers have it.

        Raises:
            MongoUnavailable: MongoDB does not answer.
        """
        async with mongo_errors(self._config):
            await self._catalog(self._named(name)).update_one({"_id": ABOUT}, {"$set": {"ready": True}})

    async def begin_verify(self) -> str:
        """An empty database to compare with; what an earlier comparison left is dropped.

        Raises:
            MongoUnavailable: MongoDB does not answer.
        """
        await self.end_verify()
        database = f"{self._config.prefix}~{_VERIFYING}"
        await self._describe(database, _VERIFYING)
        return database

    async def end_verify(self) -> None:
        """Drop the database to compare with.

        Raises:
            MongoUnavailable: MongoDB does not answer.
        """
        async with mongo_errors(self._config):
            await self._client.drop_database(f"{self._config.prefix}~{_VERIFYING}")

    async def clean(self) -> None:
        """Drop the projections that rebuilds have left behind; of `<prefix>` all but the pointer.

        Raises:
            MongoUnavailable: MongoDB does not answer.
        """
        live = await self.store.live()
        for database in await self._databases():
            if 0 < self._number(database) < self._number(live):
                async with mongo_errors(self._config):
                    await self._client.drop_database(database)
        if live != self._config.database:
            async with mongo_errors(self._config):
                home = self._client[self._config.database]
                for collection in await home.list_collection_names():
                    if collection != CATALOG:
                        await home.drop_collection(collection)

    async def drop(self, name: str) -> None:
        """Drop a projection that was built until a time.

        Raises:
            ItemNotFound: there is none of that name.
            MongoUnavailable: MongoDB does not answer.
        """
        database = self._named(name)
        about = await self._about(database)
        if about is None or about["kind"] != "until":
            raise ItemNotFound(f"there is no projection {name!r} of {self._config.prefix} to drop")
        async with mongo_errors(self._config):
            await self._client.drop_database(database)

    async def listing(self) -> list[Projection]:
        """All of them, the live one first.

        Raises:
            MongoUnavailable: MongoDB does not answer.
        """
        live = await self.store.live()
        found = [await self._projection(live, live)]
        others = [each for each in await self._databases() if each != live]
        return found + [await self._projection(each, live) for each in sorted(others)]

    async def _projection(self, database: str, live: str) -> Projection:
        about = await self._about(database) or {"kind": "rebuild", "until": None, "ready": False}
        async with mongo_errors(self._config):
            size = int((await self._client[database].command("dbStats"))["totalSize"])
        state: Literal["live", "ready", "unfinished", "left over"]
        if database == live:
            state = "live"
        elif about["ready"]:
            state = "ready"
        elif about["kind"] == "until" or self._number(database) > self._number(live):
            state = "unfinished"
        else:
            state = "left over"
        name = database.removeprefix(f"{self._config.prefix}~") if about["kind"] == "until" else None
        return Projection(database, name, state, about["until"], size)

    def _rebuilt(self, number: int) -> str:
        return f"{self._config.prefix}~{number}"

    def _named(self, name: str) -> str:
        if name == _VERIFYING:
            raise ConfigError(f"projection {name!r}: this name is kept for `trialstream verify`; choose another one")
        return replace(self._config, projection=name).named_projection

    def _number(self, database: str) -> int:
        """Of a rebuilt one; 0 for the first one and for those that have a name."""
        _, _, suffix = database.partition("~")
        return int(suffix) if suffix.isdecimal() else 0

    async def _databases(self) -> list[str]:
        async with mongo_errors(self._config):
            names = await self._client.list_database_names()
        return [each for each in names if each.startswith(f"{self._config.prefix}~")]

    def _catalog(self, database: str) -> Any:
        return self._client[database].get_collection(CATALOG, write_concern=WriteConcern("majority"))

    async def _about(self, database: str) -> Document | None:
        async with mongo_errors(self._config):
            found: Document | None = await self._catalog(database).find_one({"_id": ABOUT})
        return found

    async def _describe(self, database: str, kind: str, until: int | None = None) -> None:
        about = {"_id": ABOUT, "kind": kind, "until": until, "ready": False, "version": version("trialstream")}
        async with mongo_errors(self._config):
            await self._catalog(database).replace_one({"_id": ABOUT}, about, upsert=True)
