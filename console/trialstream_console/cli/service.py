"""`consume`, `dead-letters`: the consumer service and what it could not fold."""

from __future__ import annotations

import json
import logging
import sys
from typing import Annotated, Any

import anyio
import structlog
import typer
from rich.console import Console
from rich.table import Table
from trialstream.config import Config
from trialstream_consumer.projection.client import Connection
from trialstream_consumer.projection.dead_letters import DeadLetter, latest_dead_letters
from trialstream_consumer.projection.ownership import live_database
from trialstream_consumer.service import Service
from trialstream_schemas.model.times import from_micros

__all__ = ["register"]

Limit = Annotated[int, typer.Option(min=1, help="How many at most, the latest first.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(consume)
    app.command()(dead_letters)


def consume(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every batch.")] = False,
) -> None:
    """Fold the log into MongoDB until SIGTERM or Ctrl-C.

    Start it more than once to share the partitions. The servers come from TRIALSTREAM_KAFKA, TRIALSTREAM_MONGO and
    TRIALSTREAM_PREFIX. The log goes to stderr, one JSON object a line.
    """
    _log_json(logging.DEBUG if verbose else logging.INFO)
    anyio.run(_consume, Config.from_env())


async def _consume(config: Config) -> None:
    await Service(config).run()


def dead_letters(
    limit: Limit = 100, as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False
) -> None:
    """List the records that could not be folded, with their reason and where they lie."""
    found = anyio.run(_dead_letters, Config.from_env(), limit)
    if as_json:
        for each in found:
            print(json.dumps({**vars(each), "value": each.value.hex()}))  # noqa: T201 (this is the output)
        return
    table = Table("time", "topic", "partition", "offset", "bytes", "reason")
    for each in found:
        time = from_micros(each.time * 1000).isoformat(sep=" ", timespec="seconds")
        table.add_row(time, each.topic, str(each.partition), str(each.offset), str(len(each.value)), each.reason)
    # A reason may quote what somebody wrote into the log, such as "[/bold]".
    console = Console(markup=False, highlight=False)
    console.print(table if found else "no dead letters")


async def _dead_letters(config: Config, limit: int) -> list[DeadLetter]:
    connection = Connection(config)
    try:
        return await latest_dead_letters(connection, await live_database(connection), limit)
    finally:
        connection.close()


def _log_json(level: int) -> None:
    """Make structlog and the standard library's loggers (aiokafka's) write the same lines."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("trialstream_consumer").setLevel(level)
