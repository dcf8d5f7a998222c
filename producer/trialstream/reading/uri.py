"""The check of a MongoDB URI, without a connection and without DNS; of a plain one, without the driver too."""

from __future__ import annotations

import re
from typing import Any

from trialstream_schemas.errors import ConfigError

__all__ = ["check_uri"]

# URIs of which it is known that the driver takes them: hosts, ports below 60000, and the name of a replica set.
_HOST = r"[A-Za-z0-9.-]+(:([1-9][0-9]{0,3}|[1-5][0-9]{4}))?"
_PLAIN = re.compile(rf"mongodb://{_HOST}(,{_HOST})*(/(\?replicaSet=[A-Za-z0-9_-]+)?)?")


def check_uri(uri: str) -> None:
    """Check that the driver takes a URI. The URI is never part of the message, since it may hold credentials.

    Args:
        uri: The setting `mongo`.

    Raises:
        ConfigError: The URI is malformed, or its options contradict each other or name files that cannot be read.
    """
    if _PLAIN.fullmatch(uri):
        return
    if not uri:
        raise ConfigError("mongo: expected a URI, got an empty text: set TRIALSTREAM_MONGO to read or to fold")
    from pymongo import MongoClient  # noqa: PLC0415 (heavy)
    from pymongo.errors import PyMongoError  # noqa: PLC0415

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
