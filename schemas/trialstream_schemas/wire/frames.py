"""The codec of frames of metrics (`MetricsLogged`), the event that makes up nearly all of a log.

The encoding is the same as fastavro's with the schema of `MetricsLogged` (property-tested). This module is faster:

- An Avro array of doubles is a count, the doubles as they are in memory, and a zero at the end
  (https://avro.apache.org/docs/1.12.0/specification/#arrays-1), so a column is copied as a whole.
- Columns of integers are converted by numpy (`varint.py`).
- Aggregator and names, which consecutive frames share, are decoded once.

Counts, sizes and indices are checked while they are read, for the reasons in `reader.py`.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from struct import Struct
from typing import Any, NamedTuple

from trialstream_schemas.errors import SchemaError
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.caches import ByteCache, texts_bytes
from trialstream_schemas.model.columns import pack, unpack
from trialstream_schemas.wire.events import MetricsLogged
from trialstream_schemas.wire.varint import long_bytes, longs_bytes, read_long, read_longs

__all__ = [
    "FRAME_FIELDS",
    "NEITHER",
    "PLAIN_TIME",
    "ROW_HEAD",
    "Shape",
    "Subject",
    "columns_size",
    "decode_frame",
    "encode_frame",
    "read_block",
    "read_columns",
    "read_doubles",
    "read_shape",
    "read_subject",
    "read_text",
]

FRAME_FIELDS = (
    "trial", "writer", "seq", "time", "if_version", "request", "aggregator", "names", "steps", "float_steps",
    "text_steps", "times", "columns",
)  # fmt: skip
"""The fields of the schema for which this module is written, in their order."""

_DOUBLE_BYTES = 8
# A column of one value: its count, the value and its end.
_ONE_VALUE = Struct("<xdx")
_END = b"\0"  # the count 0, which ends an array; also branch 0 of a union, the null
_ONE = b"\2"  # the count 1, zigzag; also branch 1 of a union
NEITHER = _END + _END
"""Bytes of null for both `if_version` and `request`."""
PLAIN_TIME = Struct("<QH")
"""A `time` of eight bytes, as nearly all times take, and `NEITHER`, which is 0."""
ROW_HEAD = _END + _END + _ONE + _END + _END
"""Bytes of `float_steps`, `text_steps` and `times` in nearly all frames of one row: none, none, and one time of 0
microseconds after the frame's."""
# Bounds of the caches below, for logs with a great many shapes or trials. A subject takes up to 800 bytes.
_SHAPES_BYTES = 16 * 1024 * 1024
_MAX_SUBJECTS = 16384


def encode_frame(event: MetricsLogged) -> bytes:
    """Encode the body of a frame.

    Raises:
        TypeError: A field has a type that the schema does not have.
        AttributeError: A field has a type that the schema does not have.
        OverflowError: An integer has more than 64 bits.
        UnicodeError: A text has a lone surrogate.
    """
    return b"".join(
        [
            _text(event.trial),
            _text(event.writer),
            long_bytes(event.seq),
            long_bytes(event.time),
            _END if event.if_version is None else _ONE + long_bytes(event.if_version),
            _END if event.request is None else _ONE + _text(event.request),
            _shape_bytes(event.aggregator, tuple(event.names)),
            _integers(event.steps),
            _doubles(event.float_steps),
            _texts(event.text_steps),
            _integers(event.times),
            long_bytes(len(event.columns)) if event.columns else b"",
            *map(_doubles, event.columns),
            _END,
        ]
    )


def _text(text: str) -> bytes:
    encoded = text.encode()
    return long_bytes(len(encoded)) + encoded


_encoded_shapes: ByteCache[tuple[AggregatorSpec, tuple[str, ...]], bytes] = ByteCache(_SHAPES_BYTES)


def _shape_bytes(aggregator: AggregatorSpec, names: tuple[str, ...]) -> bytes:
    known = _encoded_shapes.get((aggregator, names))
    if known is None:
        known = _text(aggregator.kind) + long_bytes(aggregator.argument) + _texts(names)
        _encoded_shapes.keep((aggregator, names), known, len(known) + texts_bytes(names))
    return known


def _texts(texts: Sequence[str]) -> bytes:
    return b"".join([long_bytes(len(texts)), *map(_text, texts), _END]) if texts else _END


def _integers(column: Sequence[int]) -> bytes:
    return long_bytes(len(column)) + longs_bytes(column) + _END if column else _END


