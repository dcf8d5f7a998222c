"""`rights` and `setup`: the least rights of each role, and the topics and collections that the other roles need."""

from __future__ import annotations

from typing import Annotated

import typer
from trialstream.config import Config
from trialstream.event_log.identity import read_identity
from trialstream.event_log.topics import ensure_topics
from trialstream_consumer.projection.indexes import ensure_indexes
from trialstream_schemas.errors import ConfigError

from trialstream_console.cli.output import say
from trialstream_console.cli.running import run
from trialstream_console.rights import ROLES, grants

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(rights)
    app.command()(setup)


def rights(
    role: Annotated[
        str | None, typer.Argument(metavar="[ROLE]", help=f"One of {', '.join(ROLES)}. The default is all.")
    ] = None,
) -> None:
    """Print the commands that grant the least rights of each role, for kafka-acls.sh and mongosh.

    Each role has a user of its own, of that name. The commands are for the topics, the group and the database of
    TRIALSTREAM_PREFIX, and need no server.
    """
    if role is not None and role not in ROLES:
        raise ConfigError(f"ROLE: expected one of {', '.join(ROLES)}, got {role!r}")
    for line in grants(Config.from_env(), list(ROLES) if role is None else [role]):
        say(line)


def setup() -> None:
    """Create the topics, the collections and the indexes that are missing.

    A user with the role `setup` runs this once, and again after an upgrade; the users of the other roles then need no
    rights to create anything. Without such roles, producers and consumers do the same when they connect.
    """
    config = Config.from_env()
    say(f"{config.prefix} is set up: log {run(_setup, config)}")


async def _setup(config: Config) -> str:
    await ensure_topics(config)
    log = await read_identity(config)
    await ensure_indexes(config)
    return log.log
