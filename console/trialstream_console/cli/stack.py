"""`up`, `down`, `status`, `env`: the servers on this machine."""

from __future__ import annotations

import json
import logging
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from trialstream_console.cli.progress import Steps
from trialstream_console.local import LocalStack, LocalStackError, Ports, launcher
from trialstream_console.local.folder import DataFolder
from trialstream_console.local.status import Status, look

__all__ = ["register"]

_DATA = Path(".trialstream")

Data = Annotated[Path, typer.Option(help="Folder of the servers' data and logs.")]
KafkaPort = Annotated[
    int | None, typer.Option(min=1, max=65534, help="Kafka's port; its controller takes the next one. [9092]")
]
MongoPort = Annotated[int | None, typer.Option(min=1, max=65535, help="MongoDB's port. [27017]")]
Prefix = Annotated[
    str | None,
    typer.Option(envvar="TRIALSTREAM_PREFIX", help="Name of the topics and of the database. [trialstream]"),
]
Partitions = Annotated[
    int,
    typer.Option(min=1, envvar="TRIALSTREAM_PARTITIONS", help="Partitions of the trials topic when it is created."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (up, down, status, env):
        app.command()(command)


def up(
    *,
    data: Data = _DATA,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when everything is ready.")] = False,
    kafka_port: KafkaPort = None,
    mongo_port: MongoPort = None,
    prefix: Prefix = None,
    partitions: Partitions = 8,
) -> None:
    """Start Kafka, MongoDB and the consumer on this machine, on loopback only.

    Ports and prefix are remembered in the data folder, and the data survives: the next `up` goes on with them.
    """
    console = Console()
    folder = DataFolder(data)
    ports, prefix = _wanted(folder, kafka_port, mongo_port, prefix)
    before = look(folder)
    if before.state != "stopped":
        _already(before, ports, prefix)
        console.print(f"Already running (process {before.launcher})", highlight=False)
        _show(console, before)
        return
    with Steps(console) as steps:
        if detach:
            options = {
                "--kafka-port": ports.kafka,
                "--mongo-port": ports.mongo,
                "--prefix": prefix,
                "--partitions": partitions,
            }
            launcher.detach(folder, [text for pair in options.items() for text in map(str, pair)], steps)
            steps("", "")
            _show(console, look(folder), _hints(data, stop="trialstream down"))
        else:
            logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it warns of what it then retries
            stack = LocalStack(folder.path, ports=ports, prefix=prefix, partitions=partitions, progress=steps)
            launcher.supervise(stack, lambda: _show(console, look(folder), _hints(data, stop="Ctrl-C")))


def down(data: Data = _DATA) -> None:
    """Stop the servers; the data stays."""
    folder = DataFolder(data)
    console = Console()
    with console.status("Stopping the consumer, Kafka and MongoDB"):
        stopped = launcher.down(folder)
    said = "Stopped what ran on" if stopped else "Nothing runs on"
    console.print(f"{said} {folder.path}", highlight=False, markup=False, soft_wrap=True)


def status(
    data: Data = _DATA, as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False
) -> None:
    """Say what runs; exit code 1 unless everything is ready."""
    folder = DataFolder(data)
    left = folder.clean()
    found = look(folder)
    if as_json:
        typer.echo(json.dumps({**asdict(found), "stopped_leftovers": left}, indent=2))
    else:
        console = Console()
        if left:
            console.print(f"Stopped what an earlier run had left behind: {', '.join(left)}", highlight=False)
        _show(console, found)
    if found.state != "ready":
        raise typer.Exit(1)


def env(data: Data = _DATA) -> None:
    """Print the settings as shell lines: eval "$(trialstream env)"."""
    found = look(DataFolder(data))
    if found.state == "stopped":
        raise LocalStackError(f"nothing runs on {found.data}: trialstream up")
    for name, value in found.settings.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def _wanted(
    folder: DataFolder, kafka_port: int | None, mongo_port: int | None, prefix: str | None
) -> tuple[Ports, str]:
    """What was asked for, completed by what the folder remembers."""
    known = folder.settings()
    ports = known.ports if known is not None else Ports()
    if kafka_port is not None:
        ports = replace(ports, kafka=kafka_port, controller=kafka_port + 1)
    if mongo_port is not None:
        ports = replace(ports, mongo=mongo_port)
    return ports, prefix or (known.prefix if known is not None else "trialstream")


def _already(found: Status, wanted: Ports, prefix: str) -> None:
    """Refuse what a running stack cannot become."""
    if found.state == "starting":
        raise LocalStackError(f"process {found.launcher} is starting on {found.data}: {found.step}")
    if wanted != found.ports or prefix != found.settings["TRIALSTREAM_PREFIX"]:
        raise LocalStackError(f"the stack of {found.data} runs with other ports or another prefix: trialstream down")


def _hints(data: Path, *, stop: str) -> dict[str, str]:
    """What to type next."""
    option = "" if data == _DATA else f" --data {shlex.quote(str(data))}"
    return {
        "Use it": f'eval "$(trialstream env{option})"',
        "Stop it": f"{stop}{option if stop.startswith('trialstream') else ''}",
    }


def _show(console: Console, found: Status, hints: dict[str, str] | None = None) -> None:
    """Show where everything is, or why it is not there."""
    lines = {"State": f"{found.state} {found.step}".strip()}
    lines |= {name: f"{server.state}, process {server.pid}" for name, server in found.servers.items()}
    lines |= {**found.settings, "Data and logs": found.data, **(hints or {})}
    for name, value in lines.items():
        # No table: it would break a line that somebody copies.
        console.print(f"{name:<20}{value}", highlight=False, markup=False, soft_wrap=True)
    if found.error:
        console.print(f"The last run ended: {found.error}", highlight=False, markup=False, soft_wrap=True)
