"""Columns of tables: each has one type, found from its values by one rule.

| values of a column (None and missing ones apart) | type |
|---|---|
| all of one type: bool, int, float, str, bytes, time | this type |
| int and float, each int exact as a double | float |
| lists | str: JSON |
| anything else | str: texts as they are, other values as JSON |
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from trialstream_schemas.model.forms import to_json

__all__ = ["Column", "Kind", "cell_kind", "column_of", "common_kind", "convert"]

Kind: TypeAlias = Literal["bool", "int", "float", "text", "bytes", "time"]
"""Type of a column. A time is UTC, in microseconds."""

_EXACT = 2**53
_KINDS: dict[type, Kind] = {bool: "bool", int: "int", float: "float", str: "text", bytes: "bytes"}


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        kind: Its type.
        cells: Its values: a list, in which None is a missing value; or an array.
        present: For an array, whether each value is there; None if all are.
    """

    kind: Kind
    cells: list[Any] | NDArray[Any]
    present: NDArray[np.bool_] | None = None


def cell_kind(x: Any) -> str:
    """Return the type of one value, as `common_kind` takes it: a `Kind`, `large` for an int beyond 2**53, or `json`."""
    if isinstance(x, datetime):
        return "time"
    kind = _KINDS.get(type(x), "json")
    return "large" if kind == "int" and not -_EXACT <= x <= _EXACT else kind


def common_kind(kinds: Iterable[str]) -> Kind:
    """Return the type of a column.

    Args:
        kinds: The types of its values, without those of missing values.

    Returns:
        The type; `text` if there are no values.
    """
    found = set(kinds)
    if found <= {"int", "large"} and found:
        return "int"
    if found == {"int", "float"}:
        return "float"
    if len(found) == 1 and found != {"json"}:
        return found.pop()  # type: ignore[return-value]
    return "text"


def convert(x: Any, kind: Kind) -> Any:
    """Convert a value to the type of its column; None stays None."""
    if x is None:
        return None
    if kind == "float":
        return float(x)
    if kind == "text" and not isinstance(x, str):
        return str(x) if isinstance(x, (float, datetime)) else json.dumps(to_json(x))
    return x


def column_of(values: Sequence[Any], kind: Kind | None = None) -> Column:
    """Make a column.

    Args:
        values: The values; None is a missing one.
        kind: Type of the column; found from the values if not given.

    Returns:
        The column.
    """
    kind = kind or common_kind({cell_kind(x) for x in values if x is not None})
    return Column(kind, [convert(x, kind) for x in values])
