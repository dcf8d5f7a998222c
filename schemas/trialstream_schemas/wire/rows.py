"""Decoding of many frames of one row at once, with the results of `decode_frame` at a fraction of its cost.

Frames of one row with the same shape differ in few bytes only: those of trial, writer, `seq`, time, step and values.
While these parts take as many bytes as before, the records are the rows of a table of bytes, whose columns numpy
compares and converts. A record that differs from the first of its table in any other byte is left to the next table or
to `decode_frame`, so each row that is decoded here is the one that `decode_frame` reads (property-tested).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.caches import ByteCache
from trialstream_schemas.model.columns import unpack
from trialstream_schemas.wire.events import Event, MetricsLogged
from trialstream_schemas.wire.frames import (
    NEITHER,
    ROW_HEAD,
    Shape,
    columns_size,
    read_columns,
    read_shape,
    read_subject,
)
from trialstream_schemas.wire.limits import MAX_RECORD_BYTES
from trialstream_schemas.wire.varint import read_long

__all__ = ["RowRun", "RowTable", "apart", "decode_rows", "decode_tables"]

T = TypeVar("T")

_Bytes: TypeAlias = NDArray[np.uint8]
_Span: TypeAlias = tuple[int, int]

# Fewer rows are decoded faster one by one (measured).
_LEAST_ROWS = 12
# Tables that are made of records of one length. Records of further layouts are decoded one by one.
_MAX_TABLES = 8
# Bytes of a column of one value: count, value and end.
_COLUMN_BYTES = 10
# Values of the bytes of an integer, the lowest first. A tenth byte would be beyond 64 bits.
_WEIGHTS = np.array([1 << 7 * n for n in range(9)], np.int64)


@dataclass(slots=True, eq=False)
class RowRun:
    """Consecutive frames of one row of a trial and writer, with the same names, aggregator and type of step.

    Each of these frames has no request and no `if_version`, names the trial by its uid, has a `seq` one above that of
    the frame before it, and an int step or none.

    Attributes:
        trial: Uid of the trial.
        writer: Id of the writer.
        seq: The `seq` of the first frame.
        aggregator: Specification of the aggregator.
        names: Names of the metrics.
        times: Time of each row, microseconds since 1970 UTC.
        steps: Step of each row; empty if the rows have no steps.
        columns: For each name, the value of each row.
        positions: Positions of the frames among the records that were decoded together, ascending.
    """

    trial: str
    writer: str
    seq: int
    aggregator: AggregatorSpec
    names: tuple[str, ...]
    times: array[int]
    steps: array[int]
    columns: list[array[float]]
    positions: Sequence[int]

    def __len__(self) -> int:
        return len(self.times)

    @classmethod
    def of(cls, frames: Sequence[MetricsLogged]) -> RowRun | None:
        """Make a run of frames, at least one; None if they are not such frames. Their positions count from 0.

        Args:
            frames: Frames of one row without request and `if_version`, whose trial, writer, names and aggregator are
                the same. Either all have one int step, or none has a step.
        """
        first, rows = frames[0], [each.columns for each in frames]
        try:
            columns = [array("d", [x for (x,) in same]) for same in zip(*rows, strict=True)]
            times = array("q", [each.time + time for each in frames for time in each.times])
        except (ValueError, OverflowError):  # columns or values too many or too few; a time beyond 64 bits
            return None
        steps = array("q", [step for each in frames for step in each.steps])
        is_run = (
            [each.seq for each in frames] == list(range(first.seq, first.seq + len(frames)))
            and len(columns) == len(first.names)
            and len(steps) in (0, len(frames))
            and len(times) == len(frames)
        )
        if not is_run:
            return None
        names, places = tuple(first.names), range(len(frames))
        return cls(first.trial, first.writer, first.seq, first.aggregator, names, times, steps, columns, places)

    def part(self, start: int, stop: int) -> RowRun:
        """The run of the rows from index `start` up to index `stop`, which is not included."""
        if stop - start == len(self):
            return self
        return RowRun(
            self.trial,
            self.writer,
            self.seq + start,
            self.aggregator,
            self.names,
            self.times[start:stop],
            self.steps[start:stop],
            [column[start:stop] for column in self.columns],
            self.positions[start:stop],
        )

    def frame_at(self, position: int) -> MetricsLogged:
        """The frame at a position, as `decode_frame` reads it.

        Args:
            position: One of `positions`.
        """
        row = bisect_left(self.positions, position)
        return MetricsLogged(
            trial=self.trial,
            writer=self.writer,
            seq=self.seq + row,
            time=self.times[row],
            aggregator=self.aggregator,
            names=self.names,
            steps=tuple(self.steps[row : row + 1]),
            times=(0,),
            columns=[(column[row],) for column in self.columns],
        )


def apart(decoded: Sequence[Event | RowRun | T], first: int = 0) -> list[Event | T]:
    """Replace the runs among decoded records by their frames.

    Args:
        decoded: For each record what it was decoded to: the run at each of its positions.
        first: Position of the first of these records among those that were decoded together.
    """
    return [each.frame_at(i) if isinstance(each, RowRun) else each for i, each in enumerate(decoded, first)]


class RowTable(NamedTuple):
    """Frames of one row with the same names, aggregator and type of step, of any trials and writers.

    Attributes:
        shape: Aggregator and names.
        subjects: Bytes of trial and writer of each frame.
        seqs: The `seq` of each frame.
        times: Time of each row, microseconds since 1970 UTC.
        steps: Step of each row; empty if the rows have no steps.
        columns: For each name, the value of each row.
        positions: Positions of the frames among the records that were decoded together.
    """

    shape: Shape
    subjects: _Bytes
    seqs: NDArray[np.int64]
    times: array[int]
    steps: array[int]
    columns: list[array[float]]
    positions: list[int]


class _Layout(NamedTuple):
    """Places of the parts of a frame of one row in its record, with what is the same in all records of the layout."""

    shape: Shape
    seq: _Span
    time: _Span
    step: _Span | None
    columns_at: int
    mask: _Bytes


def decode_rows(records: Sequence[bytes], prefix: bytes) -> list[RowRun | None]:
    """Decode the frames of one row among records, if there are enough of them.

    Args:
        records: Encoded events of any type.
        prefix: Bytes with which the record of a frame begins, before its body.

    Returns:
        For each record the run that it belongs to, or None if it must be decoded by itself.
    """
    found: list[RowRun | None] = [None] * len(records)
    at = len(prefix)
    by_subject: dict[tuple[bytes, int], list[int]] = {}
    for position, record in enumerate(records):
        if record.startswith(prefix):
            try:
                writer_at = at + 1 + (record[at] >> 1)
                body_at = writer_at + 1 + (record[writer_at] >> 1)
            except IndexError:
                continue
            key = record[at:body_at], len(record)
            held = by_subject.get(key)
            if held is None:
                by_subject[key] = [position]
            else:
                held.append(position)
    by_size: dict[int, list[int]] = {}
    for (_, size), positions in by_subject.items():  # those of a subject stay neighbours
        by_size.setdefault(size, []).extend(positions)
    for table in decode_tables(records, at, by_size):
        for run in _runs(records, at, table):
            for position in run.positions:
                found[position] = run
    return found


def decode_tables(records: Sequence[bytes], at: int, by_size: Mapping[int, list[int]]) -> Iterator[RowTable]:
    """Decode frames of one row.

    Args:
        records: Encoded events of any type.
        at: Offset of the body of a frame.
        by_size: By the size of their records, the positions of frames.

    Yields:
        Tables of frames. Those that are in none must be decoded by themselves.
    """
    for size, rows in by_size.items():
        left = rows if size <= MAX_RECORD_BYTES else []
        for _ in range(_MAX_TABLES):
            if len(left) < _LEAST_ROWS:
                break
            layout = _layout(records[left[0]], at)
            if layout is None:
                left = left[1:]
            else:
                table, left = _decode_table(records, left, at, layout)
                yield table


def _runs(records: Sequence[bytes], at: int, table: RowTable) -> Iterator[RowRun]:
    """Cut a table, in which those of a trial and writer are neighbours, into runs."""
    _, subjects, seqs, times, steps, columns, positions = table
    ends = (np.diff(seqs) != 1) | (subjects[1:] != subjects[:-1]).any(axis=1)
    for start, stop in pairwise([0, *(np.flatnonzero(ends) + 1).tolist(), len(positions)]):
        try:
            subject, _ = read_subject(records[positions[start]], at)
        except UnicodeError:  # `decode_frame` raises the error of these records
            continue
        if "~" in subject.trial:
            continue
        yield RowRun(
            subject.trial,
            subject.writer,
            int(seqs[start]),
            table.shape.aggregator,
            table.shape.names,
            times[start:stop],
            steps[start:stop],
            [column[start:stop] for column in columns],
            positions[start:stop],
        )


def _layout(record: bytes, at: int) -> _Layout | None:
    """The layout of a record; None if it is not a frame of one row as `encode_frame` writes it.

    Args:
        record: The record.
        at: Offset of the body.
    """
    try:
        subject, seq_at = read_subject(record, at)
        writer_at = at + 1 + (record[at] >> 1)
        if record[at] >= 0x80 or record[writer_at] >= 0x80:  # a text of more than 63 bytes
            return None
        _, time_at = read_long(record, seq_at)
        _, time_end = read_long(record, time_at)
        if not record.startswith(NEITHER, time_end):
            return None
        shape_at = time_end + len(NEITHER)
        shape = subject.shape
        if shape is None or not record.startswith(shape.bytes, shape_at):
            shape = read_shape(subject, record, shape_at)
        step = None
        steps_end = shape_at + len(shape.bytes)
        if record[steps_end] == 2:  # one step
            step = steps_end + 1, read_long(record, steps_end + 1)[1]
            steps_end = step[1]
        if record[steps_end] or not record.startswith(ROW_HEAD, steps_end + 1):
            return None
        columns_at = steps_end + 1 + len(ROW_HEAD)
        columns, end = read_columns(record, columns_at)
    except Exception:  # noqa: BLE001 (`decode_frame` raises the error of this record)
        return None
    names = len(shape.names)
    # Columns of one value cannot take fewer bytes than these, and take as many only in one form.
    if not names or [len(each) for each in columns] != [1] * names or end - columns_at != columns_size(names, 1):
        return None
    seq, time = (seq_at, time_at), (time_at, time_end)
    longest = max([end - begin for begin, end in (seq, time, step or seq)])
    if end != len(record) or longest > len(_WEIGHTS):
        return None
    texts = (at + 1, at + 1 + len(subject.trial.encode())), (seq_at - len(subject.writer.encode()), seq_at)
    values_at = end - 1 - names * _COLUMN_BYTES
    return _Layout(
        shape, seq, time, step, values_at, _mask(end, texts, (seq, time, *([step] if step else ())), values_at)
    )


_masks: ByteCache[tuple[Any, ...], _Bytes] = ByteCache(16 * 1024 * 1024)


def _mask(size: int, texts: Sequence[_Span], integers: Sequence[_Span], values_at: int) -> _Bytes:
    """The bits that are the same in all records of a layout: in integers, those that set their lengths."""
    key = size, texts, integers, values_at
    known = _masks.get(key)
    if known is None:
        known = _made_mask(*key)
        _masks.keep(key, known, size)
    return known


def _made_mask(size: int, texts: Sequence[_Span], integers: Sequence[_Span], values_at: int) -> _Bytes:
    mask = np.full(size, 0xFF, np.uint8)
    for begin, end in texts:
        mask[begin:end] = 0
    for begin, end in integers:
        mask[begin:end] = 0x80
    mask[values_at : size - 1].reshape(-1, _COLUMN_BYTES)[:, 1:-1] = 0
    return mask


def _decode_table(records: Sequence[bytes], rows: list[int], at: int, layout: _Layout) -> tuple[RowTable, list[int]]:
    """Decode the records of one length that have a layout, and return the positions of the others.

    Args:
        records: The records.
        rows: Positions of those of the table; the layout is that of the first.
        at: Offset of the body.
        layout: The layout.
    """
    table = np.frombuffer(b"".join([records[position] for position in rows]), np.uint8).reshape(len(rows), -1)
    differs = table ^ table[0]
    differs &= layout.mask
    others: list[int] = []
    if differs.any():
        alike = ~differs.any(axis=1)
        table = table[alike]
        usual = alike.tolist()
        others = [position for position, is_alike in zip(rows, usual, strict=True) if not is_alike]
        rows = [position for position, is_alike in zip(rows, usual, strict=True) if is_alike]
    times = array("q", _integers(table, layout.time).tobytes())
    steps = array("q", b"" if layout.step is None else _integers(table, layout.step).tobytes())
    values = table[:, layout.columns_at : -1].reshape(len(rows), -1, _COLUMN_BYTES)[:, :, 1:-1]
    packed = np.ascontiguousarray(values.transpose(1, 0, 2)).reshape(len(layout.shape.names), -1)
    columns = [unpack("d", each.tobytes()) for each in packed]
    subjects = table[:, at : layout.seq[0]]
    return RowTable(layout.shape, subjects, _integers(table, layout.seq), times, steps, columns, rows), others


def _integers(table: _Bytes, span: _Span) -> Any:
    """The integers in a span of bytes of each record; they take as many bytes in each."""
    begin, end = span
    plain = (table[:, begin:end] & 0x7F).astype(np.int64) @ _WEIGHTS[: end - begin]
    return (plain >> 1) ^ -(plain & 1)
