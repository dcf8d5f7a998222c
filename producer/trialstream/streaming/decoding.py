"""Decoding of the events that a scan has taken.

The result is columns, from which a `LogEvent` and its event are made when they are returned. Most do not outlive the
turn of the reader's loop, so no collection of Python's garbage looks at them. Of the frames of one row, those of
consecutive records are decoded together before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
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

    def items(self, turns: Iterator[int], decoded: Decode) -> Iterator[LogEvent]:
        """Make the events.

        Args:
            turns: An iterator over as many numbers, which is moved on with each event.
            decoded: Decodes a record; returns None for one that is left out.

        Returns:
            An iterator over the events. An interrupt ends no iterator of this kind, as it would end a generator.
        """
        return filter(None, map(partial(_item, decoded), turns, *self))

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
        item = next(self.part(i, i + 1).items(iter(range(1)), decoded), None)
        if item is None or not isinstance(item.event, Rows):
            return self
        columns: list[Any] = [[*column] for column in self]
        rows = item.event.part(start, stop)
        columns[-2][i] = rows
        if not rows:
            for column in columns:
                del column[i]
        return Events(*columns)


def _item(
    decoded: Decode,
    _: int,
    route: Route,
    offset: int,
    time: int,
    place: Place,
    writer: str,
    body: _Body,
    row: int,
) -> LogEvent | None:
    event: StreamEvent | None
    if isinstance(body, Columns):
        event = Rows(writer, body, row, row + 1)
    elif isinstance(body, bytes):
        if (event := decoded(body)) is None:
            return None
    else:
        event = body
    topic, partition = route  # a tuple with stars in it takes longer
    trial, project, group = place
    return made((topic, partition, offset, time, trial, project, group, event))


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
