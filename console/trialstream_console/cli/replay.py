"""`rebuild`, `verify`, `projections`: folding the log anew, and what comes of it."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from trialstream.config import Config
from trialstream_consumer.projection.catalog import Catalog, Projection
from trialstream_consumer.replay.diff import Difference
from trialstream_consumer.replay.rebuild import rebuild as rebuild_live
from trialstream_consumer.replay.rebuild import rebuild_until
from trialstream_consumer.replay.verify import verify as verify_live

from trialstream_console.cli.progress import counting
from trialstream_console.cli.running import run
from trialstream_console.cli.times import shown, time_of

__all__ = ["register"]

_KINDS = {
    "differs": "is not what the log says",
    "missing": "is missing",
    "surplus": "does not come from the log",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (rebuild, verify, projections):
        app.command()(command)


def rebuild(
    until: Annotated[
        int | None, typer.Option(parser=time_of, metavar="TIME", help="Only what came earlier, into another name.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="With --until: what connect(projection=NAME) reads. [u<yymmdd>T<hhmmss>]")
    ] = None,
) -> None:
    """Fold the whole log anew, and switch readers and consumers over; they go on all the time.

    Killed or interrupted, it goes on where it was when it is run again. With --until it builds the state as of that
    time beside the live one, to be read by its name. Times are ISO 8601, UTC unless they say otherwise, and compare
    with the broker's clock.
    """
    if name is not None and until is None:
        raise typer.BadParameter("--name goes with --until: the live projection has no name")
    config = Config.from_env()
    _log_faults_only()
    with counting() as progress:
        if until is None:
            done = run(partial(rebuild_live, config, progress))
        else:
            # 14 characters, which fit beside the longest prefix.
            name = name or datetime.fromtimestamp(until / 1000, UTC).strftime("u%y%m%dT%H%M%S")
            done = run(partial(rebuild_until, config, name, until, progress))
    if until is None:
        _say(f"rebuilt from {done.records} records: the live projection is {done.database} now")
    else:
        _say(
            f"built {name} from the {done.records} records before {shown(until)}: connect(projection={name!r}) reads it"
        )


def verify() -> None:
    """Compare every document with the log, and print the differences; exit code 1 if there are any.

    It folds the log into a projection of its own and drops that afterwards. Consumers and writers may go on.
    """
    config = Config.from_env()
    _log_faults_only()
    differences = 0

    def found(difference: Difference) -> None:
        nonlocal differences
        differences += 1
        _say(_described(difference))

    with counting() as progress:
        verified = run(partial(verify_live, config, found, progress))
    counted = f"{verified.documents} documents, folded from {verified.records} records"
    if differences:
        _say(f"{differences} of {counted} differ: `trialstream rebuild` makes them what the log says")
        raise typer.Exit(1)
    _say(f"{counted}: all are what the log says")


def projections(
    drop: Annotated[str | None, typer.Option(metavar="NAME", help="Drop the projection of that name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List the projections: the live one, those until a time, and what interrupted rebuilds have left."""
    config = Config.from_env()
    if drop is not None:
        run(partial(_drop, config, drop))
        _say(f"dropped {drop}")
        return
    found = run(partial(_list, config))
    if as_json:
        for each in found:
            print(json.dumps(asdict(each)))  # noqa: T201 (this is the output)
        return
    table = Table("name", "state", "until", "size", "database", box=None)
    for each in found:
        until = "" if each.until is None else shown(each.until)
        table.add_row(each.name or "", each.state, until, decimal(each.size), each.database)
    Console(markup=False, highlight=False).print(table)


async def _list(config: Config) -> list[Projection]:
    async with Catalog(config) as found:
        return await found.listing()


async def _drop(config: Config, name: str) -> None:
    async with Catalog(config) as found:
        await found.drop(name)


def _described(difference: Difference) -> str:
    where = f"{difference.collection} {difference.id}"
    if difference.kind != "differs":
        return f"{where} {_KINDS[difference.kind]}"
    return f"{where} {_KINDS['differs']}: {', '.join(difference.fields) or 'the order of its fields'}"


def _say(text: str) -> None:
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


def _log_faults_only() -> None:
    """Dead letters are no news here: they are told when the service folds them, and `dead-letters` lists them."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it warns of what it then retries
