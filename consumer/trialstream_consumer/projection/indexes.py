"""Collections and indexes of a projection.

Each query that readers run often has an index. The setting `indexes` adds others, which a rebuild makes too. No index
is dropped: MongoDB keeps one whose path is removed from the setting until the next rebuild.

Consumers that start at the same time may all create the same indexes: creating an existing index changes nothing.
"""

from __future__ import annotations

from pymongo import ASCENDING, DESCENDING
from trialstream.config import Config
from trialstream.reading.fields import KEYED_FIELDS
from trialstream.reading.paths import TRIAL_FIELDS, resolve
from trialstream_schemas.errors import ConfigError, QueryError
from trialstream_schemas.storage.collections import Namespace

from trialstream_consumer.projection.client import mongo_client, mongo_errors

__all__ = ["ensure_indexes"]

# By collection, the keys of each index.
_INDEXES: dict[str, list[list[tuple[str, int]]]] = {
    "trials": [
        [("hash", ASCENDING), ("revision", ASCENDING)],
        [("project_id", ASCENDING)],
        [("group_id", ASCENDING)],
        [("status.name", ASCENDING), ("created", ASCENDING), ("_id", ASCENDING)],
        [("name", ASCENDING)],
        [("created", ASCENDING), ("_id", ASCENDING)],
    ],
    "groups": [[("project_id", ASCENDING)]],
    "projects": [],
    "series": [[("trial", ASCENDING), ("section", ASCENDING), ("names", ASCENDING)]],
    "outlines": [],
    "outcomes": [],
    "checkpoints": [],
    "dead_letters": [[("time", ASCENDING), ("_id", ASCENDING)]],
}
_SELECTION_MS = 10_000


async def ensure_indexes(config: Config, namespace: Namespace | None = None) -> None:
    """Create the missing collections and indexes of a projection.

    Args:
        config: Settings with the address of MongoDB.
        namespace: Place of the projection; the first one by default.

    Raises:
        ConfigError: The setting `indexes` has a path of an unknown field.
        MongoUnavailable: MongoDB did not answer.
    """
    wanted = {**_INDEXES, "trials": _INDEXES["trials"] + _chosen_indexes(config)}
    # No time limit per call: building an index of a large collection can take minutes.
    client = mongo_client(config, serverSelectionTimeoutMS=_SELECTION_MS)
    try:
        async with mongo_errors(client):
            place = namespace or Namespace(config.database)
            found = client[place.database]
            existing = await found.list_collection_names()
            for name, indexes in ((place.collection(each), indexes) for each, indexes in wanted.items()):
                if name not in existing:
                    # `create_index` creates a missing collection. Unlike `create_collection`, it does not fail if
                    # another consumer has just created the collection.
                    await found[name].create_index([("_id", ASCENDING)])
                for keys in indexes:
                    await found[name].create_index(keys)
    finally:
        client.close()


def _chosen_indexes(config: Config) -> list[list[tuple[str, int]]]:
    """Return the keys of the indexes that the setting `indexes` names."""
    found: list[list[tuple[str, int]]] = []
    for given in filter(None, map(str.strip, config.indexes.split(","))):
        try:
            path = resolve(given, TRIAL_FIELDS)
        except QueryError as error:
            raise ConfigError(f"indexes: {error}") from None
        # The order of a descending sort, so that MongoDB can take the first documents from the index.
        found.append([(f"{path}.$**", ASCENDING)] if path in KEYED_FIELDS else [(path, DESCENDING), ("_id", ASCENDING)])
    return found
