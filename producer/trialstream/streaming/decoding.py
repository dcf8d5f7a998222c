"""Decoding of the events that a scan has taken: those of consecutive records at once.

The result is columns, from which a `LogEvent`, and the `Rows` of a frame of one row, are made when they are returned:
most do not outlive the turn of the reader's loop, so no collection of garbage looks at them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Any, NamedTuple, TypeAlias

from trialstream_schemas.errors import SchemaError, UnknownSchema
from trialstream_schemas.wire.codec import HEADER_BYTES, MAGIC, SchemaStore
from trialstream_schemas.wire.envelope import envelope_fault
from trialstream_schemas.wire.events import MetricsLogged, SubjectEvent
from trialstream_schemas.wire.long_frames import check_long_frame
from trialstream_schemas.wire.rows import RowKey, decode_tables, row_key
from trialstream_schemas.wire.schemas import FINGERPRINTS

from trialstream.event_log.records import Records
from trialstream.event_log.topics import Route
from trialstream.streaming.decisions import Place
from trialstream.streaming.items import LogEvent, StreamEvent, made
from trialstream.streaming.rows import Columns, Rows, columns_of_table, rows_of
from trialstream.streaming.scan import Taken

__all__ = ["Events", "decode"]

# Fewer bytes are not those of a long frame.
_LONG_BYTES = 512
_FRAME_PREFIX = MAGIC + FINGERPRINTS[MetricsLogged]

_Body: TypeAlias = StreamEvent | Columns
"""An event, or the columns that its row is in."""


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

    def items(self, turns: Iterator[int]) -> Iterator[LogEvent]:
        """Make the events.

        Args:
            turns: An iterator over as many numbers, which is moved on with each event.

        Returns:
            An iterator over the events. An interrupt ends no iterator of this kind, as it would end a generator.
        """
        return map(_item, turns, *self)

    def part(self, start: int, stop: int) -> Events:
        """Return the events from index `start` up to index `stop`, which is not included."""
        columns: list[Any] = [column[start:stop] for column in self]
        return Events(*columns)

    def with_rows_of(self, i: int, start: int, stop: int | None) -> Events:
        """Leave out rows of an event: those before the index `start`, and those from the index `stop` on."""
        [item] = self.part(i, i + 1).items(iter(range(1)))
        if not isinstance(item.event, Rows):
            return self
        columns: list[Any] = [[*column] for column in self]
        rows = item.event.part(start, stop)
        columns[-2][i] = rows
        if not rows:
            for column in columns:
                del column[i]
        return Events(*columns)


def _item(_: int, route: Route, offset: int, time: int, place: Place, writer: str, body: _Body, row: int) -> LogEvent:
    topic, partition = route  # a tuple with stars in it takes longer
    trial, project, group = place
    event = Rows(writer, body, row, row + 1) if type(body) is Columns else body
    return made((topic, partition, offset, time, trial, project, group, event))


def decode(records: Records, taken: Taken, schemas: SchemaStore, route: Route) -> tuple[Events, bool]:
    """Decode events.

    Args:
        records: The records.
        taken: Their events.
        schemas: Schemas of the log.
        route: The partition.

    Returns:
        Those events that can be decoded, and whether all schemas are known that are needed.
    """
    positions, places, writers, known = taken
    values = [records.values[position] for position in positions]
    bodies: list[_Body | None] = [known.get(i) for i in range(len(values))] if known else [None] * len(values)
    rows = _decode_frames(values, bodies)
    is_complete = True
    for i, body in enumerate(bodies):
        if body is None:
            try:
                bodies[i] = _returned(schemas.decode(values[i]))
            except UnknownSchema:  # that of an update in a claim
                is_complete = False
            except SchemaError:
                pass
    offsets = [records.offsets[position] for position in positions]
    times = [records.times[position] for position in positions]
    columns: list[list[Any]] = [[route] * len(values), offsets, times, places, writers, bodies, rows]
    kept = [body is not None for body in bodies]
    if not all(kept):
        columns = [[*compress(column, kept)] for column in columns]
    return Events(*columns), is_complete


def _decode_frames(values: Sequence[bytes], bodies: list[_Body | None]) -> list[int]:
    """Decode the frames that need not be decoded one by one: long ones, and many of one row; return their rows."""
    groups: dict[RowKey, list[int]] = {}
    for i, value in enumerate(values):
        if not value.startswith(_FRAME_PREFIX):
            continue
        if len(value) >= _LONG_BYTES and (frame := check_long_frame(value, HEADER_BYTES)) is not None:
            bodies[i] = Rows.of(frame, value)
            continue
        try:
            key = row_key(value, HEADER_BYTES)
        except IndexError:  # a text whose length is not written as usual
            continue
        if (group := groups.get(key)) is None:
            groups[key] = [i]
        else:
            group.append(i)
    rows = [0] * len(values)
    for table in decode_tables(values, HEADER_BYTES, groups):
        for columns, places in columns_of_table(table):
            for row, i in places:
                bodies[i] = columns
                rows[i] = row
    return rows


def _returned(event: object) -> StreamEvent | None:
    """Return an event as a stream returns it; None if the fold refuses it."""
    if isinstance(event, MetricsLogged):
        return rows_of(event)
    return event if isinstance(event, SubjectEvent) and not envelope_fault(event) else None
