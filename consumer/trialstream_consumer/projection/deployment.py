"""Check of the MongoDB deployment before anything is written: consumers and rebuilds need transactions.

It is decided from the answers of the servers to the command `hello`. Standalone servers, old versions and other replica
sets are refused. What can change by itself is unavailable instead: servers that are down, and a replica set that has no
primary or is not initiated yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from pymongo.errors import ConfigurationError, ServerSelectionTimeoutError
from pymongo.monitoring import (
    ServerHeartbeatFailedEvent,
    ServerHeartbeatListener,
    ServerHeartbeatStartedEvent,
    ServerHeartbeatSucceededEvent,
)
from trialstream.config import Config
from trialstream_schemas.errors import ConfigError, MongoUnavailable, TrialStreamError

from trialstream_consumer.projection.client import mongo_client, mongo_errors

__all__ = ["check_deployment", "problem"]

Hello: TypeAlias = Mapping[str, Any]
"""Answer of a server to the command `hello`."""

# MongoDB 5.0: the first version with snapshot reads, by which histories are read. Transactions are older: replica sets
# have them since 4.0, mongos since 4.2.
_MIN_WIRE_VERSION = 13
# Time to find a primary: the error of a server that refuses this client comes within five seconds.
_CHECK_SECONDS = 4.0


async def check_deployment(config: Config) -> None:
    """Check that MongoDB is a replica set or a sharded cluster, and recent enough.

    Args:
        config: Settings with the address of MongoDB.

    Raises:
        ConfigError: MongoDB has no transactions, is too old, or is another replica set than the URI names.
        MongoUnavailable: No server answered, or the replica set has no primary or is not initiated.
    """
    answers = _Answers()
    client = mongo_client(config, timeoutMS=int(_CHECK_SECONDS * 1000), event_listeners=[answers])
    options: Any = client.options  # the driver's stubs declare a method
    try:
        async with mongo_errors(client):
            try:
                chosen = await client.admin.command("hello")
            except (ServerSelectionTimeoutError, ConfigurationError):
                # The driver selects no server that is too old or not of the kind that the URI describes.
                _require_one(answers.latest, options.replica_set_name)
                raise
            address = chosen.get("me") or next(iter(answers.latest), "its address")
            _require_one({address: chosen}, options.replica_set_name)
    finally:
        client.close()


def problem(address: str, hello: Hello, replica_set: str | None) -> TrialStreamError | None:
    """Return the reason for which consumers cannot use a server; None if they can, or could if it were the primary.

    Args:
        address: `host:port` of the server.
        hello: Its answer to `hello`.
        replica_set: Name of the replica set in the URI; None if the URI has none.
    """
    if hello.get("maxWireVersion", 0) < _MIN_WIRE_VERSION:
        return ConfigError(f"mongo: expected MongoDB 5.0 or newer, got an older one at {address}: upgrade it")
    if hello.get("isreplicaset"):
        return MongoUnavailable(
            f"MongoDB at {address} was started with --replSet, but its replica set is not initiated: run rs.initiate() "
            "in mongosh once"
        )
    is_mongos = hello.get("msg") == "isdbgrid"
    if "setName" not in hello and not is_mongos:
        name = replica_set or "trialstream"
        return ConfigError(
            f"mongo: expected a replica set, got a standalone server at {address}: documents are written in "
            f"transactions, which need a replica set (one node is enough). Start mongod with --replSet {name}, run "
            f"rs.initiate() in mongosh once, and use a URI with replicaSet={name}; the data is kept. `trialstream up` "
            "starts such a MongoDB"
        )
    if replica_set is not None and hello.get("setName") != replica_set:
        found = "a sharded cluster" if is_mongos else f"replica set {hello['setName']!r}"
        return ConfigError(
            f"mongo: expected replica set {replica_set!r}, which the URI names, got {found} at {address}: correct "
            "replicaSet= in the URI"
        )
    return None


def _require_one(answers: Mapping[str, Hello], replica_set: str | None) -> None:
    """Raise the problem of the first server if every server that answered has one."""
    problems = [problem(address, each, replica_set) for address, each in answers.items()]
    if problems and all(problems):
        assert problems[0] is not None
        raise problems[0]


class _Answers(ServerHeartbeatListener):
    """The latest answer of each server to `hello`, by `host:port`; the driver sends it to all servers that it finds."""

    def __init__(self) -> None:
        self.latest: dict[str, Hello] = {}

    def started(self, event: ServerHeartbeatStartedEvent) -> None:
        """Do nothing; the answer counts."""

    def succeeded(self, event: ServerHeartbeatSucceededEvent) -> None:
        """Keep the answer. The driver calls this in its own threads, and replaces the dict's items one at a time."""
        host, port = event.connection_id
        self.latest = {**self.latest, f"{host}:{port}": event.reply.document}

    def failed(self, event: ServerHeartbeatFailedEvent) -> None:
        """Do nothing: the servers that answered decide, and a server that is down has not answered."""