def _doubles(column: Sequence[float]) -> bytes:
    if not column:
        return _END
    doubles = column if isinstance(column, array) and column.typecode == "d" else array("d", column)
    return long_bytes(len(column)) + pack(doubles) + _END


def decode_frame(data: bytes, at: int) -> tuple[MetricsLogged, int]:
    """Decode the body of a frame.

    Args:
        data: The bytes.
        at: Offset of the body.

    Returns:
        The frame, and the offset of the byte after it.

    Raises:
        SchemaError: The bytes are not a frame.
        IndexError: The bytes end before the end of the frame.
        UnicodeError: A text is not UTF-8.
    """
    subject, at = read_subject(data, at)
    seq, at = read_long(data, at)
    time, at = read_long(data, at)
    if_version = request = None
    if data.startswith(NEITHER, at):
        at += len(NEITHER)
    else:
        if _has_value(data[at]):
            if_version, at = read_long(data, at + 1)
        else:
            at += 1
        if _has_value(data[at]):
            request, at = read_text(data, at + 1)
        else:
            at += 1
    shape = subject.shape
    if shape is None or not data.startswith(shape.bytes, at):
        shape = read_shape(subject, data, at)
    at += len(shape.bytes)
    steps, at = _read_integers(data, at)
    float_steps: Sequence[float] = ()
    text_steps: Sequence[str] = ()
    times: Sequence[int] = (0,)
    if data.startswith(ROW_HEAD, at):  # the fast path, for almost all frames of one row
        at += len(ROW_HEAD)
    else:
        float_steps, at = read_doubles(data, at)
        text_steps, at = _read_texts(data, at)
        times, at = _read_integers(data, at)
    columns, at = read_columns(data, at)
    event = MetricsLogged(
        trial=subject.trial,
        writer=subject.writer,
        seq=seq,
        time=time,
        if_version=if_version,
        request=request,
        aggregator=shape.aggregator,
        names=shape.names,
        steps=steps,
        float_steps=float_steps,
        text_steps=text_steps,
        times=times,
        columns=columns,
    )
    return event, at


def _has_value(index: int) -> bool:
    """Whether a union of null and another type holds the other type; `index` is the encoded index, twice the branch."""
    if index not in (0, 2):
        raise SchemaError("a union of 2 has no such index")
    return index == 2


def read_text(data: bytes, at: int, _: object = None) -> tuple[str, int]:
    """Read a text; returns it, and the offset of the byte after it. The last argument is that of `read_int64`."""
    size = data[at]
    if size & 0x81:  # longer than 63 bytes, or negative
        size, at = read_long(data, at)
    else:
        size >>= 1
        at += 1
    end = at + size
    if size < 0 or end > len(data):
        raise SchemaError(f"a text of {size} bytes where {len(data) - at} follow")
    return data[at:end].decode(), end


class Shape(NamedTuple):
    """The aggregator and the names of a frame, and their bytes."""

    bytes: bytes
    aggregator: AggregatorSpec
    names: tuple[str, ...]


class Subject:
    """Trial and writer of frames, and the shape of their latest frame: the next frame nearly always has the same."""

    __slots__ = ("shape", "trial", "writer")

    def __init__(self, trial: str, writer: str) -> None:
        self.trial = trial
        self.writer = writer
        self.shape: Shape | None = None


# Bytes of trial and writer → subject. All frames of a subject share its str objects, so that each is hashed only once.
_subjects: dict[bytes, Subject] = {}


def read_subject(data: bytes, at: int) -> tuple[Subject, int]:
    """Read trial and writer; returns the subject, and the offset of the byte after it."""
    begin = end = 0
    try:
        begin = at + 1 + (data[at] >> 1)  # offset of the writer, if both texts have up to 63 bytes
        end = begin + 1 + (data[begin] >> 1)
        if (known := _subjects.get(data[at:end])) is not None:
            return known, end
    except IndexError:  # cut off, or a text whose length is not written as usual
        pass
    trial, middle = read_text(data, at)
    writer, after = read_text(data, middle)
    subject = Subject(trial, writer)
    if middle == begin and after == end:  # else a text is longer, and the key would not contain both
        if len(_subjects) >= _MAX_SUBJECTS:
            _subjects.clear()
        _subjects[data[at:end]] = subject
    return subject, after


# Bytes of aggregator and names → shape, so that the frames of many trials share these objects. Subjects refer to shapes
# in here only, so that no others stay in memory.
_shapes: ByteCache[bytes, Shape] = ByteCache(_SHAPES_BYTES)


