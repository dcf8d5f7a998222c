"""Lists spools that wait on disk, and sends them: `trialstream spool` and `trialstream push`."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import anyio
from trialstream_schemas.errors import KafkaUnavailable, LogMismatch, SpoolBusy, SpoolError

from trialstream.config import Config
from trialstream.event_log.topics import publish_schemas
from trialstream.pipeline.pipeline import Pipeline
from trialstream.pipeline.readmission import drop_refused, readmit
from trialstream.spool.folder import REFUSED_NAMES, SEGMENT_NAMES, Segment, Spool, find_spools
from trialstream.spool.refused import read_refused
from trialstream.spool.segment import Contents

__all__ = ["WaitingSpool", "push_spool", "waiting_spools"]

logger = logging.getLogger("trialstream")

# Kafka counts as unavailable when it has acknowledged nothing for this long; a segment takes well under a second.
_STALL_SECONDS = 30.0
_POLL_SECONDS = 0.1
_FINISH_SECONDS = 10.0


@dataclass(frozen=True)
class WaitingSpool:
    """A spool that holds events.

    Attributes:
        folder: Path of the spool.
        writer: Id of its writer.
        prefix: Prefix of the log that its events belong to.
        events: Number of events; some of the oldest may have been sent already.
        refused: Number of further events, which Kafka has refused because they are too large for their topic.
        bytes: Size of its files.
        lost_bytes: Bytes outside of whole blocks: torn by a kill, or damaged.
        since: Time of the last write to its oldest file, UTC.
        busy: Whether a running process has locked it; that process sends the events.
    """

    folder: Path
    writer: str
    prefix: str
    events: int
    refused: int
    bytes: int
    lost_bytes: int
    since: datetime
    busy: bool


def waiting_spools(paths: Iterable[Path]) -> Iterator[WaitingSpool]:
    """Find the spools that hold events, at and below some paths.

    Raises:
        SpoolError: A segment cannot be read.
    """
    for folder in dict.fromkeys(found for path in paths for found in find_spools(path, (SEGMENT_NAMES, REFUSED_NAMES))):
        spool = Spool(folder, "", "", 0)
        try:
            spool.lock()
        except SpoolBusy:
            busy = True
        else:
            busy = False
            spool.unlock()
        found, refused = list(spool.leftovers()), read_refused(folder)
        if not found and not refused:
            continue  # the process that owns the spool has just sent everything
        files = [*((segment.path, contents) for segment, contents in found), *refused]
        owner = _first_named([contents for _, contents in files])
        yield WaitingSpool(
            folder,
            owner.writer,
            owner.prefix,
            sum(segment.records for segment, _ in found),
            sum(len(contents.events) for _, contents in refused),
            spool.bytes + sum(path.stat().st_size for path, _ in refused),
            sum(contents.lost_bytes for _, contents in files),
            datetime.fromtimestamp(files[0][0].stat().st_mtime, UTC),
            busy,
        )


def _first_named(contents: list[Contents]) -> Contents:
    """Return the first contents that name a writer: a file whose writer was killed in its first write names none."""
    return next((each for each in contents if each.writer), contents[0])


async def push_spool(
    config: Config, folder: Path, progress: Callable[[int], object], *, with_refused: bool = False
) -> int:
    """Send the events of one spool and delete its files.

    The push may be interrupted and run again: a file is deleted when Kafka has acknowledged all of its events, the fold
    skips events that are sent twice, and the events of each writer keep their order.

    Args:
        config: Where Kafka is.
        folder: The spool.
        progress: Called repeatedly with the number of events acknowledged so far.
        with_refused: Whether to send the events that Kafka has refused, too, after all others.

    Returns:
        Number of events that Kafka has acknowledged.

    Raises:
        SpoolBusy: A running process has locked the spool; that process sends the events.
        SpoolError: The spool cannot be read, or it belongs to another prefix, or one of its events is too large for its
            topic: this event and all later ones of its partition stay in the spool.
        KafkaUnavailable: Kafka did not take the events; they stay in the spool.
        LogMismatch: The spool belongs to another log.
    """
    spool = Spool(folder, config.prefix, "", 2**63)
    spool.lock()
    try:
        drop_refused(spool)
        if with_refused:
            readmit(spool)
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
                f"{segment.path} belongs to the prefix {contents.prefix!r}, not to {config.prefix!r}: "
                f"set TRIALSTREAM_PREFIX={contents.prefix}"
            )
        segments.append(segment)
        schemas |= contents.schemas
        logs.add(contents.log)
    pipeline = Pipeline(
        config, asyncio.get_running_loop(), spool, lambda message: logger.warning("%s", message), halts=True
    )
    pipeline.backlog.adopt(segments)
    await pipeline.connect(_STALL_SECONDS)
    if pipeline.log_id and (others := logs - {"", pipeline.log_id}):
        raise LogMismatch(
            f"spool {spool.folder} belongs to log {others.pop()}, but {config.trials_topic} of Kafka at {config.kafka} "
            f"belongs to log {pipeline.log_id}: set TRIALSTREAM_KAFKA to the Kafka of that log"
        )
    await publish_schemas(config, schemas)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pipeline.run, lambda _: math.inf)
        try:
            error = await _watch(config, pipeline, progress)
        finally:
            await pipeline.finish(_FINISH_SECONDS)
    if error is not None:  # raised inside, it would arrive in an ExceptionGroup
        raise error
    return pipeline.statistics().acked


async def _watch(
    config: Config, pipeline: Pipeline, progress: Callable[[int], object]
) -> SpoolError | KafkaUnavailable | None:
    """Report progress until all events are acknowledged; return the error if they cannot be."""
    backlog, began = pipeline.backlog, time.monotonic()
    while backlog.on_disk() or not backlog.is_acked(backlog.next_number):  # a segment on disk may hold no events
        if pipeline.refusals.halted:
            return SpoolError(
                f"{pipeline.refusals.halted}: raise max.message.bytes of the topic, and run the push again; the events "
                "not sent stay in the spool"
            )
        if pipeline.missing_right:
            return KafkaUnavailable(
                f"Kafka at {config.kafka} refuses events: {pipeline.missing_right}; the events not sent stay in the "
                "spool"
            )
        if time.monotonic() - max(began, pipeline.progressed) > _STALL_SECONDS:
            return KafkaUnavailable(
                f"Kafka at {config.kafka} has taken nothing for {_STALL_SECONDS:g} s: the events not sent stay in "
                "the spool; run the push again"
            )
        progress(pipeline.statistics().acked)
        await anyio.sleep(_POLL_SECONDS)
    progress(pipeline.statistics().acked)
    return None
