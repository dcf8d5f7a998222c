"""Reader of spools, which are folded in memory: offline runs can be read before they are pushed.

The folders are read as they are: they are neither locked nor changed, and a process may still write to them. Those of
other users are left out.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from trialstream.event_log.topics import Route
from trialstream.runtime.loop import run_sync
from trialstream.spool.finding import search
from trialstream.spool.folder import SEGMENT_NAMES
from trialstream.spool.segment import read_segment
from trialstream_schemas.errors import SchemaError, SpoolError
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.events import LogCreated

from trialstream_consumer.memory.log import MemoryLog
from trialstream_consumer.memory.reader import MemoryReader
from trialstream_consumer.memory.store import MemoryStore

__all__ = ["SpoolLog", "SpoolReader"]

logger = logging.getLogger("trialstream")


class _Record(NamedTuple):
    """An event of a spool.

    Attributes:
        time: When it was logged, microseconds since 1970 UTC; 0 if it cannot be decoded.
        route: Its partition.
        value: The event in single-object encoding.
    """

    time: int
    route: Route
    value: bytes


class SpoolReader(MemoryReader):
    """Reads the events that spools hold when it is opened.

    Args:
        path: A spool, or a folder of spools.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(MemoryStore())
        self._path = path

    async def open(self) -> None:
        """Read the spools, and fold their events.

        Raises:
            SpoolError: There is no spool, or it cannot be read.
        """
        await run_sync(_fill, self._store, self._path)


class SpoolLog(MemoryLog):
    """The events that spools hold when a stream of them is opened; they count as appended when they were logged.

    Args:
        path: A spool, or a folder of spools.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(MemoryStore(), f"spool:{path}")
        self._path = path

    async def open(self) -> LogCreated:
        """Read the spools.

        Raises:
            SpoolError: There is no spool, or it cannot be read.
        """
        await asyncio.to_thread(_fill, self._store, self._path)
        return await super().open()


def _fill(store: MemoryStore, path: Path) -> None:
    """Append the events of all spools at and below a path: those of each writer in order, and of several by time."""
    found = search(path, (SEGMENT_NAMES,))
    for folder, reason in found.foreign.items():
        logger.warning("skipped %s: %s", folder, reason)
    if not found.spools:
        raise SpoolError(f"spool: expected a folder that holds a spool of yours, got {str(path)!r}, which holds none")
    schemas = SchemaStore()
    spools = [_records(store, schemas, folder) for folder in found.spools]
    dead: list[str] = []
    for record in heapq.merge(*spools, key=lambda record: record.time):
        dead += store.append(record.route, [record.value], record.time // 1000)[1]
    if dead:
        logger.warning(
            "%d events of the spools in %s belong to what is not in these spools, or cannot be read; the first: %s",
            len(dead),
            path,
            dead[0],
        )


def _records(store: MemoryStore, schemas: SchemaStore, folder: Path) -> Iterator[_Record]:
    for path in sorted(folder.glob(SEGMENT_NAMES)):
        with suppress(FileNotFoundError):  # it was sent meanwhile
            contents = read_segment(path)
            texts = contents.schemas.values()
            store.add_schemas(texts)
            for text in texts:
                schemas.add(text)
            for topic, _, value in contents.events:
                try:
                    time = schemas.decode(value).time
                except SchemaError:
                    time = 0
                yield _Record(time, Route(topic, 0), value)
