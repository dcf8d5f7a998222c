"""The log of a store as a source of streams."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from trialstream.event_log.records import Records
from trialstream.event_log.topics import Route
from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.events import LogCreated

from trialstream_consumer.memory.store import MemoryStore

__all__ = ["MemoryLog"]

_FETCHED_RECORDS = 4000


class MemoryLog:
    """See `trialstream.streaming.source.LogSource`.

    Args:
        store: The store.
        place: Where the log is, for messages.
    """

    trials_topic = "trials"
    registry_topic = "registry"

    def __init__(self, store: MemoryStore, place: str) -> None:
        self.place = place
        self._store = store
        self._following: dict[Route, int] = {}
        self._appended: asyncio.Event
        self._loop: asyncio.AbstractEventLoop

    @property
    def schemas(self) -> SchemaStore:
        """See `LogSource.schemas`."""
        return self._store.schemas

    @property
    def texts(self) -> Mapping[bytes, bytes]:
        """See `LogSource.texts`."""
        return self._store.texts

    async def open(self) -> LogCreated:
        """See `LogSource.open`."""
        self._loop, self._appended = asyncio.get_running_loop(), asyncio.Event()
        self._store.listeners.append(self._notify)
        return LogCreated(time=0, log=self._store.id, partitions=1)

    def _notify(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._appended.set)

    async def begin(self, places: Mapping[Route, int]) -> None:
        """See `LogSource.begin`."""
        self._following = dict(places)

    async def ends(self, *, settled: bool) -> Mapping[Route, int]:  # noqa: ARG002 (there are no transactions)
        """See `LogSource.ends`."""
        return dict.fromkeys(self._following, 0) | self._store.ends()

    async def offsets_at(self, time: int) -> Mapping[Route, int]:
        """See `LogSource.offsets_at`."""
        ends = self._store.ends()
        found = {route: self._store.offset_at(route, time) for route in self._following}
        return {route: offset for route, offset in found.items() if offset < ends.get(route, 0)}

    async def fetch(self, routes: Collection[Route], seconds: float) -> Mapping[Route, Records]:
        """See `LogSource.fetch`."""
        self._appended.clear()
        if not (found := self._found(routes)):
            try:
                async with asyncio.timeout(seconds):
                    await self._appended.wait()
            except TimeoutError:
                return {}
            found = self._found(routes)
        return found

    def _found(self, routes: Collection[Route]) -> dict[Route, Records]:
        found: dict[Route, Records] = {}
        for route in routes:
            first = self._following[route]
            stored = self._store.records(route, first, _FETCHED_RECORDS)
            if stored:
                self._following[route] = end = first + len(stored)
                times, values = zip(*stored, strict=True)
                found[route] = Records(range(first, end), times, [None] * len(stored), values, {})
        return found

    async def refresh(self) -> None:
        """See `LogSource.refresh`: the store has all schemas."""

    async def close(self) -> None:
        """See `LogSource.close`."""
        self._store.listeners.remove(self._notify)
