"""Decoding of the events that a scan has taken.

The result is columns. A `LogEvent` and its event are made shortly before they are returned, so most are gone before a
collection of Python's garbage looks at them. Some are made at once, those of a kind one after the other, so that the
processor's caches have their code. Of the frames of one row, those of consecutive records are decoded together before.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias

from trialstream_schemas.errors import SchemaError, UnknownSchema
from trialstream_schemas.wire.codec import HEADER_BYTES, MAGIC, SchemaStore
from trialstream_schemas.wire.envelope import envelope_fault
from trialstream_schemas.wire.events import MetricsLogged, SubjectEvent, TrialUpdated
from trialstream_schemas.wire.long_frames import check_long_frame
from trialstream_schemas.wire.rows import decode_tables
from trialstream_schemas.wire.schemas import FINGERPRINTS

from trialstream.event_log.records import Records
from trialstream.event_log.topics import Route
from trialstream.streaming.decisions import Place
from trialstream.streaming.items import LogEvent, StreamEvent, made
from trialstream.streaming.rows import Columns, Rows, columns_of_table, rows_of
from trialstream.streaming.scan import Taken

__all__ = ["Decode", "Events", "decode", "events_of"]

# Number of events that are made at once, with less than the 700 objects after which Python collects garbage, and the
# bytes of their records that are decoded for that, but for one record.
_MADE_EVENTS = 64
_MADE_BYTES = 1024 * 1024
# Fewer bytes are not those of a long frame.
_LONG_BYTES = 512
_FRAME_PREFIX = MAGIC + FINGERPRINTS[MetricsLogged]
_UPDATE_PREFIX = MAGIC + FINGERPRINTS[TrialUpdated]
# Place of the number of rows in a frame: before the value and the ends of its last column, if it has one row.
_ROWS_AT = -11
_ONE_ROW = 2

_Body: TypeAlias = StreamEvent | Columns | bytes
"""An event, the columns that its row is in, or its record, which is not decoded yet."""

Decode: TypeAlias = Callable[[bytes], StreamEvent | None]
"""Decodes a record; returns None for one that is left out."""


class Events(NamedTuple):
    """Events in columns.

    Attributes:
        routes: The partition of each.
        offsets: The offset of each.
        times: When each was appended, milliseconds since 1970 UTC.
        places: Where each belongs.
        writers: The writer of each.
        bodies: What each is.
        rows: The index of the row of those that are in columns.
    """

    routes: Sequence[Route]
    offsets: Sequence[int]
    times: Sequence[int]
    places: Sequence[Place]
    writers: Sequence[str]
    bodies: Sequence[_Body]
    rows: Sequence[int]

    def items(self, decoded: Decode) -> Iterator[LogEvent]:
        """Make the events.

        Args:
            decoded: Decodes a record; returns None for one that is left out.

        Yields:
            The events.
        """
        stop = 0
        while stop < len(self.offsets):
            made_now, stop = self.next_items(stop, decoded)
            yield from filter(None, made_now)

    def next_items(self, start: int, decoded: Decode) -> tuple[list[LogEvent | None], int]:
        """Make events from an index on.

        Args:
            start: The index.
            decoded: As for `items`.

        Returns:
            Some events, None for those that are left out, and the index after them.
        """
        some = self.part(start, start + _MADE_EVENTS)
        waiting = {i: body for i, body in enumerate(some.bodies) if type(body) is bytes}
        ends = [*accumulate(map(len, waiting.values()))]
        if ends and ends[-1] > _MADE_BYTES and (few := max(1, bisect_right(ends, _MADE_BYTES))) < len(waiting):
            some = some.part(0, [*waiting][few])
            waiting = dict([*waiting.items()][:few])
        routes, offsets, times, places, writers, bodies, rows = some
        events: list[Any] = [
            Rows(writer, body, row, row + 1) if type(body) is Columns else body
            for writer, body, row in zip(writers, bodies, rows, strict=True)
        ]
        for i, body in sorted(waiting.items(), key=lambda each: each[1][:HEADER_BYTES]):
            events[i] = decoded(body)
        columns = zip(routes, offsets, times, places, events, strict=True)
        return [
            None if event is None else made((topic, partition, offset, time, trial, project, group, event))
            for (topic, partition), offset, time, (trial, project, group), event in columns
        ], start + len(events)

    def part(self, start: int, stop: int) -> Events:
        """Return the events from index `start` up to index `stop`, which is not included."""
        columns: list[Any] = [column[start:stop] for column in self]
        return Events(*columns)

    def with_rows_of(self, i: int, start: int, stop: int | None, decoded: Decode) -> Events:
        """Leave out rows of an event: those before the index `start`, and those from the index `stop` on.

        Args:
            i: Index of the event.
            start: Index of the first row.
            stop: Index after the last row; None for all.
            decoded: As for `items`.

        Returns:
            The events; without this one if it has no such rows.
        """
        item = next(self.part(i, i + 1).items(decoded), None)
        if item is None or not isinstance(item.event, Rows):
            return self
        columns: list[Any] = [[*column] for column in self]
        rows = item.event.part(start, stop)
        columns[-2][i] = rows
        if not rows:
            for column in columns:
                del column[i]
        return Events(*columns)


def events_of(records: Records, taken: Taken, schemas: SchemaStore, route: Route) -> tuple[Events, bool]:
    """Return events as columns, and decode rows that were logged one by one together.

    Args:
        records: The records.
        taken: Their events.
        schemas: Schemas of the log.
        route: The partition.

    Returns:
        The events, and whether all schemas are known that their updates need.
    """
    positions, places, writers, known = taken
    offsets, times, values = records.offsets, records.times, records.values
    if len(positions) < len(values):
        offsets = [offsets[position] for position in positions]
        times = [times[position] for position in positions]
        values = [values[position] for position in positions]
    bodies: list[_Body] = [known.get(i, value) for i, value in enumerate(values)] if known else [*values]
    rows, is_complete = _decode_rows(values, bodies, schemas)
    return Events([route] * len(values), offsets, times, places, writers, bodies, rows), is_complete


def _decode_rows(values: Sequence[bytes], bodies: list[_Body], schemas: SchemaStore) -> tuple[list[int], bool]:
    """Decode frames of one row to columns; return their rows, and whether the schemas of all updates are known."""
    by_size: dict[int, list[int]] = {}
    is_complete = True
    for i, value in enumerate(values):
        try:
            if not value.startswith(_FRAME_PREFIX):
                is_complete = is_complete and not (value.startswith(_UPDATE_PREFIX) and _lacks_schema(schemas, value))
                continue
            if value[_ROWS_AT] != _ONE_ROW:
                continue
        except IndexError:  # cut off
            continue
        if (same := by_size.get(size := len(value))) is None:
            by_size[size] = [i]
        else:
            same.append(i)
    rows = [0] * len(values)
    for table in decode_tables(values, HEADER_BYTES, by_size):
        for columns, places in columns_of_table(table):
            for row, i in places:
                bodies[i] = columns
                rows[i] = row
    return rows, is_complete


def _lacks_schema(schemas: SchemaStore, value: bytes) -> bool:
    try:
        schemas.decode(value)
    except UnknownSchema:
        return True
    except SchemaError:
        pass
    return False


def decode(schemas: SchemaStore, value: bytes) -> StreamEvent | None:
    """Decode a record.

    Args:
        schemas: Schemas of the log.
        value: The record.

    Returns:
        Its event as a stream returns it; None if the fold refuses it.
    """
    is_long = len(value) >= _LONG_BYTES and value.startswith(_FRAME_PREFIX)
    if is_long and (frame := check_long_frame(value, HEADER_BYTES)) is not None:
        return Rows.of(frame, value)
    try:
        event = schemas.decode(value)
    except SchemaError:
        return None
    if isinstance(event, MetricsLogged):
        return rows_of(event)
    return event if isinstance(event, SubjectEvent) and not envelope_fault(event) else None
