"""Loopback ports."""

from __future__ import annotations

import errno
import random
import socket
from dataclasses import dataclass

from trialstream_console.local.errors import LocalStackError

__all__ = ["HOST", "REPLICA_SET", "Ports", "accepts", "require_free"]

HOST = "127.0.0.1"
REPLICA_SET = "trialstream"

# Below the range from which systems take the ports of outgoing connections: a client that keeps knocking at a dead
# server there will at some point be given the very port as its own, connect to itself, and block the restart.
_FREE = range(20000, 32000)


@dataclass(frozen=True)
class Ports:
    """The ports of one stack.

    Attributes:
        kafka: The broker's listener.
        controller: The KRaft controller's listener.
        mongo: mongod's.
    """

    kafka: int = 9092
    controller: int = 9093
    mongo: int = 27017

    @property
    def kafka_address(self) -> str:
        """`host:port` of the broker."""
        return f"{HOST}:{self.kafka}"

    @property
    def mongo_address(self) -> str:
        """`host:port` of mongod."""
        return f"{HOST}:{self.mongo}"

    @property
    def mongo_uri(self) -> str:
        """MongoDB URI for clients."""
        return f"mongodb://{self.mongo_address}/?replicaSet={REPLICA_SET}"

    @classmethod
    def free(cls) -> Ports:
        """Three ports on which nothing listens."""
        found: list[int] = []
        while len(found) < 3:
            port = random.choice(_FREE)  # noqa: S311 - nothing secret
            if port not in found and not _taken(port):
                found.append(port)
        return cls(*found)


def require_free(port: int, what: str, option: str) -> None:
    """Refuse a port on which something else listens.

    Args:
        port: The port.
        what: Who wants it.
        option: The command line's option that chooses another one.

    Raises:
        LocalStackError: it is taken.
    """
    if reason := _taken(port):
        raise LocalStackError(
            f"{what} cannot listen on port {port}: {reason}. Stop what runs there, or choose another port with {option}"
        )


def accepts(port: int) -> bool:
    """Whether something accepts connections on the port."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _taken(port: int) -> str:
    """Why one cannot listen on the port, or nothing."""
    if accepts(port):
        return "the port is in use"
    with socket.socket() as probe:
        # As the servers do: connections that linger after their last run do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return "the port is in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
    return ""
