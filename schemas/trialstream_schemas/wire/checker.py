"""Checks of an event's body before it is decoded, against bytes that fastavro misreads or that exhaust the process.

- fastavro's reader in C counts a negative index of a union or an enum from the end, and so decodes a wrong value
  without an error.
- The reader recurses without a bound: values nested 5,000 levels deep, which 10 KB can contain, overflow the stack and
  kill the process (measured).
- The reader makes 230 bytes of Python objects for each byte of an array of values that are null.

A checker steps over the body without making values, up to the last field that has a union or an enum;
benchmarks/decode.py measures the cost. Later fields need no check: they contain no index, and if a length in them is
too large, the reader reaches the end of the bytes and fails. Frames of this version are not checked here: `frames.py`
checks counts, sizes and indices while it reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.limits import MAX_EVENT_BYTES
from trialstream_schemas.wire.varint import LONG_BYTES, read_long

__all__ = ["Checker", "checker"]

Checker: TypeAlias = Callable[[bytes, int], object]
"""Called with the bytes and the offset of the body; raises an error if the body must not be decoded."""

# Called with the bytes, the offset of a datum, and a list of one number: how many more items the event may have.
# Returns the offset after the datum.
_Step: TypeAlias = Callable[[bytes, int, list[int]], int]

# No writer makes an event with more: the values of a call have at most MAX_EVENT_BYTES, and `values.size` counts at
# least 8 bytes for each value.
_MAX_ITEMS = MAX_EVENT_BYTES // 8

_FIXED_SIZES = {"null": 0, "boolean": 1, "float": 4, "double": 8}


def checker(schema: Any) -> Checker:
    """Make the checker of a schema.

    Args:
        schema: The schema of a record, as `fastavro.parse_schema` returns it.

    Returns:
        The checker, which raises `SchemaError`, or `IndexError` where the bytes end too soon.
    """
    named: dict[str, _Step] = {}
    fields = [each["type"] for each in schema["fields"]]
    steps = [_step(each, named) for each in fields]
    last = max((i for i, each in enumerate(fields) if _is_indexed(each)), default=-1)
    checked = steps[: last + 1]

    def check(data: bytes, at: int) -> None:
        left = [_MAX_ITEMS]
        for each in checked:
            at = each(data, at, left)

    return check


def _is_indexed(schema: Any) -> bool:
    """Whether a datum of the schema may contain the index of a union or an enum; True for each name of a type."""
    if isinstance(schema, str):
        return schema not in _PLAIN
    if isinstance(schema, list):
        return True
    parts = [schema[key] for key in ("items", "values") if key in schema]
    parts += [each["type"] for each in schema.get("fields", ())]
    return schema["type"] == "enum" or any(map(_is_indexed, parts))


def _skip_long(data: bytes, at: int, _: list[int]) -> int:
    began = at
    while data[at] & 0x80:
        at += 1
    if at - began >= LONG_BYTES:
        raise SchemaError("an integer of more than 64 bits")
    return at + 1


def _skip_bytes(data: bytes, at: int, _: list[int]) -> int:
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


def _step(schema: Any, named: dict[str, _Step]) -> _Step:
    """The step over a datum of the schema."""
    if isinstance(schema, str):
        return _PLAIN[schema] if schema in _PLAIN else _by_name(schema, named)
    if isinstance(schema, list):
        return _union([_step(each, named) for each in schema])
    match schema["type"]:
        case "array":
            return _blocks(_step(schema["items"], named))
        case "map":
            return _blocks(_step(schema["values"], named), _skip_bytes)
        case "record" | "error":
            named[schema["name"]] = made = _record([_step(each["type"], named) for each in schema["fields"]])
            return made
        case "fixed":
            named[schema["name"]] = made = _fixed(schema["size"])
            return made
        case "enum":
            named[schema["name"]] = made = _union([_fixed(0)] * len(schema["symbols"]))
            return made
        case kind:
            return _step(kind, named)


def _by_name(name: str, named: dict[str, _Step]) -> _Step:
    # Looked up when the step is called: while a recursive record is being made, its own name is not in `named` yet.
    def step(data: bytes, at: int, left: list[int]) -> int:
        return named[name](data, at, left)

    return step


def _record(fields: list[_Step]) -> _Step:
    if len(fields) == 1:  # saves a call, and stack, for each level of nested values
        return fields[0]

    def step(data: bytes, at: int, left: list[int]) -> int:
        for each in fields:
            at = each(data, at, left)
        return at

    return step


def _union(branches: list[_Step]) -> _Step:
    def step(data: bytes, at: int, left: list[int]) -> int:
        index, at = read_long(data, at)
        if not 0 <= index < len(branches):
            raise SchemaError(f"a union or an enum of {len(branches)} has no index {index}")
        return branches[index](data, at, left)

    return step


def _blocks(item: _Step, key: _Step | None = None) -> _Step:
    """The step over an array or a map: blocks that begin with their number of items, up to an empty block."""

    def step(data: bytes, at: int, left: list[int]) -> int:
        while True:
            count, at = read_long(data, at)
            if not count:
                return at
            if count < 0:  # the size of the block follows
                count = -count
                at = _skip_long(data, at, left)
            left[0] -= count
            if left[0] < 0:
                raise SchemaError(f"more than {_MAX_ITEMS} items")
            for _ in range(count):
                if key is not None:
                    at = key(data, at, left)
                at = item(data, at, left)

    return step
