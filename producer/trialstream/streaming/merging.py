"""Merging of partitions: one order of the events of a log, and the position after each of them.

Within a partition, events come in the order of the log. What the log holds when the stream is opened comes in the order
of the append times, over all partitions; later events come as they are fetched.

Memory: a partition holds what one fetch returned, what the next one returns meanwhile, and the events of at most
`_PART_BYTES`, or of one record. No further fetch begins while there are events that the reader has not taken.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate, chain
from operator import itemgetter
from typing import Any, NamedTuple

import anyio
from trialstream_schemas.errors import KafkaUnavailable

from trialstream.event_log.records import Records
from trialstream.event_log.topics import Route
from trialstream.streaming.decoding import Decode, Events, decode, events_of
from trialstream.streaming.scan import Scan, Taken
from trialstream.streaming.source import LogSource
from trialstream.waiting import waiting_for

__all__ = ["Merging", "Partition"]

logger = logging.getLogger("trialstream")

_PART_BYTES = 1024 * 1024
_WAIT_SECONDS = 1.0
_FINGERPRINT = itemgetter(slice(2, 10))


class _Scanned(NamedTuple):
    """Events of a part that are not in columns yet.

    Attributes:
        records: The records of the part.
        taken: Its events.
        following: Offset of the record after the part.
        timestamp: Append time of the last record of the part.
    """

    records: Records
    taken: Taken
    following: int
    timestamp: int


class Partition:
    """One partition of a stream.

    Args:
        route: The partition.
        scan: Its scan.
        start: Offset of the first event to return.
        rows: Number of rows of the first event that were returned before.

    Attributes:
        route: The partition.
        start: As given.
        end: Offset after the last event to return; None for no end.
        end_rows: Number of rows of the event at `end` that are returned, too.
        caught_up: Offset up to which events are merged by time.
        following: Offset of the next record to scan.
        delivered: Offset of the next event to return, and the number of its rows that were returned.
        kept: The same, once all events that are ready are returned.
    """

    def __init__(self, route: Route, scan: Scan, start: int, rows: int) -> None:
        self.route = route
        self.scan = scan
        self.start = start
        self.end: int | None = None
        self.end_rows = 0
        self.caught_up = 0
        self.following = 0
        self.delivered = self.kept = start, rows
        self._rows = rows
        # The latest append time of a scanned record, which orders the events of different partitions.
        self.time = -1
        self.fetched: deque[Records] = deque()
        self.scanned: _Scanned | None = None
        # Events that wait for those of other partitions.
        self.ready: list[_Ready] = []

    @property
    def last(self) -> int | None:
        """Offset after the last record to scan; None for no end."""
        return None if self.end is None else self.end + (self.end_rows > 0)

    @property
    def is_done(self) -> bool:
        """Whether all events up to the end are scanned."""
        return (last := self.last) is not None and self.following >= last

    @property
    def is_behind(self) -> bool:
        """Whether records that are merged by time are not scanned yet."""
        return self.following < self.caught_up and not self.is_done

    @property
    def is_waiting(self) -> bool:
        """Whether events are ready and not yet returned."""
        return self.delivered < self.kept

    @property
    def place(self) -> tuple[int, int]:
        """Offset of the next event to return or to scan, and the number of its rows that were returned."""
        if self.is_waiting or self.following <= self.start:
            return self.delivered
        return (self.following, 0) if self.last is None else self._before_the_end()

    def _before_the_end(self) -> tuple[int, int]:
        assert self.end is not None
        return (self.end, self.end_rows) if self.following > self.end else (self.following, 0)

    def add(self, fetched: Records) -> None:
        """Keep fetched records, in parts that are scanned at once."""
        ends = [*accumulate(map(len, fetched.values))]
        begin = 0
        while begin < len(ends):
            before = ends[begin - 1] if begin else 0
            stop = max(begin + 1, bisect_right(ends, before + _PART_BYTES))
            self.fetched.append(fetched.cut(begin, stop))
            begin = stop

    def scan_next(self, until: int | None) -> None:
        """Scan the next part of the fetched records, up to the end; its events are then `scanned`.

        Args:
            until: Append time at which the stream ends, milliseconds since 1970 UTC; None for none.
        """
        records = self.fetched.popleft()
        if until is not None and self.end is None:
            late = next((i for i, appended in enumerate(records.times) if appended >= until), None)
            if late is not None:
                self.end = records.offsets[late]
        following, timestamp = records.offsets[-1] + 1, records.times[-1]
        if (last := self.last) is not None and following > last:
            self.fetched.clear()
            records, following = records.cut(0, records.position_of(last)), last
        self.scanned = _Scanned(records, self.scan.scan(records, self.start), following, timestamp)

    def keep(self, events: Events, decoded: Decode) -> None:
        """Keep the events of the scanned part until they are returned.

        Args:
            events: The events.
            decoded: As for `Events.items`.
        """
        assert self.scanned is not None
        *_, self.following, timestamp = self.scanned
        self.scanned = None
        if self.end_rows and events.offsets and events.offsets[-1] == self.end:
            events = events.with_rows_of(len(events.offsets) - 1, 0, self.end_rows, decoded)
        if self._rows and events.offsets and events.offsets[0] == self.start:
            events = events.with_rows_of(0, self._rows, None, decoded)
        if events.offsets:
            keys = [*events.times]
            if keys[0] < self.time or keys != sorted(keys):  # a broker's clock was set back
                _, *keys = accumulate(keys, max, initial=self.time)
            self.ready.append(_Ready(keys, events))
            self.kept = self._after(events.offsets[-1])
            self.time = keys[-1]
        self.time = max(self.time, timestamp)

    def take(self, limit: int | None) -> list[_Ready]:
        """Take the events up to a time; None for all."""
        if limit is None:
            found, self.ready = self.ready, []
            return found
        found = []
        while self.ready and self.ready[0].keys[0] <= limit:
            keys, events = self.ready.pop(0)
            stop = bisect_right(keys, limit)
            found.append(_Ready(keys[:stop], events.part(0, stop)))
            if stop < len(keys):
                self.ready.insert(0, _Ready(keys[stop:], events.part(stop, len(keys))))
        return found

    def has_returned(self, offset: int, rows: int = 0) -> None:
        """Move the place behind an event.

        Args:
            offset: Offset of the event.
            rows: Number of its rows that were returned, if that is not all of them.
        """
        if rows:
            self.delivered = offset, rows + (self._rows if offset == self.start else 0)
        else:
            self.delivered = self._after(offset)

    def _after(self, offset: int) -> tuple[int, int]:
        return (offset, self.end_rows) if offset == self.end else (offset + 1, 0)


class _Ready(NamedTuple):
    """Events of a partition that wait to be returned.

    Attributes:
        keys: The times that order them among those of other partitions, ascending.
        events: The events; at least one.
    """

    keys: list[int]
    events: Events


def _merged(parts: Sequence[_Ready]) -> Events:
    """Merge events of partitions by their keys; those with the same key stay in their order."""
    if len(parts) == 1:
        return parts[0].events
    keys = [*chain.from_iterable([each.keys for each in parts])]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    columns: list[Any] = [[*chain.from_iterable(each)] for each in zip(*[each.events for each in parts], strict=True)]
    return Events(*map(itemgetter(*order), columns))


class Merging:
    """The events of several partitions.

    Args:
        source: The log.
        partitions: The partitions.
        until: Append time at which the stream ends, milliseconds since 1970 UTC; None for none.
        patience: Seconds without a record after which an error is raised while records are expected; None to wait for
            ever.
    """

    def __init__(
        self, source: LogSource, partitions: Sequence[Partition], until: int | None, patience: float | None
    ) -> None:
        self._source = source
        self._partitions = {each.route: each for each in partitions}
        self._until = until
        self._patience = patience
        self._progressed = time.monotonic()
        self._warned = False

    async def next_events(self) -> Events | None:
        """Return the next events; None at the end. A cancelled call loses none.

        Raises:
            KafkaUnavailable: Records are expected, and no broker has sent one for the time of `patience`.
            LogMismatch: A part of the log is lost, or the log was recreated.
        """
        while True:
            behind = [each for each in self._partitions.values() if each.is_behind]
            if behind:
                first = min([each.time for each in behind])
                wanted = [each for each in behind if each.time <= first or not each.ready]
            else:
                wanted = [each for each in self._partitions.values() if not each.is_done]
            if wanted:
                await self._advance(wanted, behind)
            behind = [each for each in behind if each.is_behind]
            limit = min([each.time for each in behind]) if behind else None
            found = [part for each in self._partitions.values() for part in each.take(limit)]
            if found:
                return _merged(found)
            if not wanted:
                return None

    async def _advance(self, wanted: Sequence[Partition], behind: Sequence[Partition]) -> None:
        """Scan the next part of each partition, and fetch before that if there is none.

        Args:
            wanted: The partitions.
            behind: Those that are merged by time. All of them will be wanted, so they are fetched together.
        """
        if not any([each.fetched or each.scanned for each in wanted]):
            routes = [each.route for each in behind or wanted if not each.fetched]
            await self._fetch(routes, expected=bool(behind))
        for each in wanted:
            if each.fetched or each.scanned:
                await self._scan(each)
                await asyncio.sleep(0)  # a part takes up to 50 ms, and the next fetch goes on meanwhile

    async def _fetch(self, routes: Sequence[Route], *, expected: bool) -> None:
        found: Mapping[Route, Records] = {}
        try:
            if expected:
                with waiting_for(f"records from {self._source.place}"):
                    found = await self._source.fetch(routes, _WAIT_SECONDS)
            else:
                found = await self._source.fetch(routes, _WAIT_SECONDS)
        except KafkaUnavailable as error:
            await self._wait(error)
        for route, fetched in found.items():
            self._partitions[route].add(fetched)
        now = time.monotonic()
        if found or not expected:
            self._progressed, self._warned = now, False
        elif self._patience is not None and now - self._progressed > self._patience:
            raise KafkaUnavailable(
                f"{self._source.place} has sent no record for {self._patience:g} s: check that it runs"
            )
        if not found and self._until is not None and time.time() * 1000 > self._until:
            await self._end()

    async def _end(self) -> None:
        """End partitions at their present ends, once the time at which the stream ends is over."""
        try:
            ends = {**await self._source.ends(settled=True)} | {**await self._source.offsets_at(self._until or 0)}
        except KafkaUnavailable as error:
            await self._wait(error)
            return
        for each in self._partitions.values():
            if each.end is None:
                each.end = ends[each.route]

    async def _wait(self, error: KafkaUnavailable) -> None:
        if self._patience is not None:
            raise error
        if not self._warned:
            self._warned = True
            logger.warning("a stream waits until Kafka can be reached again: %s", error)
        await anyio.sleep(_WAIT_SECONDS)

    async def _scan(self, partition: Partition) -> None:
        schemas = self._source.schemas
        if partition.scanned is None:  # else the last call was cancelled here
            if any([key not in schemas for key in set(map(_FINGERPRINT, partition.fetched[0].values))]):
                await self._refresh()
            partition.scan_next(self._until)
        assert partition.scanned is not None
        records, taken, *_ = partition.scanned
        events, is_complete = events_of(records, taken, schemas, partition.route)
        if not is_complete:
            await self._refresh()
        partition.keep(events, partial(decode, schemas))

    async def _refresh(self) -> None:
        while True:
            try:
                return await self._source.refresh()
            except KafkaUnavailable as error:
                await self._wait(error)
