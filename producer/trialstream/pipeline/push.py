"""Sending what waits in spools: `trialstream push`."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import anyio
from trialstream_schemas.errors import KafkaUnavailable, LogMismatch, SpoolBusy, SpoolError

from trialstream.config import Config
from trialstream.log.topics import publish_schemas
from trialstream.pipeline.pipeline import Uplink
from trialstream.spool.folder import Segment, Spool, find_spools
from trialstream.spool.segment import Contents

__all__ = ["Waiting", "push_spool", "waiting"]

# Kafka takes a segment in well under a second.
_STALL_SECONDS = 30.0
_LOOK_SECONDS = 0.1
_FINISH_SECONDS = 10.0


@dataclass(frozen=True)
class Waiting:
    """A spool.

    Attributes:
        folder: Where it is.
        writer: Id of its writer.
        prefix: Prefix of the log that it is for.
        events: How many wait; some of the oldest may have been sent already.
        bytes: What its files take.
        lost_bytes: Bytes that are in no whole block: what a kill has torn, or damage.
        since: When its oldest file was begun, UTC.
        busy: Whether a running process has it, which sends it itself.
    """

    folder: Path
    writer: str
    prefix: str
    events: int
    bytes: int
    lost_bytes: int
    since: datetime
    busy: bool


def waiting(paths: Iterable[Path]) -> Iterator[Waiting]:
    """The spools at and below some paths.

    Raises:
        SpoolError: one cannot be read.
    """
    for folder in dict.fromkeys(found for path in paths for found in find_spools(path)):
        spool = Spool(folder, "", "", 0)
        try:
            spool.lock()
        except SpoolBusy:
            busy = True
        else:
            busy = False
            spool.let_go()
        found = list(spool.leftovers())
        if not found:
            continue  # sent meanwhile
        known = _known([contents for _, contents in found])
        yield Waiting(
            folder,
            known.writer,
            known.prefix,
            sum(segment.records for segment, _ in found),
            spool.bytes,
            sum(contents.lost_bytes for _, contents in found),
            datetime.fromtimestamp(found[0][0].path.stat().st_mtime, UTC),
            busy,
        )


def _known(contents: list[Contents]) -> Contents:
    """Whose they are; a file that was killed in its first write does not say."""
    return next((each for each in contents if each.writer), contents[0])


async def push_spool(config: Config, folder: Path, progress: Callable[[int], object]) -> int:
    """Send what waits in one spool, delete what was sent, and return how many events that were.

    It may be interrupted and run again: a file is deleted when Kafka has acknowledged all of it, what is sent twice is
    skipped by the fold, and the events of each writer keep their order.

    Args:
        config: Where Kafka is.
        folder: The spool.
        progress: Told how many events were acknowledged so far.

    Raises:
        SpoolBusy: a running process has it, which sends it itself.
        SpoolError: it cannot be read, or is for another prefix.
        KafkaUnavailable: Kafka does not take the events; they stay in the spool.
        LogMismatch: it is for another log.
    """
    spool = Spool(folder, config.prefix, "", 2**63)
    spool.lock()
    try:
        return await _push(config, spool, progress)
    finally:
        spool.close()


async def _push(config: Config, spool: Spool, progress: Callable[[int], object]) -> int:
    segments: list[Segment] = []
    schemas: dict[bytes, bytes] = {}
    logs: set[str] = set()
    for segment, contents in spool.leftovers():
        if contents.prefix and contents.prefix != config.prefix:
            raise SpoolError(
                f"{segment.path} is for the prefix {contents.prefix!r} and not for {config.prefix!r}: "
                f"set TRIALSTREAM_PREFIX={contents.prefix}"
            )
        segments.append(segment)
        schemas |= contents.schemas
        logs.add(contents.log)
    uplink = Uplink(config, asyncio.get_running_loop(), spool)
    uplink.backlog.adopt(segments)
    await uplink.connect(_STALL_SECONDS)
    if others := logs - {"", uplink.log}:
        raise LogMismatch(
            f"spool {spool.folder} is for log {others.pop()}, and {config.trials_topic} of Kafka at {config.kafka} is "
            f"log {uplink.log}: set TRIALSTREAM_KAFKA to the one it was written for"
        )
    await publish_schemas(config, schemas)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(uplink.run, lambda _: math.inf)
        try:
            await _watch(config, uplink, progress)
        finally:
            await uplink.finish(_FINISH_SECONDS)
    return uplink.backlog.statistics().acked


async def _watch(config: Config, uplink: Uplink, progress: Callable[[int], object]) -> None:
    """Return when everything is acknowledged."""
    mark, began = uplink.backlog.mark(), time.monotonic()
    while uplink.backlog.colds() or not uplink.backlog.reached(mark):  # a segment may hold nothing
        if time.monotonic() - max(began, uplink.sender.progressed) > _STALL_SECONDS:
            raise KafkaUnavailable(
                f"Kafka at {config.kafka} has taken nothing for {_STALL_SECONDS:g} s: what is not sent stays in the "
                "spool; run the push again"
            )
        progress(uplink.backlog.statistics().acked)
        await anyio.sleep(_LOOK_SECONDS)
    progress(uplink.backlog.statistics().acked)