def read_shape(subject: Subject, data: bytes, at: int) -> Shape:
    """Read aggregator and names, which take as many bytes as the shape has.

    They become the shape of the subject, unless they are too large to be kept.
    """
    kind, end = read_text(data, at)
    argument, end = read_long(data, end)
    names, end = _read_texts(data, end)
    known = _shapes.get(data[at:end])
    if known is None:
        known = Shape(data[at:end], AggregatorSpec(kind, argument), tuple(names))
        before = len(_shapes)
        if not _shapes.keep(known.bytes, known, len(known.bytes) + texts_bytes([kind, *names])):
            return known
        if len(_shapes) <= before:  # it was emptied
            _subjects.clear()
    subject.shape = known
    return known


def read_block(data: bytes, at: int) -> tuple[int, int]:
    """Read the head of a block of an array.

    Returns:
        The number of items (0 at the end of the array; never more than the bytes that follow), and the offset of the
        first item.
    """
    count = data[at]
    if count & 0x81:  # more than 63, or negative: the size of the block in bytes follows
        count, at = read_long(data, at)
        if count < 0:
            count = -count
            _, at = read_long(data, at)
    else:
        count >>= 1
        at += 1
    if count > len(data) - at:
        raise SchemaError(f"{count} items where {len(data) - at} bytes follow")
    return count, at


def _read_integers(data: bytes, at: int) -> tuple[Sequence[int], int]:
    count, at = read_block(data, at)
    if not count:
        return (), at
    if count == 1:
        one, end = read_long(data, at)
        if not data[end] and -(2**63) <= one < 2**63:
            return (one,), end + 1
    found, at = read_longs(data, at, count)
    while data[at]:  # another block: other encoders may split an array
        count, at = read_block(data, at)
        more, at = read_longs(data, at, count)
        found += more
    return found, at + 1


def read_doubles(data: bytes, at: int) -> tuple[array[float], int]:
    """Read an array of doubles; returns it, and the offset of the byte after it."""
    count, at = read_block(data, at)
    if not count:
        return array("d"), at
    found: array[float] | None = None
    while True:
        end = at + count * _DOUBLE_BYTES
        if end >= len(data):  # >=: the zero at the end follows
            raise SchemaError(f"{count} doubles where {len(data) - at} bytes follow")
        more = unpack("d", data[at:end])
        if found is None:
            found = more
        else:
            found += more
        count, at = read_block(data, end)
        if not count:
            return found, at


def _read_texts(data: bytes, at: int) -> tuple[list[str], int]:
    found: list[str] = []
    while True:
        count, at = read_block(data, at)
        if not count:
            return found, at
        for _ in range(count):
            text, at = read_text(data, at)
            found.append(text)


@lru_cache(maxsize=4096)
def columns_size(names: int, rows: int) -> int:
    """Size of the columns of a frame as `encode_frame` writes them, bytes."""
    return len(long_bytes(names)) + names * (len(long_bytes(rows)) + rows * _DOUBLE_BYTES + 1) + 1


def read_columns(data: bytes, at: int) -> tuple[list[Any], int]:
    """Read the columns; returns them, and the offset of the byte after them."""
    count, at = read_block(data, at)
    if not count:
        return [], at
    rows, begin = read_block(data, at)
    head_bytes = begin - at
    stride = head_bytes + rows * _DOUBLE_BYTES + 1
    end = at + count * stride
    if rows and end < len(data) and not data[end]:
        # The form that `encode_frame` writes: one block of columns, each of one block, all of the length of the first.
        body = data[at:end]
        if rows == 1 and body[::stride] == _ONE * count and body[stride - 1 :: stride] == _END * count:
            return list(_ONE_VALUE.iter_unpack(body)), end + 1
        heads = [body[i::stride] == body[i : i + 1] * count for i in range(head_bytes)]
        if all(heads) and body[stride - 1 :: stride] == bytes(count):
            size = rows * _DOUBLE_BYTES
            return [unpack("d", body[i : i + size]) for i in range(head_bytes, len(body), stride)], end + 1
    return _read_any_columns(data, at, count)


def _read_any_columns(data: bytes, at: int, count: int) -> tuple[list[Any], int]:
    columns: list[Any] = []
    while count:
        for _ in range(count):
            column, at = read_doubles(data, at)
            columns.append(column or ())  # an empty array takes 80 bytes, and one byte of a frame
        count, at = read_block(data, at)
    return columns, at
