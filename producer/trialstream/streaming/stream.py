"""`Stream`: the events of a log that meet some conditions, and the position after each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from operator import length_hint
from types import TracebackType
from typing import Literal, Self

from trialstream_schemas.errors import InvalidValue, LogMismatch, ProtocolClosed
from trialstream_schemas.wire.events import LogCreated

from trialstream.event_log.topics import Route, partition_of
from trialstream.streaming.decoding import Events, decode
from trialstream.streaming.filters import Filter
from trialstream.streaming.items import LogEvent
from trialstream.streaming.merging import Merging, Partition
from trialstream.streaming.positions import Bound, Position
from trialstream.streaming.rows import Rows
from trialstream.streaming.scan import RegistryScan, TrialScan
from trialstream.streaming.source import LogSource

__all__ = ["Delivery", "Stream"]

Delivery = Literal["together", "one"]

_NONE = Events((), (), (), (), (), (), ())


class Stream:
    """The events of a log, as `trialstream.stream` selects them: an async iterator, and an async context manager.

    It is opened when the block is entered or the first event is awaited, and closed when the block is left, by
    `aclose`, or at its end. It can be iterated over in several loops, one after the other; each goes on where the last
    one was left. A cancelled wait for an event loses none.

    Attributes:
        ready: The next events that are there already, which need not be awaited; `advance` makes more, `fill` waits for
            others.
    """

    def __init__(
        self,
        source: LogSource,
        conditions: Filter,
        since: Bound | Position | int,
        until: Bound | Position | int | None,
        *,
        follow: bool,
        rows: Delivery,
        timeout: float,
    ) -> None:
        """Make a stream; users call `trialstream.stream`.

        Args:
            source: The log.
            conditions: The filter.
            since: Where it begins; a time in milliseconds since 1970 UTC.
            until: Where it ends, likewise; None for nowhere.
            follow: Whether it waits for later events.
            rows: How rows are returned.
            timeout: Seconds.
        """
        self._source = source
        self._filter = conditions
        self._since = since
        self._until = until
        self._follow = follow
        self._one_by_one = rows == "one"
        self._timeout = timeout
        self._state: Literal["new", "open", "closed"] = "new"
        # The events that are there already, the index after those that are made, and an iterator over the latter. How
        # many of them were returned is seen from the hint of its length, so nothing has to be counted for each.
        self._events = _NONE
        self._stop = 0
        self._turns: Iterator[LogEvent | None] = iter(())
        self.ready: Iterator[LogEvent] = iter(())
        # The events after them. Only this is set by `fill`, which a thread of its own may run, also after an interrupt.
        self._fetched = _NONE
        # Number of events that could not be decoded.
        self._refused = 0
        # Number of events behind which the places of the partitions are.
        self._settled = 0
        # The event whose rows are being returned, and how many of them were.
        self._item: tuple[LogEvent, Rows] | None = None
        self._rows = 0
        self._log: LogCreated
        self._start: dict[Route, tuple[int, int]] = {}
        self._partitions: dict[Route, Partition] = {}
        self._merging: Merging

    # --- Opening and closing

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; `position` can still be read."""
        was_open, self._state = self._state == "open", "closed"
        if was_open:
            await self._source.close()

    async def open(self) -> None:
        """Open the stream, if it is not open.

        Raises:
            TrialStreamError: As `next_event` raises it.
        """
        if self._state == "open":
            return
        if self._state == "closed":
            raise ProtocolClosed("the stream is closed: make another one, with `since=` the position of this one")
        self._log = await self._source.open()
        self._state = "open"
        try:
            await self._begin()
        except BaseException:
            await self.aclose()
            raise

    async def _begin(self) -> None:
        """Choose the partitions, and find where they begin and end."""
        topic, count = self._source.trials_topic, self._log.partitions
        registry = Route(self._source.registry_topic, 0)
        trials = [Route(topic, number) for number in range(count)]
        await self._source.begin(dict.fromkeys([registry, *trials], 0))
        ends = await self._source.ends(settled=not self._follow)
        self._start = await self._places(self._since, ends, "since")
        last = ends if not self._follow or self._until is Bound.NOW else {}
        stops: dict[Route, tuple[int, int]] = {route: (offset, 0) for route, offset in last.items()}
        if isinstance(self._until, Position):
            given = await self._places(self._until, ends, "until")
            stops = {route: min(place, stops.get(route, place)) for route, place in given.items()}
        elif isinstance(self._until, int):
            found = await self._source.offsets_at(self._until)
            stops |= {route: (offset, 0) for route, offset in found.items()}
        # Where the decisions about the trial begin at the earliest.
        least = self._filter.least_time
        first = {} if least is None else await self._source.offsets_at(least)
        schemas = self._source.schemas
        wanted = trials
        if self._filter.hash is not None:
            wanted = [Route(topic, partition_of(self._filter.hash.encode(), count))]
        for route in [registry, *wanted] if self._filter.has_registry else wanted:
            scan = (
                RegistryScan(self._filter, schemas)
                if route == registry
                else TrialScan(route, count, self._filter, schemas)
            )
            self._partitions[route] = each = Partition(route, scan, *self._start[route])
            each.following = first.get(route, 0)
            each.caught_up = ends[route]
            if route in stops:
                each.end, each.end_rows = stops[route]
        await self._source.begin({route: each.following for route, each in self._partitions.items()})
        until = self._until if isinstance(self._until, int) else None
        patience = None if self._follow else self._timeout
        self._merging = Merging(self._source, [*self._partitions.values()], until, patience)

    async def _places(
        self, given: Bound | Position | int, ends: Mapping[Route, int], name: str
    ) -> dict[Route, tuple[int, int]]:
        """Find the offset and the row of a place in each partition."""
        if given is Bound.BEGIN:
            return dict.fromkeys(ends, (0, 0))
        if isinstance(given, Position):
            return self._places_of(given, name)
        found = {**ends} if given is Bound.NOW else {**ends} | {**await self._source.offsets_at(given)}
        return {route: (offset, 0) for route, offset in found.items()}

    def _places_of(self, position: Position, name: str) -> dict[Route, tuple[int, int]]:
        if position.log != self._log.log or len(position.trials) != self._log.partitions:
            raise LogMismatch(
                f"{name}: the position belongs to log {position.log} with {len(position.trials)} partitions, but "
                f"{self._source.place} has log {self._log.log} with {self._log.partitions}"
            )
        places = {
            Route(self._source.trials_topic, number): (offset, position.rows.get(number, 0))
            for number, offset in enumerate(position.trials)
        }
        return {Route(self._source.registry_topic, 0): (position.registry, 0)} | places

    # --- Events

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LogEvent:
        if (item := next(self.ready, None)) is None and (item := await self.next_event()) is None:
            raise StopAsyncIteration
        return item

    async def next_event(self) -> LogEvent | None:
        """Return the next event.

        Returns:
            The event; None at the end of the stream, which is then closed.

        Raises:
            ItemNotFound: There is no such log.
            KafkaUnavailable: No broker answered: at the start, or, with `follow=False`, for the time of `timeout`.
            LogMismatch: A part of the log is lost, or the log was recreated, or a position belongs to another log.
            ProtocolClosed: The stream is closed.
        """
        while (found := next(self.ready, None)) is None:
            if not self.advance() and not await self.fill():
                return None
        return found

    def _next_row(self, items: Iterator[LogEvent]) -> LogEvent | None:
        """Return the next row, or the next event that has no rows; None at the end."""
        if self._item is None:
            found = next(items, None)
            if found is None or not isinstance(found.event, Rows):
                return found
            self._item = found, found.event
        item, rows = self._item
        row = item.with_event(rows.row(self._rows))
        is_last = self._rows + 1 == len(rows)
        self._item, self._rows = (None, 0) if is_last else (self._item, self._rows + 1)
        return row

    async def fill(self) -> bool:
        """Wait for events, once `advance` makes none.

        Returns:
            Whether there are some, which `advance` makes; False at the end of the stream, which is then closed.

        Raises:
            TrialStreamError: As `next_event` raises it.
        """
        if self._fetched.offsets:  # by a call that was interrupted
            return True
        if self._state == "closed" and self._partitions:
            return False
        await self.open()
        events = await self._merging.next_events()
        if events is None:
            await self.aclose()
            return False
        self._fetched = events
        return True

    def advance(self) -> bool:
        """Make the next of the events that were fetched, once `ready` has none.

        Returns:
            Whether there are some; else `fill` waits for them.
        """
        if self._stop == len(self._events.offsets):
            self._settle()
            # Here and below without a call in between: an interrupt leaves all of them as they were, or none.
            if not (fetched := self._fetched).offsets:
                self._events, self._settled, self._stop = _NONE, 0, 0  # not in memory while others are awaited
                return False
            self._fetched, self._events, self._settled, self._stop = _NONE, fetched, 0, 0
        found, stop = self._events.next_items(self._stop, partial(decode, self._source.schemas))
        refused = self._refused + len(found) - len([*filter(None, found)])
        turns = iter(found)
        items = filter(None, turns)
        ready = iter(partial(self._next_row, items), None) if self._one_by_one else items
        self._turns, self.ready, self._stop, self._refused = turns, ready, stop, refused
        return True

    def _settle(self) -> None:
        """Move the places of the partitions behind what was returned."""
        routes, offsets, *_ = self._events
        count = self._stop - length_hint(self._turns) - (self._item is not None)
        returned = slice(self._settled, count)
        for route, last in dict(zip(routes[returned], offsets[returned], strict=True)).items():
            self._partitions[route].has_returned(last)
        if self._rows:
            self._partitions[routes[count]].has_returned(offsets[count], self._rows)
        self._settled = count

    @property
    def position(self) -> Position:
        """The position after the last event that was returned: a stream with `since=` this one returns the rest.

        Raises:
            InvalidValue: The stream is not opened yet.
        """
        if not self._start:
            raise InvalidValue("position: expected an opened stream; enter its block, or wait for an event first")
        self._settle()
        places = self._start | {route: each.place for route, each in self._partitions.items()}
        trials = [places[Route(self._source.trials_topic, number)] for number in range(self._log.partitions)]
        rows = {number: count for number, (_, count) in enumerate(trials) if count}
        registry, _ = places[Route(self._source.registry_topic, 0)]
        return Position(self._log.log, registry, tuple(offset for offset, _ in trials), rows)

    @property
    def is_behind(self) -> bool:
        """Whether events may still come that the log held when the stream was opened."""
        self._settle()
        return any([each.is_behind or each.is_waiting for each in self._partitions.values()])

    @property
    def skipped(self) -> int:
        """Number of records that were left out so far because no stream can return them.

        They cannot be read or decoded, or are about a trial, project or group that does not exist; in the documents
        they are dead letters.
        """
        return self._refused + sum([each.scan.skipped for each in self._partitions.values()])
