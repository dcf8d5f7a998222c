"""The catalog: the projections of a prefix, which are collections in the database `<prefix>`.

- `trials`, `series` and so on, without a suffix, are the first projection.
- `trials~1`, `trials~2` and so on are of rebuilt projections. A number is never reused, and the live projection's
  number only grows, so every projection with a smaller number is left over.
- `trials~<name>` are of projections of the log until a time, and `trials~verify` of that with which `verify` compares.
- `projection` holds the pointer to the live projection (`ownership.py`), and a document `about~<number or name>` that
  describes each projection but the first.

Versions before this one made a database for each projection, `<prefix>~1` or `<prefix>~<name>`, described by a document
`about` in its own collection `projection`. These projections are read, listed, replaced and dropped; none is begun.

Neither prefixes nor names contain `~`. A collection of one of our names without such a description may belong to
others, as one of another name does: it is neither listed nor dropped. No projection begins among documents of others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Literal, Self

from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import ReturnDocument
from trialstream.config import Config
from trialstream_schemas.errors import ConfigError, ItemNotFound, TrialStreamError
from trialstream_schemas.storage.collections import ABOUT, COLLECTIONS, LOG_ID, Namespace

from trialstream_consumer.projection.client import Connection, Document
from trialstream_consumer.projection.ownership import live_namespace
from trialstream_consumer.projection.store import Store

__all__ = ["Catalog", "Projection", "ProjectionExists"]

_VERIFYING = "verify"
# Dropping and listing collections may take longer than the calls of a consumer.
_CALL_SECONDS = 30.0


class ProjectionExists(TrialStreamError):
    """Another projection already has the name; the message says how to drop that projection."""


@dataclass(frozen=True)
class Projection:
    """Description of a projection.

    Attributes:
        database: Name of the database.
        suffix: What follows the names of the projection's collections in it, such as `~4` for `trials~4`; may be empty.
        name: Name for `connect(projection=...)`; None if the projection cannot be read by name.
        state: `live`; `ready` if the projection can be read by name; `unfinished` if its rebuild is running or was
            killed; `left over` if the next rebuild drops the projection.
        until: Append time until which the log was folded, milliseconds since 1970 UTC; None if the whole log was.
        size: Size on disk, bytes.
        trials: Number of trials, about.
    """

    database: str
    suffix: str
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
        return Store(self._connection, await live_namespace(self._connection))

    def offline_store(self, namespace: Namespace) -> Store:
        """Return a store of a projection that is not the live one; writes fail once the projection is live.

        Args:
            namespace: Place of the projection, as one of the `begin` methods returned it.
        """
        return Store(self._connection, namespace, live=False)

    # --- Building

    async def begin_rebuild(self) -> Namespace:
        """Choose the place of a rebuild: that of an interrupted rebuild by this version, or a new one.

        Returns:
            The place.

        Raises:
            ConfigError: There are collections of others.
            MongoUnavailable: MongoDB did not answer.
        """
        await self.clean()
        live = await live_namespace(self._connection)
        found = await self._found()
        latest = max([live, *found], key=_number)
        about = found.get(latest)
        # To continue the rebuild of an older version would mix the results of both versions.
        if _number(latest) > _number(live) and self._is_own(latest) and about and about["version"] == _version():
            return latest
        namespace = self._place(str(_number(latest) + 1))
        await self._begin(namespace, "rebuild")
        return namespace

    async def begin_named(self, name: str, until: int) -> Namespace:
        """Choose the place of a projection until a time: that of an interrupted rebuild, or a new one.

        Args:
            name: Name of the projection.
            until: The append time, milliseconds since 1970 UTC.

        Returns:
            The place.

        Raises:
            ConfigError: The name is invalid or reserved, or there are collections of others.
            ProjectionExists: A finished projection, or one until another time or of another version, has the name.
            MongoUnavailable: MongoDB did not answer.
        """
        namespace, earlier = self._named(name)
        about = (await self._found()).get(earlier)
        is_taken = about is not None
        if about is None:
            about = await self._begin(namespace, "until", until)
            # An unfinished projection of another version cannot be continued either.
            same = (about["kind"], about["until"], about["version"]) == ("until", until, _version())
            is_taken = about["ready"] or not same
        if is_taken:
            raise ProjectionExists(
                f"projection {name!r} of {self._config.prefix} exists already: drop it with `trialstream projections "
                f"--drop {name}`, or give another --name"
            )
        return namespace

    async def finish_named(self, name: str) -> None:
        """Mark a projection until a time as ready to be read.

        Args:
            name: Name of the projection.

        Raises:
            MongoUnavailable: MongoDB did not answer.
        """
        namespace, _ = self._named(name)
        async with self._connection.errors():
            await self._catalog(namespace).update_one({"_id": namespace.about}, {"$set": {"ready": True}})

    async def begin_verify(self) -> Namespace:
        """Drop the collections of an earlier comparison, and begin another one.

        Returns:
            The place to fold into.

        Raises:
            ConfigError: There are collections of others.
            MongoUnavailable: MongoDB did not answer.
        """
        await self.end_verify()
        namespace = self._place(_VERIFYING)
        await self._begin(namespace, _VERIFYING)
        return namespace

    async def end_verify(self) -> None:
        """Drop the projections of comparisons.

        Raises:
            MongoUnavailable: MongoDB did not answer.
        """
        await self._drop_all(_VERIFYING, await self._found())

    # --- Dropping

    async def clean(self) -> None:
        """Drop the projections that rebuilds have left over.

        Raises:
            MongoUnavailable: MongoDB did not answer.
        """
        live = await live_namespace(self._connection)
        for namespace, about in (await self._found()).items():
            if 0 < _number(namespace) < _number(live):
                if about is None:
                    await self._drop_strays(namespace)
                else:
                    await self._drop(namespace)
        first = Namespace(self._config.database)
        if live != first:
            await self._drop_collections(first)

    async def drop(self, name: str) -> None:
        """Drop a projection that was built until a time.

        Args:
            name: Name of the projection.

        Raises:
            ConfigError: The name is invalid or reserved.
            ItemNotFound: No projection until a time has the name.
            MongoUnavailable: MongoDB did not answer.
        """
        found = await self._found()
        if not await self._drop_all("until", {each: found.get(each) for each in self._named(name)}):
            raise ItemNotFound(f"there is no projection {name!r} of {self._config.prefix} to drop")

    async def _drop_all(self, kind: str, found: Mapping[Namespace, Document | None]) -> int:
        """Drop the projections of a kind; return their number."""
        dropped = [each for each, about in found.items() if about is not None and about["kind"] == kind]
        for each in dropped:
            await self._drop(each)
        return len(dropped)

    async def _drop(self, namespace: Namespace) -> None:
        """Drop a projection; its description last, so that a drop that was killed is repeated."""
        await self._drop_collections(namespace)
        async with self._connection.errors():
            if self._is_own(namespace):
                await self._catalog(namespace).delete_one({"_id": namespace.about})
            else:
                await self._catalog(namespace).drop()  # MongoDB drops a database with its last collection

    async def _drop_strays(self, namespace: Namespace) -> None:
        """Drop what another process has made in a projection that was dropped before: checkpoints, and no documents."""
        ours = {"$or": [{"_id": {"$regex": f"^{self._config.prefix}\\."}}, {"_id": LOG_ID, "log": {"$exists": True}}]}
        collections = self._connection.collections(namespace)
        checkpoints = collections["checkpoints"]
        async with self._connection.errors():
            if await checkpoints.find_one(ours) is None or await checkpoints.find_one({"$nor": [ours]}):
                return
            for each in collections.values():
                if await each.find_one() is None:
                    await each.drop()
            await checkpoints.drop()

    async def _drop_collections(self, namespace: Namespace) -> None:
        async with self._connection.errors():
            for each in self._connection.collections(namespace).values():
                await each.drop()

    # --- Listing

    async def listing(self) -> list[Projection]:
        """List all projections, the live one first.

        Raises:
            MongoUnavailable: MongoDB did not answer.
        """
        live = await live_namespace(self._connection)
        found = await self._found()
        first = {"kind": "rebuild", "until": None, "ready": False}  # the first projection has no description
        described = {live: found.pop(live, None) or first, **dict(sorted(found.items()))}
        return [await self._projection(each, live, about) for each, about in described.items() if about is not None]

    async def _projection(self, namespace: Namespace, live: Namespace, about: Document) -> Projection:
        database, size = self._connection.client[namespace.database], 0
        async with self._connection.errors():
            for each in COLLECTIONS:
                size += int((await database.command("collStats", namespace.collection(each)))["totalSize"])
            trials = int(await database[namespace.collection("trials")].estimated_document_count())
        state: Literal["live", "ready", "unfinished", "left over"]
        if namespace == live:
            state = "live"
        elif about["ready"]:
            state = "ready"
        elif about["kind"] == "until" or _number(namespace) > _number(live):
            state = "unfinished"
        else:
            state = "left over"
        name = _end(namespace) if about["kind"] == "until" else None
        return Projection(*namespace, name, state, about["until"], size, trials)

    # --- Places and descriptions

    def _place(self, end: str) -> Namespace:
        """Return the place of a projection by its number or name."""
        return Namespace(self._config.database, f"~{end}")

    def _named(self, name: str) -> tuple[Namespace, Namespace]:
        """Return the place of a projection until a time, and the place where versions before this one made it."""
        if not name:
            raise ConfigError("projection: expected a name, got ''")
        if name == _VERIFYING:
            raise ConfigError(f"projection {name!r}: reserved for `trialstream verify`; choose another name")
        place = replace(self._config, projection=name).named_projection
        return place, Namespace(f"{place.database}{place.suffix}")

    def _is_own(self, namespace: Namespace) -> bool:
        """Whether a projection is in the database of all, not in one of a version before this one."""
        return namespace.database == self._config.database

    def _catalog(self, namespace: Namespace) -> AsyncIOMotorCollection[Document]:
        return self._connection.catalog(namespace.database)

    async def _found(self) -> dict[Namespace, Document | None]:
        """Find all projections but the first, each with its description; None if a place may belong to others.

        A description is written before its collections, and read after their names: so a projection that begins
        meanwhile has one.
        """
        home = self._config.database
        async with self._connection.errors():
            names = [each.partition("~") for each in await self._connection.client[home].list_collection_names()]
            databases = await self._connection.client.list_database_names()
            places = [self._place(end) for name, sign, end in names if sign and name in COLLECTIONS]
            places += [Namespace(each) for each in databases if each.startswith(f"{home}~")]
            found: dict[Namespace, Document | None] = dict.fromkeys(places)
            async for each in self._connection.catalog(home).find({"_id": {"$regex": f"^{ABOUT}~"}}):
                found[Namespace(home, each["_id"].removeprefix(ABOUT))] = each
            for each in places:
                if not self._is_own(each):
                    found[each] = await self._about(each)
        return found

    async def _about(self, namespace: Namespace) -> Document | None:
        async with self._connection.errors():
            return await self._catalog(namespace).find_one({"_id": namespace.about})

    async def _begin(self, namespace: Namespace, kind: str, until: int | None = None) -> Document:
        """Describe a new projection, before anything else of it is written.

        Returns:
            Its description; that of another process if it has begun the same projection before.
        """
        catalog, id_ = self._catalog(namespace), {"_id": namespace.about}
        if await self._about(namespace) is None:
            await self._drop_strays(namespace)
            await self._check_free(namespace)
        about = {"kind": kind, "until": until, "ready": False, "version": _version()}
        async with self._connection.errors():
            begun = await catalog.find_one_and_update(
                id_, {"$setOnInsert": about}, upsert=True, return_document=ReturnDocument.AFTER
            )
        assert begun is not None
        return begun

    async def _check_free(self, namespace: Namespace) -> None:
        """Check that no collection of a place has documents, unless another process begins the same projection."""
        async with self._connection.errors():
            for each in self._connection.collections(namespace).values():
                if await each.find_one() is not None and await self._about(namespace) is None:
                    raise ConfigError(
                        f"database {namespace.database}: expected no documents in {each.name}, since no projection has "
                        "been made there; rename that collection or drop it if it is not needed, or use another prefix"
                    )


def _version() -> str:
    return version("trialstream")


def _end(namespace: Namespace) -> str:
    """Return the number or the name of a projection; empty for the first one."""
    return str(namespace).partition("~")[2]


def _number(namespace: Namespace) -> int:
    """Return the number of a rebuilt projection; 0 for the first projection and for named ones."""
    end = _end(namespace)
    return int(end) if end.isdecimal() else 0
