"""Merging of partitions: one order of the events of a log, and the position after each of them.

Within a partition, events come in the order of the log. What the log holds when the stream is opened comes in the order
of the append times, over all partitions; later events come as they are fetched.

Memory: a partition holds what one fetch returned, and the events of at most `_DECODED_BYTES`, or of one record. Nothing
is fetched while there are events that the reader has not taken.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

import anyio
from trialstream_schemas.errors import KafkaUnavailable, UnknownSchema

from trialstream.event_log.topics import Route
from trialstream.streaming.items import LogEvent
from trialstream.streaming.rows import Rows
from trialstream.streaming.scan import Scan, Taken, decoded
from trialstream.streaming.source import Fetch, LogSource
from trialstream.waiting import waiting_for

__all__ = ["Merging", "Partition"]

logger = logging.getLogger("trialstream")

_DECODED_BYTES = 1024 * 1024
_WAIT_SECONDS = 1.0


class _Scanned(NamedTuple):
    """Events of a part that are not decoded yet.

    Attributes:
        taken: The events.
        following: Offset of the record after the part.
        timestamp: Append time of the last record of the part.
    """

    taken: Sequence[Taken]
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
        waiting: Number of events that are scanned and not yet returned.
    """

    def __init__(self, route: Route, scan: Scan, start: int, rows: int) -> None:
        self.route = route
        self.scan = scan
        self.start = start
        self.end: int | None = None
        self.end_rows = 0
        self.caught_up = 0
        self.following = 0
        self.delivered = start, rows
        self.waiting = 0
        self._rows = rows
        # The latest append time of a scanned record, which orders the events of different partitions.
        self.time = -1
        self.fetched: deque[Fetch] = deque()
        self.scanned: _Scanned | None = None
        # Events that wait for those of other partitions, with the time that orders them.
        self.ready: list[tuple[int, Partition, LogEvent]] = []

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
    def place(self) -> tuple[int, int]:
        """Offset of the next event to return or to scan, and the number of its rows that were returned."""
        if self.waiting or self.following <= self.start:
            return self.delivered
        return (self.following, 0) if self.last is None else self._before_the_end()

    def _before_the_end(self) -> tuple[int, int]:
        assert self.end is not None
        return (self.end, self.end_rows) if self.following > self.end else (self.following, 0)

    def add(self, fetched: Fetch) -> None:
        """Keep fetched records, in parts that are decoded at once."""
        begin, size = 0, 0
        for i, record in enumerate(fetched.records):
            length = len(record.value or b"")
            if size and size + length > _DECODED_BYTES:
                self.fetched.append(_part(fetched, begin, i))
                begin, size = i, 0
            size += length
        self.fetched.append(_part(fetched, begin, len(fetched.records)))

    def scan_next(self, until: int | None) -> None:
        """Scan the next part of the fetched records, up to the end; its events are then `scanned`.

        Args:
            until: Append time at which the stream ends, milliseconds since 1970 UTC; None for none.
        """
        records, _ = part = self.fetched.popleft()
        if until is not None and self.end is None:
            late = next((i for i, each in enumerate(records) if each.timestamp >= until), None)
            if late is not None:
                self.end = records[late].offset
        following, timestamp = records[-1].offset + 1, records[-1].timestamp
        if (last := self.last) is not None and following > last:
            count = bisect_left(records, last, key=lambda record: record.offset)
            self.fetched.clear()
            part, following = _part(part, 0, count), last
        taken = self.scan.scan(part.records, part.notes, self.start)
        self.scanned = _Scanned(taken, following, timestamp)

    def keep(self, found: Sequence[LogEvent]) -> None:
        """Keep the decoded events of the scanned part until they are returned."""
        assert self.scanned is not None
        _, self.following, timestamp = self.scanned
        self.scanned = None
        if self._rows or self.end_rows:
            found = [item for each in found if (item := self._cut(each)) is not None]
        latest = self.time
        for each in found:
            latest = max(latest, each.timestamp)
            self.ready.append((latest, self, each))
        self.waiting += len(found)
        self.time = max(latest, timestamp)

    def _cut(self, item: LogEvent) -> LogEvent | None:
        """Leave out the rows that were returned before, and those beyond the end."""
        start = self._rows if item.offset == self.start else 0
        stop = self.end_rows if item.offset == self.end else None
        if not start and stop is None:
            return item
        if not isinstance(item.event, Rows):
            return item
        rows = item.event.part(start, stop)
        return item._replace(event=rows) if len(rows) else None

    def rows_before(self, item: LogEvent) -> int:
        """Number of rows of an event that were returned before it was cut."""
        return self._rows if item.offset == self.start else 0

    def take(self, limit: int | None) -> list[tuple[int, Partition, LogEvent]]:
        """Take the events up to a time; None for all."""
        if limit is None:
            found, self.ready = self.ready, []
            return found
        count = bisect_right(self.ready, limit, key=itemgetter(0))
        found, self.ready = self.ready[:count], self.ready[count:]
        return found


def _part(fetched: Fetch, start: int, stop: int) -> Fetch:
    records, notes = fetched
    if start == 0 and stop == len(records):
        return fetched
    return Fetch(records[start:stop], {i - start: each for i, each in notes.items() if start <= i < stop})


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

    async def next_events(self) -> list[tuple[int, Partition, LogEvent]]:
        """Return the next events, each with its partition; empty at the end. A cancelled call loses none.

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
            found = [item for each in self._partitions.values() for item in each.take(limit)]
            if found:
                found.sort(key=itemgetter(0))
                return found
            if not wanted:
                return []

    async def _advance(self, wanted: Sequence[Partition], behind: Sequence[Partition]) -> None:
        """Scan and decode the next part of each partition, and fetch before that if there is none.

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

    async def _fetch(self, routes: Sequence[Route], *, expected: bool) -> None:
        found: Mapping[Route, Fetch] = {}
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
        if partition.scanned is None:  # else the last call was cancelled here
            used = {(each.value or b"")[2:10] for each in partition.fetched[0].records}
            if any([key not in self._source.schemas for key in used]):
                await self._refresh()
            partition.scan_next(self._until)
        assert partition.scanned is not None
        taken = partition.scanned.taken
        found, errors = decoded(taken, self._source.schemas, *partition.route)
        if any([isinstance(each, UnknownSchema) for each in errors]):  # that of an update in a claim
            await self._refresh()
            found, errors = decoded(taken, self._source.schemas, *partition.route)
        partition.scan.skipped += len(errors)
        partition.keep(found)

    async def _refresh(self) -> None:
        while True:
            try:
                return await self._source.refresh()
            except KafkaUnavailable as error:
                await self._wait(error)
