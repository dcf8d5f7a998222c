"""An archive as a source of streams."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from trialstream.event_log.records import Records
from trialstream.event_log.topics import Route
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.events import LogCreated

from trialstream_consumer.archive.file import Archive, ArchiveError

__all__ = ["ArchiveLog"]

_FETCHED_RECORDS = 1000


class ArchiveLog:
    """See `trialstream.streaming.source.LogSource`. Each partition is read from the file by itself, block by block.

    Args:
        file: Path of the file.
    """

    trials_topic = "trials"
    registry_topic = "registry"

    def __init__(self, file: Path) -> None:
        self.place = str(file)
        self._file = file
        self._archive: Archive
        self._schemas: SchemaStore
        self._readers: dict[Route, Iterator[Mapping[str, Any]]] = {}

    @property
    def schemas(self) -> SchemaStore:
        """See `LogSource.schemas`."""
        return self._schemas

    @property
    def texts(self) -> Mapping[bytes, bytes]:
        """See `LogSource.texts`."""
        return self._archive.schemas

    async def open(self) -> LogCreated:
        """See `LogSource.open`.

        Raises:
            ArchiveError: The file cannot be read, or is not a whole archive of a log.
        """
        self._archive = await asyncio.to_thread(Archive.check, self._file, lambda *_: None)
        self._schemas = SchemaStore.of(self._archive.schemas)
        first = next(self._records(Route("registry", 0), 0), None)
        try:
            identity = None if first is None else self._schemas.decode(first["value"] or b"")
        except SchemaError:
            identity = None
        if not isinstance(identity, LogCreated):
            raise ArchiveError(f"{self._file}: expected the identity of a log as the first record, got another one")
        return identity

    def _records(self, route: Route, start: int) -> Iterator[Mapping[str, Any]]:
        """Read the records of a partition; a file has the registry first, then the partitions in their order."""
        for each in self._archive.logged_records():
            found = Route(each["topic"], each["partition"])
            if found == route and each["offset"] >= start:
                yield each
            elif found.topic == "trials" and (route.topic == "registry" or found.partition > route.partition):
                return

    async def begin(self, places: Mapping[Route, int]) -> None:
        """See `LogSource.begin`."""
        self._readers = {route: self._records(route, offset) for route, offset in places.items()}

    async def ends(self, *, settled: bool) -> Mapping[Route, int]:  # noqa: ARG002 (there are no transactions)
        """See `LogSource.ends`."""

        def read() -> dict[Route, int]:
            found = dict.fromkeys(self._readers, 0)
            for each in self._archive.logged_records():
                route = Route(each["topic"], each["partition"])
                if route in found:
                    found[route] = each["offset"] + 1
            return found

        return await asyncio.to_thread(read)

    async def offsets_at(self, time: int) -> Mapping[Route, int]:
        """See `LogSource.offsets_at`."""

        def read() -> dict[Route, int]:
            found: dict[Route, int] = {}
            for each in self._archive.logged_records():
                route = Route(each["topic"], each["partition"])
                if each["timestamp"] >= time and route in self._readers:
                    found.setdefault(route, each["offset"])
            return found

        return await asyncio.to_thread(read)

    async def fetch(self, routes: Collection[Route], seconds: float) -> Mapping[Route, Records]:
        """See `LogSource.fetch`."""
        found = {route: _in_columns([*islice(self._readers[route], _FETCHED_RECORDS)]) for route in routes}
        if not (some := {route: records for route, records in found.items() if records.offsets}):
            await asyncio.sleep(seconds)
        return some

    async def refresh(self) -> None:
        """See `LogSource.refresh`: the file has all schemas."""

    async def close(self) -> None:
        """See `LogSource.close`."""
        self._readers = {}


def _in_columns(records: Sequence[Mapping[str, Any]]) -> Records:
    offsets, times, keys, values = [
        [each[name] for each in records] for name in ("offset", "timestamp", "key", "value")
    ]
    return Records(offsets, times, keys, [value or b"" for value in values], {})
