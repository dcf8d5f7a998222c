"""Readers of events' bodies, made from schemas. They read, check and count a body in one pass.

Readers of Avro are not made for bytes from outside (measured with fastavro's, in C):

- A negative index of a union or an enum counts from the end, and so gives a wrong value without an error.
- Values nested 5,000 levels deep, which 10 KB can contain, overflow the stack and kill the process.
- Each byte of an array of values that are null becomes hundreds of bytes of Python objects, and thousands where the
  items are records with many fields that are null.

So a reader here recurses in Python, which ends with an error, checks each index, size and count before it is used, and
counts values in records, unions, arrays and maps against the budget of the event (`MAX_VALUES`), before it makes them.
What is not counted are numbers, texts, bytes, and the items of arrays of these: each byte of them becomes 25 bytes of
objects at most. So, for an event of 1 MiB, a reader takes at most one step for each byte and each value of the budget,
which is about a second, and 64 MiB beside the bytes (tests/unit/test_heavy_events.py).

What a reader returns is what fastavro reads (property-tested), but that an integer of more than 64 bits is an error;
fastavro cuts it. It takes about as long as fastavro, which checks nothing and makes no event (benchmarks/decode.py).
Frames of this version are read by `frames.py`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import Any, TypeAlias, TypeVar

from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.frames import NEITHER, read_block, read_doubles, read_subject, read_text
from trialstream_schemas.wire.limits import MAX_VALUES
from trialstream_schemas.wire.schema_reader import Expansions
from trialstream_schemas.wire.varint import read_int64, read_long, read_longs, read_time

__all__ = ["Maker", "Reader", "reader"]

T = TypeVar("T")

# A list of one number: how many more values the event may have.
_Budget: TypeAlias = list[int]

Reader: TypeAlias = Callable[[bytes, int, _Budget], tuple[T, int]]
"""Called with the bytes, the offset of the body, and a list of one number: how many values the event may have, from
which those that are counted are subtracted. Returns the event, and the offset after the body. Raises `SchemaError`,
`IndexError`, `UnicodeError`, `struct.error` or `RecursionError` if the bytes are no body of the schema."""

Maker: TypeAlias = Callable[..., Any]
"""Called with the fields of a record within a record; returns what it becomes."""

# Called with the bytes, the offset of a datum, and the budget. Returns the datum, and the offset after it.
_Step: TypeAlias = Callable[[bytes, int, _Budget], tuple[Any, int]]

# Integers of one byte, each as the byte that it is in two's complement.
_SMALL = bytes([((n >> 1) ^ -(n & 1)) & 0xFF for n in range(256)])
# Maximum size of a field whose last value is kept, bytes.
_REPEATED_BYTES = 512
_FLOAT, _DOUBLE = Struct("<f"), Struct("<d")
# The fields of a head, which are read together: see `heads.py`.
_HEAD_NAMES = ["writer", "seq", "time", "if_version", "request"]
_HEAD_TYPES = ["string", "string", "long", "long", ["null", "long"], ["null", "string"]]


def reader(schema: Any, make: Callable[..., T], makers: Mapping[str, Maker | None]) -> Reader[T]:
    """Make the reader of a schema.

    Args:
        schema: The schema of a record, as `fastavro.parse_schema` returns it.
        make: Called with the fields by name; returns the event.
        makers: Full name of a record within it → what it becomes: None for its only field. Others become dicts.

    Returns:
        The reader.

    Raises:
        SchemaError: A type of the schema expands to too many values: see `Expansions`.
    """
    steps = _Steps(schema, makers)
    own = steps.values(schema)
    fields = [(each["name"], steps.of_field(each["type"])) for each in schema["fields"]]
    if [_plain_type(each["type"]) for each in schema["fields"][:6]] == _HEAD_TYPES:
        subject, *names = [name for name, _ in fields[:6]]
        if names == _HEAD_NAMES:
            return _with_head(make, subject, fields[4:], own)

    def read(data: bytes, at: int, left: _Budget) -> tuple[T, int]:
        _take(left, own)
        found: dict[str, Any] = {}
        for name, step in fields:
            found[name], at = step(data, at, left)
        return make(**found), at

    return read


def _plain_type(schema: Any) -> Any:
    return schema["type"] if isinstance(schema, dict) and len(schema) == 1 else schema


def _with_head(make: Callable[..., T], subject: str, fields: Sequence[tuple[str, _Step]], own: int) -> Reader[T]:
    """Make the reader of an event that begins with a head; the fields are those from `if_version` on."""
    (_, optional_long), (_, optional_text), *rest = fields

    def read(data: bytes, at: int, left: _Budget) -> tuple[T, int]:
        _take(left, own)
        ids, at = read_subject(data, at)
        seq, at = read_int64(data, at)
        time, at = read_time(data, at)
        if_version = request = None
        if data.startswith(NEITHER, at):
            at += len(NEITHER)
        else:
            if_version, at = optional_long(data, at, left)
            request, at = optional_text(data, at, left)
        found = {
            subject: ids.trial,
            "writer": ids.writer,
            "seq": seq,
            "time": time,
            "if_version": if_version,
            "request": request,
        }
        for name, step in rest:
            found[name], at = step(data, at, left)
        return make(**found), at

    return read


def _take(left: _Budget, values: int) -> None:
    left[0] -= values
    if left[0] < 0:
        raise SchemaError(f"more than {MAX_VALUES} values")


def _null(_data: bytes, at: int, _: _Budget) -> tuple[None, int]:
    return None, at


def _boolean(data: bytes, at: int, _: _Budget) -> tuple[bool, int]:
    return data[at] != 0, at + 1


def _float(data: bytes, at: int, _: _Budget) -> tuple[float, int]:
    return _FLOAT.unpack_from(data, at)[0], at + _FLOAT.size


def _double(data: bytes, at: int, _: _Budget) -> tuple[float, int]:
    return _DOUBLE.unpack_from(data, at)[0], at + _DOUBLE.size


def _bytes(data: bytes, at: int, _: _Budget) -> tuple[bytes, int]:
    size, at = read_long(data, at)
    if not 0 <= size <= len(data) - at:
        raise SchemaError(f"{size} bytes where {len(data) - at} follow")
    return data[at : at + size], at + size


_PLAIN: dict[str, _Step] = {
    "null": _null,
    "boolean": _boolean,
    **dict.fromkeys(("int", "long"), read_int64),
    "float": _float,
    "double": _double,
    "string": read_text,
    "bytes": _bytes,
}


def _integers(data: bytes, at: int, _: _Budget) -> tuple[list[int], int]:
    size = data[at]
    if not size:
        return [], at + 1
    end = at + 1 + (size >> 1)
    packed = data[at + 1 : end]
    if not size & 0x81 and packed.isascii() and not data[end]:  # one block of few small integers, as nearly always
        return array("b", packed.translate(_SMALL)).tolist(), end + 1
    found: list[int] = []
    while True:
        count, at = read_block(data, at)
        if not count:
            return found, at
        column, at = read_longs(data, at, count)
        found += column


def _doubles(data: bytes, at: int, _: _Budget) -> tuple[list[float], int]:
    column, at = read_doubles(data, at)
    return column.tolist(), at


# Arrays of numbers that are read as a whole.
_COLUMNS: dict[str, _Step] = {**dict.fromkeys(("int", "long"), _integers), "double": _doubles}


class _Steps:
    """The steps over the types of a schema."""

    def __init__(self, schema: Any, makers: Mapping[str, Maker | None]) -> None:
        self._named: dict[str, _Step] = {}
        self._makers = makers
        self.values = Expansions(schema).values

    def of(self, schema: Any) -> _Step:
        """Return the step over a datum of a type."""
        if isinstance(schema, str):
            return _PLAIN[schema] if schema in _PLAIN else self._by_name(schema)
        if isinstance(schema, list):
            return _union([self.of(each) for each in schema], [self.values(each) - 1 for each in schema])
        match schema["type"]:
            case "array":
                items = schema["items"]
                if isinstance(items, str) and items in _COLUMNS:
                    return _COLUMNS[items]
                return _array(self.of(items), self.values(items) if _is_counted(items) else 0)
            case "map":
                return _map(self.of(schema["values"]), self.values(schema["values"]))
            case "record" | "error":
                self._named[schema["name"]] = made = self._record(schema)
                return made
            case "fixed":
                self._named[schema["name"]] = made = _fixed(schema["size"])
                return made
            case "enum":
                symbols = schema["symbols"]
                self._named[schema["name"]] = made = _union([_symbol(each) for each in symbols], [0] * len(symbols))
                return made
            case kind:
                return self.of(kind)

    def of_field(self, schema: Any) -> _Step:
        """Return the step over a field of an event."""
        step = self.of(schema)
        if not self._makers:  # a schema that anybody may have written: each of its fields would keep a value
            return step
        match schema:
            case {"type": "array", "items": items}:
                return _repeated(step, list) if items == "string" or self._is_made(items) else step
            case list():
                return _repeated(step) if all([each == "null" or self._is_made(each) for each in schema]) else step
            case _:
                return _repeated(step) if self._is_made(schema) else step

    def _is_made(self, schema: Any) -> bool:
        """Whether a type is a record that becomes an object, which never changes."""
        name = schema["name"] if isinstance(schema, dict) and schema["type"] == "record" else schema
        return isinstance(name, str) and self._makers.get(name) is not None

    def _by_name(self, name: str) -> _Step:
        named = self._named

        # Looked up when the step is called: while a recursive record is being made, its own name is not there yet.
        def step(data: bytes, at: int, left: _Budget) -> tuple[Any, int]:
            return named[name](data, at, left)

        return step

    def _record(self, schema: Any) -> _Step:
        names = [each["name"] for each in schema["fields"]]
        steps = [self.of(each["type"]) for each in schema["fields"]]

        def as_dict(*fields: Any) -> dict[str, Any]:
            return dict(zip(names, fields, strict=True))

        make: Maker | None = self._makers.get(schema["name"], as_dict)
        if make is None:
            [only] = steps
            return only

        def step(data: bytes, at: int, left: _Budget) -> tuple[Any, int]:
            found = []
            for each in steps:
                datum, at = each(data, at, left)
                found.append(datum)
            return make(*found), at

        return step


def _repeated(step: _Step, copied: Callable[[Any], Any] | None = None) -> _Step:
    """Make a step over a field that is nearly always the same as in the last event, such as names and a status.

    Args:
        step: The step over any value of the field.
        copied: Copies a value; None if values never change.

    Returns:
        The step, which keeps the last value with its bytes.
    """
    known: tuple[bytes, Any, int] = b"", None, 0  # one object, so that no thread sees the parts of two values

    def again(data: bytes, at: int, left: _Budget) -> tuple[Any, int]:
        nonlocal known
        last, datum, values = known
        if last and data.startswith(last, at):
            _take(left, values)
            return datum if copied is None else copied(datum), at + len(last)
        before = left[0]
        datum, end = step(data, at, left)
        if 0 < end - at <= _REPEATED_BYTES:
            known = data[at:end], datum if copied is None else copied(datum), before - left[0]
        return datum, end

    return again


def _is_counted(items: Any) -> bool:
    """Whether the items of an array are counted: not if each is one value that takes a byte at least."""
    kind = items["type"] if isinstance(items, dict) else items
    return not isinstance(kind, str) or (kind not in _PLAIN and kind != "fixed")


def _fixed(size: int) -> _Step:
    def step(data: bytes, at: int, _: _Budget) -> tuple[bytes, int]:
        if size > len(data) - at:
            raise SchemaError(f"{size} bytes where {len(data) - at} follow")
        return data[at : at + size], at + size

    return step


def _symbol(symbol: Any) -> _Step:
    return lambda _data, at, _left: (symbol, at)


def _union(branches: list[_Step], more: list[int]) -> _Step:
    """Make the step over a union or an enum; `more` has the values of each branch but the first, which was counted."""
    is_counted = any(more)

    def step(data: bytes, at: int, left: _Budget) -> tuple[Any, int]:
        index = data[at]
        if index & 0x81:  # more than 63, or negative
            index, at = read_long(data, at)
        else:
            index >>= 1
            at += 1
        if not 0 <= index < len(branches):
            raise SchemaError(f"a union or an enum of {len(branches)} has no index {index}")
        if is_counted:
            _take(left, more[index])
        return branches[index](data, at, left)

    return step


def _array(item: _Step, values: int) -> _Step:
    """Make the step over an array; `values` is the number of values of an item, 0 if they need not be counted."""

    def step(data: bytes, at: int, left: _Budget) -> tuple[list[Any], int]:
        found: list[Any] = []
        while True:
            count, at = read_block(data, at)
            if not count:
                return found, at
            _take(left, count * values)
            for _ in range(count):
                datum, at = item(data, at, left)
                found.append(datum)

    return step


def _map(value: _Step, values: int) -> _Step:
    """Make the step over a map; `values` is the number of values of one of its values."""

    def step(data: bytes, at: int, left: _Budget) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        while True:
            count, at = read_block(data, at)
            if not count:
                return found, at
            _take(left, count * values)
            for _ in range(count):
                key, at = read_text(data, at)
                found[key], at = value(data, at, left)

    return step
