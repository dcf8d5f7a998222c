"""Decoding of many frames at once, with the results of `decode_frame` at a fraction of its cost.

The integers of a frame (steps and times) take most of the time of `decode_frame`. Here they are unpacked by numpy for
many frames at once. For that, the part of a frame that consists of integers only must be found without reading it: the
*body*, which is the arrays `steps`, `float_steps` (empty), `text_steps` (empty) and `times`, up to the columns, whose
size follows from the number of names and of rows.

After the bodies are unpacked, the number of integers and the constants among them are compared with those of such a
frame. A frame that is not of this form, and each frame that was unpacked together with one whose integers are not, is
left to `decode_frame`. So each frame that is decoded here is the one that `decode_frame` reads (property-tested).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from trialstream_schemas.model.columns import NUMPY_FROM
from trialstream_schemas.wire.events import MetricsLogged
from trialstream_schemas.wire.frames import (
    NEITHER,
    Shape,
    Subject,
    columns_size,
    read_columns,
    read_shape,
    read_subject,
)
from trialstream_schemas.wire.limits import MAX_RECORD_BYTES
from trialstream_schemas.wire.varint import read_long, unpack_longs

__all__ = ["decode_frames"]

# Bytes of integers that are unpacked at once, so that the arrays in between fit the processor's cache (measured).
_CHUNK_BYTES = 16 * 1024
# Fewer than those of a frame of `NUMPY_FROM` rows: short frames are decoded faster one by one.
_LEAST_BYTES = NUMPY_FROM * 10


class _Parts(NamedTuple):
    """The parts of a frame; `position` is that of the record, and `steps` is 0 or the number of rows."""

    position: int
    subject: Subject
    shape: Shape
    seq: int
    time: int
    body: bytes
    steps: int
    rows: int
    columns: list[Any]


def decode_frames(records: Sequence[bytes], prefix: bytes) -> list[MetricsLogged | None]:
    """Decode the frames among records.

    Args:
        records: Encoded events of any type.
        prefix: Bytes with which the record of a frame begins, before its body.

    Returns:
        For each record the frame, or None if it must be decoded by itself.
    """
    found: list[MetricsLogged | None] = [None] * len(records)
    chunk: list[_Parts] = []
    size = 0
    for position, record in enumerate(records):
        if not (_LEAST_BYTES <= len(record) <= MAX_RECORD_BYTES and record.startswith(prefix)):
            continue
        parts = _parts(position, record, len(prefix))
        if parts is not None:
            chunk.append(parts)
            size += len(parts.body)
            if size >= _CHUNK_BYTES:
                _decode_chunk(chunk, found)
                chunk, size = [], 0
    if chunk:
        _decode_chunk(chunk, found)
    return found


def _parts(position: int, record: bytes, at: int) -> _Parts | None:
    """Cut a record into its parts; None if it is not of the usual form."""
    try:
        subject, at = read_subject(record, at)
        seq, at = read_long(record, at)
        time, at = read_long(record, at)
        if not record.startswith(NEITHER, at):
            return None
        at += len(NEITHER)
        shape = subject.shape
        if shape is None or not record.startswith(shape.bytes, at):
            shape = read_shape(subject, record, at)
        body_at = at + len(shape.bytes)
        # The number of steps, or of times if there are no steps, in up to two bytes.
        has_steps = record[body_at] != 0
        count_at = body_at if has_steps else body_at + 3
        rows = record[count_at]
        if rows & 0x80:
            rows = rows & 0x7F | record[count_at + 1] << 7
        if rows & 0x4001:  # a negative count, or one of more than two bytes
            return None
        rows >>= 1
        if rows < NUMPY_FROM:
            return None
        columns_at = len(record) - columns_size(len(shape.names), rows)
        if columns_at <= body_at:
            return None
        columns, end = read_columns(record, columns_at)
    except Exception:  # noqa: BLE001 (`decode_frame` raises the error of this record)
        return None
    if end != len(record):
        return None
    body = record[body_at:columns_at]
    return _Parts(position, subject, shape, seq, time, body, rows if has_steps else 0, rows, columns)


def _decode_chunk(chunk: Sequence[_Parts], found: list[MetricsLogged | None]) -> None:
    """Decode the frames of a chunk, unless the integers of one of them are not as many as those of a frame."""
    # The number of steps, the steps and an end, or one end; two more ends; the number of times, the times and an end.
    sizes = [each.steps + (each.steps > 0) + each.rows + 5 for each in chunk]
    bodies = _integers([each.body for each in chunk], sizes)
    if bodies is None:
        return
    begin = 0
    for position, subject, shape, seq, time, _, steps, rows, columns in chunk:
        ends = begin + steps + (steps > 0)
        times = ends + 4
        is_frame = (
            bodies[begin] == steps
            and not (bodies[ends] or bodies[ends + 1] or bodies[ends + 2] or bodies[times + rows])
            and bodies[times - 1] == rows
        )
        if is_frame:
            found[position] = MetricsLogged(
                trial=subject.trial,
                writer=subject.writer,
                seq=seq,
                time=time,
                aggregator=shape.aggregator,
                names=shape.names,
                steps=bodies[begin + 1 : begin + 1 + steps],
                times=bodies[times : times + rows],
                columns=columns,
            )
        begin = times + rows + 1


def _integers(parts: Sequence[bytes], sizes: Sequence[int]) -> array[int] | None:
    """Unpack the integers of all parts; None if a part has not as many as its size, or one is very long."""
    packed = b"".join(parts)
    unpacked = unpack_longs(packed)
    if unpacked is None:
        return None
    integers, ends = unpacked
    after = np.cumsum(sizes)  # the index after the last integer of each part
    if after[-1] != len(ends) or (ends[after - 1] + 1 != np.cumsum([len(each) for each in parts])).any():
        return None
    return array("q", integers.tobytes())
