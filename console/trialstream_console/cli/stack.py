"""`up`, `down`, `status` and `env`: the servers on this machine."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from trialstream_console.cli.output import new_console, print_json, say
from trialstream_console.cli.progress import Steps, spinner
from trialstream_console.local import LocalStack, LocalStackError, Ports, launcher
from trialstream_console.local.consumer import environment
from trialstream_console.local.dashboard import is_installed
from trialstream_console.local.folder import DataFolder
from trialstream_console.local.security import Security
from trialstream_console.local.status import StackStatus, read_status
from trialstream_console.rights import ROLES

__all__ = ["register"]

_DATA = Path(".trialstream")
# Settings that differ between the roles of a secured stack.
_LOGIN = {
    "TRIALSTREAM_MONGO",
    "TRIALSTREAM_KAFKA_SECURITY_PROTOCOL",
    "TRIALSTREAM_KAFKA_SASL_MECHANISM",
    "TRIALSTREAM_KAFKA_SASL_USERNAME",
    "TRIALSTREAM_KAFKA_SASL_PASSWORD",
    "TRIALSTREAM_KAFKA_SSL_CAFILE",
}

Data = Annotated[Path, typer.Option(help="Folder of the servers' data and logs.")]
KafkaPort = Annotated[
    int | None,
    typer.Option(min=1, max=65534, help="Port of Kafka; its controller listens on the port after it. [9092]"),
]
MongoPort = Annotated[int | None, typer.Option(min=1, max=65535, help="Port of MongoDB. [27017]")]
DashboardPort = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Port of the dashboard. [8790, or another one if it is in use]")
]
Prefix = Annotated[
    str | None,
    typer.Option(envvar="TRIALSTREAM_PREFIX", help="Name of the topics and of the database. [trialstream]"),
]
Partitions = Annotated[
    int,
    typer.Option(
        min=1, envvar="TRIALSTREAM_PARTITIONS", help="Partition count of the trials topic when it is created."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (up, down, status, env):
        app.command()(command)


def up(
    *,
    data: Data = _DATA,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Run in the background; return when all servers are ready.")
    ] = False,
    kafka_port: KafkaPort = None,
    mongo_port: MongoPort = None,
    dashboard_port: DashboardPort = None,
    prefix: Prefix = None,
    partitions: Partitions = 8,
    secure: Annotated[
        bool,
        typer.Option(
            "--secure", help="Encrypt, and demand logins and rights: one user for each role. For a new data folder."
        ),
    ] = False,
    dashboard: Annotated[
        bool, typer.Option("--dashboard/--no-dashboard", help="Whether to start the dashboard.")
    ] = True,
) -> None:
    """Start Kafka, MongoDB, the consumer and the dashboard on this machine.

    The servers listen on loopback only. The data folder keeps the data, the ports, the prefix, and the certificates and
    passwords of --secure: the next `up` uses them again.
    """
    console = new_console()
    folder = DataFolder(data)
    ports, prefix = _effective_settings(folder, kafka_port, mongo_port, dashboard_port, prefix)
    before = read_status(folder)
    if before.state != "stopped":
        _check_running_stack(before, ports, prefix, secure=secure)
        say(f"Already running (process {before.launcher})")
        _show(before)
        return
    missing = {}
    if dashboard and not is_installed():
        missing = {"dashboard": "not installed: pip install 'trialstream[dashboard]'"}
        dashboard = False
    if dashboard and dashboard_port is None:
        ports = ports.with_free_dashboard()
    with Steps(console) as steps:
        if detach:
            options = {
                "--kafka-port": ports.kafka,
                "--mongo-port": ports.mongo,
                "--dashboard-port": ports.dashboard,
                "--prefix": prefix,
                "--partitions": partitions,
            }
            arguments = [text for pair in options.items() for text in map(str, pair)]
            flags = [*["--secure"] * secure, "--dashboard" if dashboard else "--no-dashboard"]
            launcher.start_detached(folder, [*arguments, *flags], steps)
            steps("", "")
            _show(read_status(folder), missing | _hints(data, stop="trialstream down"))
        else:
            stack = LocalStack(
                folder.path,
                dashboard=dashboard,
                ports=ports,
                prefix=prefix,
                partitions=partitions,
                secure=secure,
                on_step=steps,
            )
            launcher.supervise(stack, lambda: _show(read_status(folder), missing | _hints(data, stop="Ctrl-C")))


def down(data: Data = _DATA) -> None:
    """Stop the servers; their data is kept."""
    folder = DataFolder(data)
    with spinner("Stopping the servers"):
        stopped = launcher.stop(folder)
    say(f"Stopped the servers of {folder.path}" if stopped else f"Nothing is running in {folder.path}")


def status(
    data: Data = _DATA, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False
) -> None:
    """Show the state of the servers.

    The exit code is 0 if all servers are ready, and 1 otherwise.
    """
    folder = DataFolder(data)
    leftovers = folder.stop_leftovers_if_unlocked()
    found = read_status(folder)
    if as_json:
        print_json({**asdict(found), "stopped_leftovers": leftovers}, indent=2)
    else:
        if leftovers:
            say(f"Stopped servers left behind by a killed launcher: {', '.join(leftovers)}")
        _show(found)
    if found.state != "ready":
        raise typer.Exit(1)


def env(
    data: Data = _DATA,
    role: Annotated[
        str | None, typer.Option(help="Role of the user, of servers that demand logins: see `trialstream rights`.")
    ] = None,
) -> None:
    """Print the settings of the servers as shell commands.

    Set them in a shell with: eval "$(trialstream env)"
    """
    folder = DataFolder(data)
    found = read_status(folder)
    if found.state == "stopped":
        raise LocalStackError(f"nothing is running in {found.data}: start the servers with `trialstream up`")
    for name, value in _user_settings(folder, found, role).items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def _user_settings(folder: DataFolder, found: StackStatus, role: str | None) -> dict[str, str]:
    """Return the settings of the user with a role, or those of all users of servers without logins."""
    if not found.secured and role is None:
        return found.settings
    if not found.secured:
        raise LocalStackError(f"--role: expected none, since the servers of {found.data} demand no logins")
    if role not in ROLES:
        raise LocalStackError(f"--role: expected one of {', '.join(ROLES)}, got {role!r}")
    known = folder.read_settings()
    assert known is not None
    config = Security(folder.path).config(role, known.config(), known.ports)
    variables = environment(config) | found.settings
    return {name: value for name, value in variables.items() if name in found.settings or name in _LOGIN}


def _effective_settings(
    folder: DataFolder,
    kafka_port: int | None,
    mongo_port: int | None,
    dashboard_port: int | None,
    prefix: str | None,
) -> tuple[Ports, str]:
    """Return ports and prefix: the given ones, else those of the last start, else the defaults."""
    known = folder.read_settings()
    ports = known.ports if known is not None else Ports()
    if kafka_port is not None:
        ports = replace(ports, kafka=kafka_port, controller=kafka_port + 1)
    if mongo_port is not None:
        ports = replace(ports, mongo=mongo_port)
    if dashboard_port is not None:
        ports = replace(ports, dashboard=dashboard_port)
    return ports, prefix or (known.prefix if known is not None else "trialstream")


def _check_running_stack(found: StackStatus, ports: Ports, prefix: str, *, secure: bool) -> None:
    if found.state == "starting":
        raise LocalStackError(f"process {found.launcher} is still starting the servers of {found.data}: {found.step}")
    if ports != found.ports or prefix != found.settings["TRIALSTREAM_PREFIX"]:
        raise LocalStackError(
            f"the stack of {found.data} runs with other ports or another prefix: stop it first with `trialstream down`"
        )
    if secure and not found.secured:
        raise LocalStackError(f"the stack of {found.data} runs without logins: choose another folder with --data")


def _hints(data: Path, *, stop: str) -> dict[str, str]:
    """Return the commands to type next."""
    option = "" if data == _DATA else f" --data {shlex.quote(str(data))}"
    roles = {f"As {role}": f'eval "$(trialstream env{option} --role {role})"' for role in ROLES}
    return {
        **(roles if Security(data).exists else {"To connect": f'eval "$(trialstream env{option})"'}),
        "To stop": f"{stop}{option if stop.startswith('trialstream') else ''}",
    }


def _show(found: StackStatus, hints: Mapping[str, str] | None = None) -> None:
    lines = {"State": f"{found.state} {found.step}".strip()}
    lines |= {name: f"{server.state}, process {server.pid}" for name, server in found.servers.items()}
    lines |= {**found.settings, "Data and logs": found.data, **(hints or {})}
    for name, value in lines.items():
        # Not a table, since a table would wrap long lines, which are then hard to copy.
        say(f"{name:<22}{value}")
    if found.error:
        say(f"Last error: {found.error}", one_line=False)
