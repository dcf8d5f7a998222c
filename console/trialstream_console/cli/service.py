"""`consume` and `dead-letters`: the consumer service, and the records that it could not fold."""

from __future__ import annotations

import logging
from typing import Annotated

import anyio
import structlog
import typer
from trialstream.config import Config
from trialstream.waiting import receive_notices
from trialstream_consumer.projection.dead_letters import DeadLetter
from trialstream_consumer.projection.deployment import check_deployment
from trialstream_consumer.service import Service
from trialstream_schemas.model.times import from_micros

from trialstream_console.cli.logs import log_json
from trialstream_console.cli.output import print_json, print_table, say
from trialstream_console.cli.running import Workers, run
from trialstream_console.cli.supervisor import Supervisor
from trialstream_console.operations.dead_letters import dead_letters as read_dead_letters

__all__ = ["register"]

Limit = Annotated[int, typer.Option(min=1, help="Maximum number of dead letters; the latest come first.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(consume)
    app.command()(dead_letters)


def consume(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every batch.")] = False,
    workers: Workers = 1,
) -> None:
    """Fold the log into MongoDB until SIGTERM or Ctrl-C.

    Several consumers share the partitions, and so do the workers of one consumer: a worker that dies is replaced. The
    servers are configured by TRIALSTREAM_KAFKA, TRIALSTREAM_MONGO and TRIALSTREAM_PREFIX. The command logs to stderr,
    one JSON object on each line.
    """
    log_json(logging.DEBUG if verbose else logging.INFO)
    # The service and the supervisor handle the signals, which end them with exit code 0.
    anyio.run(_consume, Config.from_env(), workers, verbose)


async def _consume(config: Config, workers: int, verbose: bool) -> None:
    log = structlog.get_logger("trialstream_consumer")
    with receive_notices(lambda text: log.info("waiting", reason=text)):
        service = Service(config) if workers == 1 else Supervisor(config, workers, verbose=verbose)
        await service.run()


def dead_letters(
    limit: Limit = 100,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object for each dead letter, with the bytes in hexadecimal.")
    ] = False,
) -> None:
    """List the records that could not be folded.

    Each is listed with its reason, topic, partition and offset.
    """
    found = run(_dead_letters, Config.from_env(), limit)
    if as_json:
        for each in found:
            print_json({**vars(each), "value": each.value.hex()})
        return
    if not found:
        say("no dead letters")
        return
    print_table(("time", "topic", "partition", "offset", "bytes", "reason"), map(_row, found))


def _row(each: DeadLetter) -> tuple[str, ...]:
    time = from_micros(each.time * 1000).isoformat(sep=" ", timespec="seconds")
    return time, each.topic, str(each.partition), str(each.offset), str(len(each.value)), each.reason


async def _dead_letters(config: Config, limit: int) -> list[DeadLetter]:
    await check_deployment(config)
    return await read_dead_letters(config, limit)
