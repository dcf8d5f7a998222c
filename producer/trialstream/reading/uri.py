"""The check of a MongoDB URI, without a connection and without DNS."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError
from trialstream_schemas.errors import ConfigError

__all__ = ["check_uri"]


def check_uri(uri: str) -> None:
    """Check that the driver takes a URI. The URI is never part of the message, since it may hold credentials.

    Args:
        uri: The setting `mongo`.

    Raises:
        ConfigError: The URI is malformed, or its options contradict each other or name files that cannot be read.
    """
    try:
        # The driver warns of unknown options. To suppress that would not be safe in a thread.
        client: MongoClient[dict[str, Any]] = MongoClient(uri, connect=False)
        client.close()
    except (PyMongoError, ValueError, TypeError, OSError) as error:  # the driver documents only the first two
        # With a user in the URI, the driver may take a part of a badly escaped password for a port or a database.
        reason = "special characters in user and password must be written as %XX" if "@" in uri else str(error)
        raise ConfigError(
            f"mongo: expected a URI such as mongodb://user:password@host:27017/?replicaSet=name, got one that "
            f"MongoDB's driver refuses: {reason}"
        ) from None
