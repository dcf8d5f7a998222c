"""`replay`: the past of a log, appended to another one at a pace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from trialstream.config import Config
from trialstream.streaming.copying import copy_log
from trialstream.streaming.kafka_log import KafkaLog
from trialstream.streaming.source import LogSource
from trialstream_consumer.archive import ArchiveLog
from trialstream_schemas.messages import counted

from trialstream_console.cli.output import say
from trialstream_console.cli.progress import progress_bar
from trialstream_console.cli.running import run
from trialstream_console.cli.times import parse_time

__all__ = ["register"]

_TIMEOUT = 30.0


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("replay")(replay)


def replay(
    to: Annotated[str, typer.Option(metavar="PREFIX", help="Prefix of the topics to append to; created if missing.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE.avro]", help="An archive; the configured log by default.")
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(min=0.001, help="1 for the pace of the log, 10 for ten times faster. [as fast as it goes]"),
    ] = None,
    until: Annotated[
        int | None, typer.Option(parser=parse_time, metavar="TIME", help="Only records appended before this time.")
    ] = None,
) -> None:
    """Append the records of a log, or of an archive, to the topics of another prefix, in the order of their times.

    A consumer of that prefix folds them as they come: to try out a dashboard, alerts or a new version on what has
    happened. An interrupted replay can be repeated: the fold skips repetitions.
    """
    config = Config.from_env()
    source: LogSource = KafkaLog(config, _TIMEOUT) if file is None else ArchiveLog(file)
    with progress_bar() as progress:
        sent, damaged = run(
            lambda: copy_log(
                source,
                replace(config, prefix=to),
                lambda done, total: progress("replaying", done, total),
                until=until,
                speed=speed,
                timeout=_TIMEOUT,
            )
        )
    unread = counted(damaged, "batch or record", "batches or records")
    left_out = f"; left out {unread} that cannot be read" if damaged else ""
    say(f"replayed {counted(sent, 'record')} to {to}{left_out}")
