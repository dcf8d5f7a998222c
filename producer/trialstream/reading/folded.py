"""Waiting until the projection holds all events before given offsets of the log."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
from trialstream_schemas.errors import ProjectionBehind
from trialstream_schemas.messages import counted
from trialstream_schemas.storage.collections import LOG_ID

from trialstream.event_log.topics import Route
from trialstream.reading.live import LiveProjection
from trialstream.reading.polling import is_refresh_due, pause

__all__ = ["FoldedOffsets"]


class FoldedOffsets:
    """The folded offset of each partition, as last read from its checkpoint. Belongs to one event loop.

    Args:
        live: The projection that is read.
    """

    def __init__(self, live: LiveProjection) -> None:
        self._live = live
        self._folded: dict[Route, int] = {}

    async def wait(self, offsets: Mapping[Route, int], timeout: float, *, fresh: bool = False) -> None:
        """Wait until the projection holds all events before some offsets.

        Args:
            offsets: By partition, the offset after the last event to wait for.
            timeout: Seconds.
            fresh: Whether to read the checkpoints even if they were far enough when they were last read: the projection
                may have been dropped since then, to be folded again.

        Raises:
            ProjectionBehind: The consumer has not folded them in time; the message says how far behind it is.
            LogMismatch: The projection was folded from another log, so its offsets mean nothing.
            MongoUnavailable: MongoDB does not answer.
        """
        if self._live.is_named:
            return  # nothing more will be folded into it
        missing = offsets if fresh else self._missing(offsets)
        polls = 0
        if missing:
            await self._read_checkpoints(missing, polls)  # even with a timeout of 0, since the error names the offsets
        with anyio.move_on_after(timeout):
            while missing := self._missing(missing):
                await anyio.sleep(pause(polls))
                polls += 1
                await self._read_checkpoints(missing, polls)
            return
        raise ProjectionBehind(self._describe(missing))

    def _missing(self, offsets: Mapping[Route, int]) -> dict[Route, int]:
        return {route: offset for route, offset in offsets.items() if self._folded.get(route, 0) < offset}

    def _describe(self, missing: Mapping[Route, int]) -> str:
        events = sum(max(0, offset - self._folded.get(route, 0)) for route, offset in missing.items())
        where = ", ".join(
            f"{route.topic}/{route.partition} at offset {self._folded.get(route, 0)} of {offset}"
            for route, offset in sorted(missing.items())
        )
        return (
            f"the projection is {counted(events, 'event')} behind ({where}): is a consumer running? start "
            "one with `trialstream consume` (or `trialstream up`); one that logs `held_up` waits for a transaction of "
            "another program; nothing is lost, the events are in Kafka"
        )

    async def _read_checkpoints(self, missing: Mapping[Route, int], polls: int) -> None:
        ids = {f"{route.topic}/{route.partition}": route for route in missing}
        async with self._live.errors():
            checkpoints = self._live.collections["checkpoints"]
            # The first poll of a wait also reads the id of the log; later ones are many, and faster with one id.
            wanted = [*ids] if polls else [LOG_ID, *ids]
            cursor = checkpoints.find(
                {"_id": {"$in": wanted}}, {"offset": 1, "log": 1}, max_time_ms=self._live.max_time_ms
            )
            found = {each["_id"]: each for each in await cursor.to_list(None)}
            self._live.compare_log(found.pop(LOG_ID, None))
            for id_, route in ids.items():
                self._folded[route] = found[id_]["offset"] if id_ in found else 0
            # A projection that becomes live has folded at least as much, so these offsets stay valid. The next poll
            # reads its checkpoints.
            if is_refresh_due(polls) and self._missing(missing):
                await self._live.refresh()
