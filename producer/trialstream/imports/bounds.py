"""Values of other trackers within the bounds of the log: what cannot be stored is left out and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.model.steps import check_step
from trialstream_schemas.model.times import check_micros
from trialstream_schemas.model.values import MAX_NAME_BYTES, Value, check_name, size, value

from trialstream.imports.runs import Row

__all__ = ["count", "micros", "storable", "storable_name", "storable_rows"]

# The values of a creation or of an update together, bytes: an event takes 768 KiB.
_MAX_BYTES = 512 * 1024
# Kinds of what is left out, which are counted and reported one by one.
_MAX_KINDS = 100
# Names of a row together, bytes; a wider row becomes several rows of the same step.
_MAX_ROW_BYTES = 128 * 1024


def storable(given: Mapping[Any, Any], field: str, left_out: Counter[str]) -> dict[str, Value]:
    """Return the values that can be stored, and count the others.

    Args:
        given: Values by name.
        field: Name of the field, for the counts.
        left_out: Counts what is left out.

    Returns:
        The values, in their plain form; the largest are left out until the rest fits one event.
    """
    found: dict[str, Value] = {}
    for key, each in given.items():
        try:
            found[check_name(str(key), field)] = value(each, f"{field}.{key}")
        except (InvalidType, InvalidValue):
            left_out[f"{field}: values that cannot be stored"] += 1
    while size(found) > _MAX_BYTES:
        del found[max(found, key=lambda key: size(found[key]))]
        left_out[f"{field}: values that are too large"] += 1
    return found


def storable_name(name: object) -> str:
    """Return a name that can be stored: cut, without NUL and lone surrogates; `run` if nothing is left."""
    text = str(name or "").replace("\0", " ").encode(errors="replace")[:MAX_NAME_BYTES]
    return text.decode(errors="ignore").strip() or "run"


def storable_rows(rows: Iterator[Row], left_out: Counter[str]) -> Iterator[Row]:
    """Yield the rows that can be stored, wide ones in parts, and count what is left out."""
    known: set[str] = set()
    for row in rows:
        try:
            check_step(row.step)
            check_micros(row.time)
        except (InvalidType, InvalidValue):
            left_out["rows whose step or time cannot be stored"] += 1
            continue
        part: dict[str, float] = {}
        width = 0
        for name, each in row.values.items():
            if name not in known:
                try:
                    check_name(name, "metric")
                except (InvalidType, InvalidValue):
                    left_out["metrics whose name cannot be stored"] += 1
                    continue
                if len(known) < 100_000:
                    known.add(name)
            if width > _MAX_ROW_BYTES:
                yield row._replace(values=part)
                part, width = {}, 0
            part[name] = each
            width += len(name) + 9
        if part:
            yield row._replace(values=part)


def count(left_out: Counter[str], what: str) -> None:
    """Count something that is left out; what a source names is counted by its name up to some number of names."""
    left_out[what if what in left_out or len(left_out) < _MAX_KINDS else "values of other kinds"] += 1


def micros(seconds: float) -> int:
    """Convert seconds since 1970 to microseconds; NaN and the like to a number that `check_micros` refuses."""
    return round(seconds * 1e6) if -1e12 < seconds < 1e12 else 2**63 - 1
