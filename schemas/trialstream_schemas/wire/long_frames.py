"""Long frames that are checked and not decoded: for readers that may never look at their values.

A long frame is nearly all numbers. Whether its bytes are a frame in the form that `encode_frame` writes is seen from
its counts and from where its integers end. So it is known in advance that `decode_frame` reads it, and as how many rows
(property-tested). A frame of any other form is left to `decode_frame`.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from trialstream_schemas.errors import TrialStreamError
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.columns import NUMPY_FROM
from trialstream_schemas.wire.frames import PLAIN_TIME, columns_size, read_shape, read_subject
from trialstream_schemas.wire.limits import MAX_RECORD_BYTES
from trialstream_schemas.wire.varint import EIGHT_BYTES, LENGTH_BITS, long_bytes, read_long

__all__ = ["LongFrame", "check_long_frame"]

# Fewer bytes are not a frame of `NUMPY_FROM` rows.
_LEAST_BYTES = NUMPY_FROM * 10
# The last byte of each integer is marked by 1, all others by 0.
_LAST = b"1"
_MARKS = bytes([_LAST[0] if byte < 0x80 else ord("0") for byte in range(256)])
# An integer of six bytes or less is below 2 ** 41: as microseconds, 25 days. A time of eight bytes is between the years
# 828 and 3111, and so that many days before and after it are in the calendar, too.
_TOO_LONG = b"0" * 6
# Steps may contain the bytes that follow them.
_MAX_TRIES = 8
_DOUBLE_BYTES = 8


class LongFrame(NamedTuple):
    """The head of a frame that is not decoded.

    Attributes:
        writer: Id of the writer.
        aggregator: Specification of the aggregator.
        names: Names of the metrics.
        rows: Number of rows.
    """

    writer: str
    aggregator: AggregatorSpec
    names: tuple[str, ...]
    rows: int


def check_long_frame(data: bytes, at: int) -> LongFrame | None:
    """Check a frame.

    Args:
        data: The bytes.
        at: Offset of the body.

    Returns:
        The frame, which `decode_frame` reads without an error, with as many values in each column as rows, and with
        times between the years 1 and 9999; None if it has to be decoded to see that.
    """
    if not _LEAST_BYTES <= len(data) <= MAX_RECORD_BYTES:
        return None
    try:
        return _checked(data, at)
    except (TrialStreamError, IndexError, UnicodeError, struct.error):
        return None


def _checked(data: bytes, at: int) -> LongFrame | None:
    subject, at = read_subject(data, at)
    _, at = read_long(data, at)
    time, neither = PLAIN_TIME.unpack_from(data, at)
    if time & LENGTH_BITS != EIGHT_BYTES or neither:
        return None
    at += PLAIN_TIME.size
    shape = subject.shape
    if shape is None or not data.startswith(shape.bytes, at):
        shape = read_shape(subject, data, at)
    at += len(shape.bytes)
    # The number of steps, or of times if there are no steps.
    has_steps = data[at] != 0
    count_at = at if has_steps else at + 3
    rows, count_end = read_long(data, count_at)
    names = len(shape.names)
    if not NUMPY_FROM <= rows <= len(data) or not names:
        return None
    count = data[count_at:count_end]
    columns_at = len(data) - columns_size(names, rows)
    if columns_at <= at or not _are_columns(data, columns_at, names, count, rows):
        return None
    steps = rows if has_steps else 0
    marks = data[at:columns_at].translate(_MARKS)
    # The number of steps, the steps and an end, or one end; two more ends; the number of times, the times and an end.
    if marks.count(_LAST) != steps + has_steps + rows + 5 or not marks.endswith(_LAST + _LAST):
        return None
    if marks.rfind(_TOO_LONG) >= 0:  # in half the time of `in`
        return None
    end = _end_of_steps(data, at, marks, steps, bytes(3) + count) if has_steps else at
    if end < 0 or not data.startswith(bytes(3) + count, end) or data[columns_at - 1]:
        return None
    return LongFrame(subject.writer, shape.aggregator, shape.names, rows)


def _end_of_steps(data: bytes, at: int, marks: bytes, steps: int, following: bytes) -> int:
    """Find the offset after the steps by what follows them; -1 if it is not found at once."""
    end = at + steps  # each of them, and their number, takes a byte at least
    for _ in range(_MAX_TRIES):
        end = data.find(following, end + 1, at + len(marks))
        if end < 0 or (marks.count(_LAST, 0, end - at) == steps + 1 and marks[end - at - 1] == _LAST[0]):
            return end
    return -1


def _are_columns(data: bytes, at: int, names: int, count: bytes, rows: int) -> bool:
    """Whether bytes are columns of a number of doubles, each in one block."""
    head = long_bytes(names)
    if not data.startswith(head, at) or data[-1]:
        return False
    stride = len(count) + rows * _DOUBLE_BYTES + 1
    begin, end = at + len(head), len(data) - 1
    if data[begin + stride - 1 : end : stride] != bytes(names):
        return False
    return all([data[begin + i : end : stride] == count[i : i + 1] * names for i in range(len(count))])
