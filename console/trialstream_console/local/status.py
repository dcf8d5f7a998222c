"""What runs on a data folder, as any process can see it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from trialstream_console.local.consumer import environment
from trialstream_console.local.folder import DataFolder
from trialstream_console.local.kafka import live_brokers
from trialstream_console.local.mongo import is_primary
from trialstream_console.local.ports import Ports
from trialstream_console.local.process import ProcessId

__all__ = ["ServerStatus", "Status", "look"]

_SHOWN = ("TRIALSTREAM_KAFKA", "TRIALSTREAM_MONGO", "TRIALSTREAM_PREFIX")


@dataclass(frozen=True)
class ServerStatus:
    """One server.

    Attributes:
        pid: Its process.
        state: `ok`; `silent`: it lives and does not answer; `dead`.
        log: Its log file.
    """

    pid: int
    state: Literal["ok", "silent", "dead"]
    log: str


@dataclass(frozen=True)
class Status:
    """All of it.

    Attributes:
        data: The folder.
        state: `ready`; `starting`; `broken`: a server is dead or silent; `stopped`.
        step: What a start is at.
        error: Why the last run ended, when it did not end in good order.
        launcher: The process to which the servers belong.
        servers: By name.
        settings: Environment variables that lead to the servers; empty in a folder that was never started.
        ports: Where the servers listen.
        versions: Of the servers that wrote the folder.
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


def look(folder: DataFolder) -> Status:
    """Look at a folder, and ask the servers that run on it whether they serve.

    Raises:
        LocalStackError: the folder was written by another version.
    """
    known, run = folder.settings(), folder.run()
    data, error = str(folder.path), run.error if run is not None else ""
    if known is None:
        return Status(data, "starting" if run is not None and run.launcher.alive else "stopped", error=error)
    variables = environment(known.config())
    settings = {name: variables[name] for name in _SHOWN}
    versions = {"kafka": known.kafka, "mongod": known.mongod}
    status = Status(data, "stopped", error=error, settings=settings, ports=known.ports, versions=versions)
    if run is None or not run.launcher.alive:
        return status
    servers = {
        name: ServerStatus(each.pid, _state(name, each, known.ports), str(folder.path / f"{name}.log"))
        for name, each in run.servers.items()
    }
    broken = any(server.state != "ok" for server in servers.values())
    state: Literal["ready", "starting", "broken"] = "starting" if not run.ready else "broken" if broken else "ready"
    return replace(status, state=state, step="" if run.ready else run.step, launcher=run.launcher.pid, servers=servers)


def _state(name: str, server: ProcessId, ports: Ports) -> Literal["ok", "silent", "dead"]:
    if not server.alive:
        return "dead"
    # The consumer listens nowhere: that it lives must do.
    serves = {"kafka": lambda: live_brokers(ports.kafka) > 0, "mongod": lambda: is_primary(ports.mongo)}
    return "ok" if serves.get(name, lambda: True)() else "silent"
