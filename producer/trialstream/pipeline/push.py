"""Lists spools that wait on disk, and sends them: `trialstream spool` and `trialstream push`."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import anyio
from trialstream_schemas.errors import KafkaUnavailable, LogMismatch, SpoolError
from trialstream_schemas.messages import counted

from trialstream.config import Config
from trialstream.event_log.topics import publish_schemas
from trialstream.pipeline.pipeline import Pipeline
from trialstream.pipeline.readmission import drop_refused, readmit
from trialstream.spool.finding import search
from trialstream.spool.folder import Segment, Spool
from trialstream.spool.refused import read_refused
from trialstream.spool.segment import Contents

__all__ = ["WaitingSpool", "push_spool", "waiting_spools"]

logger = logging.getLogger("trialstream")

# Kafka counts as unavailable when it has acknowledged nothing for this long; a segment takes well under a second.
_STALL_SECONDS = 30.0
_POLL_SECONDS = 0.1
_FINISH_SECONDS = 10.0


@dataclass
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
        since: Time of the last write to its oldest file, UTC; None if no file can be read.
        busy: Whether a running process has locked it; that process sends the events.
        trouble: Why a file cannot be read; empty if all can. The numbers are those of the files before it.
    """

    folder: Path
    writer: str = ""
    prefix: str = ""
    events: int = 0
    refused: int = 0
    bytes: int = 0
    lost_bytes: int = 0
    since: datetime | None = None
    busy: bool = False
    trouble: str = ""

    def add(self, path: Path, folder: int, size: int, contents: Contents) -> None:
        """Count a file.

        Args:
            path: Path of the file.
            folder: Descriptor of its folder.
            size: Its size, bytes.
            contents: Its contents.
        """
        self.bytes += size
        self.lost_bytes += contents.lost_bytes
        if not self.writer:  # a file whose writer was killed in its first write names none
            self.writer, self.prefix = contents.writer, contents.prefix
        if self.since is None:
            with suppress(FileNotFoundError):
                written = os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mtime
                self.since = datetime.fromtimestamp(written, UTC)


def waiting_spools(paths: Iterable[Path], *, others_allowed: bool = False) -> Iterator[WaitingSpool]:
    """Find the spools that hold events, at and below some paths.

    Args:
        paths: The paths.
        others_allowed: Whether spools of other users are read, too.
    """
    folders = [each for path in paths for each in search(path, others_allowed=others_allowed).spools]
    for folder in dict.fromkeys(folders):
        spool = Spool(folder, "", "", 0, others_allowed=others_allowed)
        try:
            if (found := _waiting(spool)) is not None:
                yield found
        finally:
            spool.unlock()


def _waiting(spool: Spool) -> WaitingSpool | None:
    """Count the events of a spool; return None if the process that owns it has just sent everything."""
    found = WaitingSpool(spool.folder)
    try:
        found.busy = spool.is_busy()
        for segment, contents in spool.leftovers():
            found.events += segment.records
            found.add(segment.path, spool.open(), segment.bytes, contents)
        for path, data, contents in read_refused(spool):
            found.refused += len(contents.events)
            found.add(path, spool.open(), len(data), contents)
    except SpoolError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            found.trouble = str(error)
    return None if found.since is None and not found.trouble else found


async def push_spool(
    config: Config,
    folder: Path,
    progress: Callable[[int], object],
    *,
    with_refused: bool = False,
    others_allowed: bool = False,
) -> int:
    """Send the events of one spool and delete its files.

    The push may be interrupted and run again: a file is deleted when Kafka has acknowledged all of its events, the fold
    skips events that are sent twice, and the events of each writer keep their order.

    Args:
        config: Where Kafka is.
        folder: The spool.
        progress: Called repeatedly with the number of events acknowledged so far.
        with_refused: Whether to send the events that Kafka has refused, too, after all others.
        others_allowed: Whether the spool may belong to another user.

    Returns:
        Number of events that Kafka has acknowledged.

    Raises:
        SpoolBusy: A running process has locked the spool; that process sends the events.
        SpoolError: A file of the spool cannot be read: the events of the files before it are sent, and later ones stay,
            since the fold skips events that come after later ones. Or the spool belongs to another prefix, or one of
            its events is too large for its topic: this event and all later ones of its partition stay in the spool.
        KafkaUnavailable: Kafka did not take the events, or refuses them; they stay in the spool.
        LogMismatch: The spool belongs to another log.
    """
    spool = Spool(folder, config.prefix, "", 2**63, others_allowed=others_allowed)
    try:
        spool.lock()
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
    unreadable: SpoolError | None = None
    try:
        for segment, contents in spool.leftovers():
            if contents.prefix and contents.prefix != config.prefix:
                raise SpoolError(
                    f"{segment.path} belongs to the prefix {contents.prefix!r}, not to {config.prefix!r}: "
                    f"set TRIALSTREAM_PREFIX={contents.prefix}"
                )
            segments.append(segment)
            schemas |= contents.schemas
            logs.add(contents.log)
    except SpoolError as error:
        if not segments:
            raise
        unreadable = error
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
            failure = await _watch(config, pipeline, progress)
        finally:
            await pipeline.finish(_FINISH_SECONDS)
    if failure is not None:  # raised inside, it would arrive in an ExceptionGroup
        raise failure
    acked = pipeline.statistics().acked
    if unreadable is not None:
        raise SpoolError(
            f"{unreadable}; sent {counted(acked, 'event')} of the files before it, and all others stay: mend the file, "
            "or move it away, and run the push again"
        ) from unreadable
    return acked


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
        if pipeline.refused:
            return KafkaUnavailable(
                f"Kafka at {config.kafka} refuses the events ({pipeline.refused}): those not sent stay in the spool; "
                "run the push again when it takes them"
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
