"""Loopback ports of the servers."""

from __future__ import annotations

import errno
import random
import socket
from dataclasses import dataclass, replace

from trialstream_console.local.errors import LocalStackError

__all__ = ["HOST", "REPLICA_SET", "Ports", "accepts_connections", "require_free"]

HOST = "127.0.0.1"
REPLICA_SET = "trialstream"

# Below the range from which systems take the ports of outgoing connections. Inside that range, a client that keeps
# connecting to a stopped server can be given the server's port as its own, connect to itself, and block the restart.
_FREE = range(20000, 32000)


@dataclass(frozen=True)
class Ports:
    """Ports of one local stack.

    Attributes:
        kafka: Port of the Kafka broker.
        controller: Port of the KRaft controller.
        mongo: Port of mongod.
        dashboard: Port of the dashboard.
    """

    kafka: int = 9092
    controller: int = 9093
    mongo: int = 27017
    dashboard: int = 8790

    @property
    def mtls(self) -> int:
        """Port of the broker's listener for client certificates, which only a secured stack has."""
        return self.controller + 1

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

    @property
    def dashboard_address(self) -> str:
        """Address of the dashboard's page."""
        return f"http://{HOST}:{self.dashboard}"

    def with_free_dashboard(self) -> Ports:
        """Return these ports with another one for the dashboard if its own is in use."""
        return replace(self, dashboard=Ports.free().dashboard) if _conflict(self.dashboard) else self

    @classmethod
    def free(cls) -> Ports:
        """Return random ports that are free, and so is the one after that of the controller."""
        found: list[int] = []
        while len(found) < 4:
            port = random.choice(_FREE)  # noqa: S311 - nothing secret
            taken = {each + next_to for each in found for next_to in (-1, 0, 1)}
            if port not in taken and not _conflict(port) and not _conflict(port + 1):
                found.append(port)
        return cls(*found)


def require_free(port: int, name: str, option: str) -> None:
    """Check that a server can listen on a port.

    Args:
        port: Port number.
        name: Name of the server, for the message.
        option: Command-line option that chooses another port, for the message.

    Raises:
        LocalStackError: The port is in use or not allowed.
    """
    if reason := _conflict(port):
        raise LocalStackError(
            f"{name} cannot listen on port {port}: {reason}. Stop the program that uses it, or choose another port "
            f"with {option}"
        )


def accepts_connections(port: int) -> bool:
    """Return whether a process accepts connections on the port."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _conflict(port: int) -> str:
    """Return why a server cannot listen on the port; empty if the port is free."""
    if accepts_connections(port):
        return "the port is in use"
    with socket.socket() as probe:
        # The servers set this option too: connections that linger after their last stop do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return "the port is in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
    return ""
