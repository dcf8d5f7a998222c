"""The state of a local stack, as read from its data folder and its servers by any process."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from trialstream.waiting import waiting_for

from trialstream_console.local.consumer import environment
from trialstream_console.local.folder import DataFolder
from trialstream_console.local.kafka import live_brokers
from trialstream_console.local.mongo import is_primary
from trialstream_console.local.ports import Ports
from trialstream_console.local.process import ProcessId
from trialstream_console.local.security import Security

__all__ = ["ServerStatus", "StackStatus", "read_status"]

_CLIENT_VARIABLES = ("TRIALSTREAM_KAFKA", "TRIALSTREAM_MONGO", "TRIALSTREAM_PREFIX")


@dataclass(frozen=True)
class ServerStatus:
    """State of one server.

    Attributes:
        pid: Process id.
        state: `ok`; `silent`: the process is alive and does not answer; `dead`.
        log: Path of the log file.
    """

    pid: int
    state: Literal["ok", "silent", "dead"]
    log: str


@dataclass(frozen=True)
class StackStatus:
    """State of a local stack.

    Attributes:
        data: Path of the data folder.
        state: `ready`; `starting`; `broken`: a server is dead or silent; `stopped`.
        step: Step of the start while `starting`.
        error: Failure that ended the last launcher; empty if there was none.
        launcher: Process id of the launcher; None while `stopped`.
        servers: State of each server by name.
        settings: Environment variables for clients; empty if the stack was never started.
        ports: Ports of the servers.
        versions: Versions of the servers that wrote the data folder.
        secured: Whether the servers demand logins; `settings` then lacks what differs between the roles.
    """

    data: str
    state: Literal["ready", "starting", "broken", "stopped"]
    step: str = ""
    error: str = ""
    launcher: int | None = None
    servers: dict[str, ServerStatus] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    ports: Ports | None = None
    versions: dict[str, str] = field(default_factory=dict)
    secured: bool = False


def read_status(folder: DataFolder) -> StackStatus:
    """Return the state of the stack in a data folder; sends a request to each of its servers.

    Args:
        folder: The data folder, which need not exist.

    Raises:
        LocalStackError: The folder was written by another version.
    """
    known, record = folder.read_settings(), folder.read_record()
    data, error = str(folder.path), record.error if record is not None else ""
    running = None if record is None else folder.running(record)
    if known is None:
        return StackStatus(data, "stopped" if running is None else "starting", error=error)
    variables = environment(known.config())
    settings = {name: variables[name] for name in _CLIENT_VARIABLES}
    security = Security(folder.path) if Security(folder.path).exists else None
    if security is not None:
        del settings["TRIALSTREAM_MONGO"]
    versions = {"kafka": known.kafka, "mongod": known.mongod}
    status = StackStatus(
        data,
        "stopped",
        error=error,
        settings=settings,
        ports=known.ports,
        versions=versions,
        secured=security is not None,
    )
    if record is None or running is None:
        return status
    servers = {
        name: ServerStatus(
            each.pid,
            _server_state(name, each, known.ports, security) if name in running.servers else "dead",
            str(folder.path / f"{name}.log"),
        )
        for name, each in record.servers.items()
    }
    if "dashboard" in servers:
        settings["TRIALSTREAM_DASHBOARD"] = known.ports.dashboard_address
    state: Literal["ready", "starting", "broken"] = "ready"
    if not record.ready:
        state = "starting"
    elif any(server.state != "ok" for server in servers.values()):
        state = "broken"
    step = "" if record.ready else record.step
    return replace(status, state=state, step=step, launcher=record.launcher.pid, servers=servers)


def _server_state(name: str, server: ProcessId, ports: Ports, security: Security | None) -> Literal["ok", "silent"]:
    """Return the state of a server that runs; the consumer does not listen, so it is ok."""
    probes = {
        "kafka": lambda: server.listens_on(ports.kafka) and live_brokers(ports, security) > 0,
        "dashboard": lambda: server.listens_on(ports.dashboard),
        "mongod": lambda: server.listens_on(ports.mongo) and is_primary(ports.mongo, security),
    }
    with waiting_for(f"{name} to answer"):
        return "ok" if probes.get(name, lambda: True)() else "silent"
