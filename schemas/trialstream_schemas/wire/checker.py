"""Checks of an event's body before it is decoded, against bytes that fastavro misreads or that exhaust the process.

- fastavro's reader in C counts a negative index of a union or an enum from the end, and so decodes a wrong value
  without an error.
- The reader recurses without a bound: values nested 5,000 levels deep, which 10 KB can contain, overflow the stack and
  kill the process (measured).
- The reader makes hundreds of bytes of Python objects for each byte of an array of values that are null, and thousands
  for an array of records with many fields that are null.

A checker steps over the body without making values, and counts them in records, unions, arrays and maps against the
budget of the event (`MAX_VALUES`). It ends with the last field that has an index or counted values;
benchmarks/decode.py measures the cost. Later fields are numbers, texts, bytes, and arrays of these: each byte of them
becomes 25 bytes of objects at most, and if a length is too large, the reader reaches the end of the bytes and fails.

So, for an event of 1 MiB, the checker and the reader take at most one step for each byte and each value of the budget,
which is about a second, and decoding takes at most 64 MiB beside the bytes (tests/unit/test_heavy_events.py). Frames
of this version are not checked here: `frames.py` checks counts, sizes and indices while it reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.limits import MAX_VALUES
from trialstream_schemas.wire.schema_reader import Expansions
from trialstream_schemas.wire.varint import LONG_BYTES, read_long

__all__ = ["Checker", "checker"]

# A list of one number: how many more values the event may have.
_Budget: TypeAlias = list[int]

Checker: TypeAlias = Callable[[bytes, int, _Budget], object]
"""Called with the bytes, the offset of the body, and a list of one number: how many values the event may have, from
which those that are counted are subtracted. Raises an error if the body must not be decoded."""

# Called with the bytes, the offset of a datum, and the budget. Returns the offset after the datum.
_Step: TypeAlias = Callable[[bytes, int, _Budget], int]

_FIXED_SIZES = {"null": 0, "boolean": 1, "float": 4, "double": 8}


def checker(schema: Any) -> Checker:
    """Make the checker of a schema.

    Args:
        schema: The schema of a record, as `fastavro.parse_schema` returns it.

    Returns:
        The checker, which raises `SchemaError`, or `IndexError` where the bytes end too soon.

    Raises:
        SchemaError: A type of the schema expands to too many values: see `Expansions`.
    """
    maker = _Maker(schema)
    fields = [each["type"] for each in schema["fields"]]
    steps = [maker.step(each) for each in fields]
    last = max((i for i, each in enumerate(fields) if not _is_plain(each, in_array=False)), default=-1)
    checked = steps[: last + 1]
    own = maker.values(schema)

    def check(data: bytes, at: int, left: _Budget) -> None:
        _take(left, own)
        for each in checked:
            at = each(data, at, left)

    return check


def _take(left: _Budget, values: int) -> None:
    left[0] -= values
    if left[0] < 0:
        raise SchemaError(f"more than {MAX_VALUES} values")


def _is_plain(schema: Any, *, in_array: bool) -> bool:
    """Whether a datum has no index, and is one value or an array of such values that take bytes."""
    if isinstance(schema, dict):
        if schema["type"] == "array" and not in_array:
            return _is_plain(schema["items"], in_array=True)
        return schema["type"] in _PLAIN or schema["type"] == "fixed"
    return isinstance(schema, str) and schema in _PLAIN


def _skip_long(data: bytes, at: int, _: _Budget) -> int:
    began = at
    while data[at] & 0x80:
        at += 1
    if at - began >= LONG_BYTES:
        raise SchemaError("an integer of more than 64 bits")
    return at + 1


def _skip_bytes(data: bytes, at: int, _: _Budget) -> int:
    size = data[at]
    at += 1
    if size & 0x80:
        size, at = read_long(data, at - 1)
    else:  # the fast path, for up to 63 bytes
        size = (size >> 1) ^ -(size & 1)
    if not 0 <= size <= len(data) - at:
        raise SchemaError(f"a text or bytes of {size} bytes where {len(data) - at} follow")
    return at + size


_PLAIN: dict[str, _Step] = {
    **dict.fromkeys(("int", "long"), _skip_long),
    **dict.fromkeys(("string", "bytes"), _skip_bytes),
}


def _fixed(size: int) -> _Step:
    return lambda _data, at, _left: at + size


_PLAIN.update({kind: _fixed(size) for kind, size in _FIXED_SIZES.items()})


class _Maker:
    """Makes the steps over the types of a schema."""

    def __init__(self, schema: Any) -> None:
        self._named: dict[str, _Step] = {}
        self.values = Expansions(schema).values

    def step(self, schema: Any) -> _Step:
        """The step over a datum of a type."""
        if isinstance(schema, str):
            return _PLAIN[schema] if schema in _PLAIN else self._by_name(schema)
        if isinstance(schema, list):
            return _union([self.step(each) for each in schema], [self.values(each) - 1 for each in schema])
        match schema["type"]:
            case "array":
                items = schema["items"]
                if isinstance(items, str) and items in _FIXED_SIZES:
                    return _fixed_blocks(_FIXED_SIZES[items])
                counted = 0 if _is_plain(items, in_array=True) else self.values(items)
                return _blocks(self.step(items), counted)
            case "map":
                return _blocks(self.step(schema["values"]), self.values(schema["values"]), _skip_bytes)
            case "record" | "error":
                self._named[schema["name"]] = made = _record([self.step(each["type"]) for each in schema["fields"]])
                return made
            case "fixed":
                self._named[schema["name"]] = made = _fixed(schema["size"])
                return made
            case "enum":
                symbols = len(schema["symbols"])
                self._named[schema["name"]] = made = _union([_fixed(0)] * symbols, [0] * symbols)
                return made
            case kind:
                return self.step(kind)

    def _by_name(self, name: str) -> _Step:
        named = self._named

        # Looked up when the step is called: while a recursive record is being made, its own name is not there yet.
        def step(data: bytes, at: int, left: _Budget) -> int:
            return named[name](data, at, left)

        return step


def _record(fields: list[_Step]) -> _Step:
    if len(fields) == 1:  # saves a call, and stack, for each level of nested values
        return fields[0]

    def step(data: bytes, at: int, left: _Budget) -> int:
        for each in fields:
            at = each(data, at, left)
        return at

    return step


def _union(branches: list[_Step], more: list[int]) -> _Step:
    """The step over a union or an enum; `more` has the values of each branch beyond the first, which was counted."""
    is_counted = any(more)

    def step(data: bytes, at: int, left: _Budget) -> int:
        index, at = read_long(data, at)
        if not 0 <= index < len(branches):
            raise SchemaError(f"a union or an enum of {len(branches)} has no index {index}")
        if is_counted:
            _take(left, more[index])
        return branches[index](data, at, left)

    return step


def _fixed_blocks(size: int) -> _Step:
    """The step over an array of numbers that all take `size` bytes."""

    def step(data: bytes, at: int, left: _Budget) -> int:
        while True:
            count, at = read_long(data, at)
            if not count:
                return at
            if count < 0:  # the size of the block follows
                count = -count
                at = _skip_long(data, at, left)
            at += count * size
            if at > len(data):
                raise SchemaError(f"{count} items of {size} bytes beyond the end of the bytes")

    return step


def _blocks(item: _Step, values: int, key: _Step | None = None) -> _Step:
    """The step over an array or a map: blocks that begin with their number of items, up to an empty block.

    Args:
        item: The step over an item, or over the value of an item of a map.
        values: Number of values of an item; 0 if they need not be counted.
        key: The step over the key of an item of a map.
    """

    def step(data: bytes, at: int, left: _Budget) -> int:
        while True:
            count, at = read_long(data, at)
            if not count:
                return at
            if count < 0:  # the size of the block follows
                count = -count
                at = _skip_long(data, at, left)
            if count > len(data) - at:  # each takes a byte at least
                raise SchemaError(f"{count} items where {len(data) - at} bytes follow")
            _take(left, count * values)
            for _ in range(count):
                if key is not None:
                    at = key(data, at, left)
                at = item(data, at, left)

    return step
