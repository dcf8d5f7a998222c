"""`rebuild`, `verify` and `projections`: fold the log again, compare the documents, and manage projections."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.filesize import decimal
from trialstream.config import Config
from trialstream_consumer.projection.catalog import Catalog, Projection
from trialstream_consumer.projection.deployment import check_deployment
from trialstream_consumer.replay.diff import Difference
from trialstream_consumer.replay.rebuild import rebuild as rebuild_live
from trialstream_consumer.replay.rebuild import rebuild_until
from trialstream_consumer.replay.verify import verify as verify_live
from trialstream_schemas.messages import counted

from trialstream_console.cli.logs import log_errors_only
from trialstream_console.cli.output import print_json, print_table, say
from trialstream_console.cli.progress import progress_bar
from trialstream_console.cli.running import Workers, run
from trialstream_console.cli.times import format_time, parse_time
from trialstream_console.operations.projections import list_projections

__all__ = ["register"]

_KINDS = {
    "differs": "differs from the log",
    "missing": "is missing",
    "surplus": "does not come from the log",
}


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (rebuild, verify, projections):
        app.command()(command)


def rebuild(
    until: Annotated[
        int | None,
        typer.Option(
            parser=parse_time,
            metavar="TIME",
            help="Fold only records appended before this time, into a named projection.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="With --until: name of the projection, for connect(projection=NAME). [u<yymmdd>T<hhmmss>]"),
    ] = None,
    workers: Workers = 1,
) -> None:
    """Fold the whole log into a new projection, and switch to it.

    Readers and consumers keep running while they are switched. An interrupted or killed rebuild resumes when the
    command is run again. With --until, the state as of that time is built as a second projection, and is read by
    its name. Times are ISO 8601, in UTC unless they have an offset, and are compared with the broker's timestamps.
    """
    if name is not None and until is None:
        raise typer.BadParameter("--name requires --until: the live projection has no name")
    config = Config.from_env()
    log_errors_only()
    with progress_bar() as progress:
        if until is None:
            done = run(rebuild_live, config, progress, workers)
        else:
            name = name or datetime.fromtimestamp(until / 1000, UTC).strftime("u%y%m%dT%H%M%S")
            done = run(rebuild_until, config, name, until, progress, workers)
    if until is None:
        say(f"rebuilt from {counted(done.records, 'record')}: the live projection is now {done.namespace}")
    else:
        say(
            f"built {name} from the {counted(done.records, 'record')} before {format_time(until)}: read it with "
            f"connect(projection={name!r})"
        )


def verify(workers: Workers = 1) -> None:
    """Compare every document with the log.

    Each difference is printed, and the exit code is 1 if there are any. The log is folded into a temporary projection,
    which is dropped afterwards. Consumers and writers may keep running.
    """
    config = Config.from_env()
    log_errors_only()
    differences = 0

    def found(difference: Difference) -> None:
        nonlocal differences
        differences += 1
        say(_describe(difference))

    with progress_bar() as progress:
        verified = run(verify_live, config, found, progress, workers)
    whole = f"{counted(verified.documents, 'document')}, folded from {counted(verified.records, 'record')}"
    if differences:
        differ = counted(differences, "document differs", "documents differ")
        say(f"{whole}: {differ}; run `trialstream rebuild` to make them match the log")
        raise typer.Exit(1)
    say(f"{whole}: all match the log")


def projections(
    drop: Annotated[str | None, typer.Option(metavar="NAME", help="Drop the projection with this name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each projection.")] = False,
) -> None:
    """List the projections, or drop one.

    Projections are the live one, those built with --until, and remains of interrupted rebuilds.
    """
    config = Config.from_env()
    if drop is not None:
        run(_drop, config, drop)
        say(f"dropped {drop}")
        return
    found = run(_list, config)
    if as_json:
        for each in found:
            print_json(asdict(each))
        return
    print_table(("name", "state", "until", "size", "database", "suffix"), map(_row, found))


def _row(each: Projection) -> tuple[str, ...]:
    until = "" if each.until is None else format_time(each.until)
    return each.name or "", each.state, until, decimal(each.size), each.database, each.suffix


async def _list(config: Config) -> list[Projection]:
    await check_deployment(config)
    return await list_projections(config)


async def _drop(config: Config, name: str) -> None:
    await check_deployment(config)
    async with Catalog(config) as found:
        await found.drop(name)


def _describe(difference: Difference) -> str:
    document = f"{difference.collection} {difference.id}"
    if difference.kind != "differs":
        return f"{document} {_KINDS[difference.kind]}"
    return f"{document} {_KINDS['differs']}: {', '.join(difference.fields) or 'the order of its fields'}"
