"""Logged values as JSON, and columns of doubles as bytes.

JSON lacks NaN, ±inf and bytes, and JavaScript reads integers beyond 2**53 without their last digits. So these are
objects whose keys begin with `$`:

| value | form |
|---|---|
| NaN, inf, -inf | `{"$float": "NaN"}`, `"Infinity"`, `"-Infinity"` |
| an int beyond ±2**53 | `{"$int": "9007199254740993"}` |
| bytes | `{"$bytes": base64 of the first 1,024 bytes, "size": number of all bytes}` |
| a dict with a key that begins with `$` | `{"$dict": {…}}` |

Times are microseconds since 1970 UTC, a status is its name, and an aggregator is its summary. A value that is too large
for a table is `{"$long": its type, "start": the beginning of a text, "size": bytes}`.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trialstream.reading.values import LongValue
from trialstream_schemas.model.aggregators import Aggregator
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.times import to_micros

__all__ = ["TooLong", "columns", "dumps", "encoded", "encoded_column", "micros"]

_MAX_INT = 2**53
_SHOWN_BYTES = 1024
_PLAIN = frozenset({str, bool, type(None)})
# The deepest logged values of an answer are those of an event in a page of events, and a column of a table.
_DEPTH = 3
_PART_BYTES, _MAX_ITEMS = 64 * 1024, 256


class TooLong(Exception):
    """A text has more bytes than it may have."""


def encoded(x: Any) -> Any:
    """Convert a value of a trial to its form in JSON.

    Args:
        x: A logged value, or what a fetched trial has.

    Returns:
        Plain values that `dumps` takes.
    """
    kind = type(x)
    if kind in _PLAIN:
        return x
    if kind is float:
        return x if math.isfinite(x) else _special(x)
    if isinstance(x, bool):
        return bool(x)
    if isinstance(x, LongValue):
        return {"$long": x.type, "start": x.start, "size": x.size}
    if isinstance(x, int):
        return int(x) if -_MAX_INT <= x <= _MAX_INT else {"$int": str(int(x))}
    if isinstance(x, list | tuple):
        return [encoded(each) for each in x]
    if isinstance(x, Mapping):
        found = {str(key): encoded(each) for key, each in x.items()}
        return {"$dict": found} if any(key.startswith("$") for key in found) else found
    return _encoded_object(x)


def _encoded_object(x: Any) -> Any:
    if isinstance(x, bytes):
        return {"$bytes": base64.b64encode(x[:_SHOWN_BYTES]).decode("ascii"), "size": len(x)}
    if isinstance(x, datetime):
        return to_micros(x)
    if isinstance(x, Status | CustomStatus):
        return str(x)
    if isinstance(x, Aggregator):
        return encoded(x.summary())
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return {each.name: encoded(getattr(x, each.name)) for each in dataclasses.fields(x)}
    if isinstance(x, float | np.floating):
        return encoded(float(x))
    raise TypeError(f"{type(x).__name__}: expected a value of a trial")


def _special(x: float) -> dict[str, str]:
    return {"$float": "NaN" if math.isnan(x) else "Infinity" if x > 0 else "-Infinity"}


def encoded_column(column: Sequence[Any]) -> list[Any]:
    """Convert a column of values to their forms in JSON; fast for a column of plain values.

    Args:
        column: The values.
    """
    kinds = set(map(type, column))
    if kinds <= _PLAIN:
        return list(column)
    if kinds == {float} and all(map(math.isfinite, column)):
        return list(column)
    return [encoded(each) for each in column]


def micros(time: datetime | None) -> int | None:
    """Return a time as microseconds since 1970 UTC, or None."""
    return None if time is None else to_micros(time)


def dumps(x: Any, most: float = math.inf) -> bytes:
    """Return plain values as strict JSON in UTF-8, made in parts: a thread that makes it lets others run.

    Args:
        x: The values.
        most: Maximum number of bytes.

    Raises:
        TooLong: The text has more bytes.
        ValueError: A float is NaN or infinite: `encoded` converts it.
    """
    found, size = [], 0
    for part in _parts(x, _DEPTH):
        found.append(part.encode())
        size += len(found[-1])
        if size > most:
            raise TooLong
    return b"".join(found)


def _parts(x: Any, depth: int) -> Iterator[str]:
    """Yield the JSON of values in parts of some ten kilobytes, or of one logged value."""
    if depth and type(x) is dict and x:
        before = "{"
        for key, each in x.items():
            yield f"{before}{_json(key)}:"
            yield from _parts(each, depth - 1)
            before = ","
        yield "}"
    elif depth and type(x) is list and x and type(x[0]) is list:  # columns
        before = "["
        for each in x:
            yield before
            yield from _parts(each, depth - 1)
            before = ","
        yield "]"
    elif depth and type(x) is list and len(x) > 1:
        at, count, before = 0, 1, "["
        while at < len(x):
            text = _json(x[at : at + count])
            yield before + text[1:-1]
            at, before = at + count, ","
            count = max(1, min(2 * count, _MAX_ITEMS, count * _PART_BYTES // len(text)))
        yield "]"
    else:
        yield _json(x)


_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def columns(header: Mapping[str, Any], blocks: Sequence[NDArray[np.float64]]) -> bytes:
    """Return a header and columns of doubles as bytes.

    Args:
        header: Plain values; the places of columns in it are counted in doubles from the first block.
        blocks: The columns, one after the other.

    Returns:
        The length of the header as a 32-bit number, the header as JSON, zero bytes up to a multiple of 8, and the
        doubles; all in little-endian order.
    """
    text = dumps(header)
    padding = -(4 + len(text)) % 8
    doubles = [np.ascontiguousarray(each, dtype="<f8").tobytes() for each in blocks]
    return b"".join([struct.pack("<I", len(text)), text, bytes(padding), *doubles])
