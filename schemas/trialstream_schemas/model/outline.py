"""Outlines: of a full bucket of the history, the few rows that a plot of whole curves needs.

A plot of a million rows in a thousand pixel columns shows few of them, but MongoDB reads whole buckets. So each full
bucket has an outline, a small document with the id of the bucket. It has, of each name,

- the first and the last row of the bucket;
- of each `CELL_ROWS` rows, the first row with the smallest and the first with the largest finite value, and the first
  row whose value is NaN or infinite;
- the numbers of values that are NaN, +inf and -inf, if there are any.

So the outlines of a history have each of its spikes, at its place. An outline depends on its bucket alone: nothing is
loaded to make it, and a replay makes the same one. That of a bucket of one name takes 2 % of the bucket's size.

Buckets of fewer than `MAX_ROWS` rows, which are those of wide shapes, and buckets whose steps are no numbers have no
outline, nor have those that consumers of earlier versions filled.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trialstream_schemas.model.history import MAX_ROWS, Bucket, Shape, ids_below
from trialstream_schemas.model.keys import escape_key

__all__ = [
    "CELL_ROWS",
    "Outline",
    "has_outlines",
    "outline_documents",
    "outline_ids",
    "outline_number",
    "outline_of",
    "together",
]

CELL_ROWS = 256
"""Rows of which an outline keeps the extremes: a million rows have 3,900 such cells, a few for each pixel column."""

_STEPS = {"int": "<i8", "float": "<f8"}
_FIRSTS = np.arange(0, MAX_ROWS, CELL_ROWS)
# Buckets whose outlines are made together, with less than half the work for each, and in little memory.
_AT_ONCE = 32


@dataclass(frozen=True)
class Outline:
    """Some rows of a name in the order of the log, and the numbers of all rows from which they are.

    Attributes:
        rows: Number of each row in the trial, ascending; int64.
        steps: Step of each row; int64 or float64.
        times: When each row was logged, datetime64[us] in UTC.
        values: Value of each row; float64.
        total: Number of all rows.
        specials: Of all rows, the numbers of those whose value is NaN, +inf and -inf.
    """

    rows: NDArray[np.int64]
    steps: NDArray[Any]
    times: NDArray[np.datetime64]
    values: NDArray[np.float64]
    total: int
    specials: tuple[int, int, int]

    def until(self, end: int) -> Outline:
        """The outline without the rows from a number on."""
        count = int(np.searchsorted(self.rows, end))
        left_out = len(self.rows) - count  # all later rows: those of open buckets are all here
        return replace(
            self,
            rows=self.rows[:count],
            steps=self.steps[:count],
            times=self.times[:count],
            values=self.values[:count],
            total=self.total - left_out,
        )


def has_outlines(shape: Shape) -> bool:
    """Whether the full buckets of a shape have outlines."""
    return shape.capacity == MAX_ROWS and shape.steps in _STEPS


def outline_ids(uid: str, shape: Shape) -> tuple[str, str]:
    """The bounds of the ids of the outlines of a trial and shape; the second one is beyond them."""
    return ids_below(f"{uid}/{shape.uid}")


def outline_number(document: Mapping[str, Any]) -> int:
    """The number of the bucket of an outline."""
    return int(document["_id"].rpartition("/")[2])


def outline_documents(buckets: Iterable[Bucket]) -> Iterator[dict[str, Any]]:
    """The documents of the outlines of full buckets, as far as their shapes have outlines, in any order."""
    by_shape: dict[Shape, list[Bucket]] = {}
    for each in buckets:
        by_shape.setdefault(each.shape, []).append(each)
    for shape, some in by_shape.items():
        if has_outlines(shape):
            for at in range(0, len(some), _AT_ONCE):
                yield from _documents(shape, some[at : at + _AT_ONCE])


def _documents(shape: Shape, buckets: Sequence[Bucket]) -> Iterator[dict[str, Any]]:
    keys = [escape_key(name) for name in shape.names]
    size = len(buckets), len(keys)
    values = _table(column for each in buckets for column in each.columns).reshape(*size, MAX_ROWS)
    finite = np.isfinite(values)
    is_finite = bool(finite.all())
    ends = np.broadcast_to(np.array([0, MAX_ROWS - 1]), (*size, 2))
    cells = (*size, MAX_ROWS // CELL_ROWS, CELL_ROWS)
    # A cell without finite values, or without others, has its first row in place of theirs: so the places of a name
    # depend on its values alone, and not on those of buckets whose outlines are made together with it.
    low = high = values
    odd = np.zeros(cells[:3], np.intp)
    if not is_finite:
        low, high = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
        odd = (~finite).reshape(cells).argmax(axis=3)
    found = [low.reshape(cells).argmin(axis=3), high.reshape(cells).argmax(axis=3), odd]
    places = np.sort(np.concatenate([ends, *(each + _FIRSTS for each in found)], axis=2), axis=2)
    rows = np.empty(places.shape, _row(shape))
    shared = {
        "row": np.stack([_order(each) for each in buckets]),
        "step": _table(each.steps for each in buckets),
        "time": _table(each.times for each in buckets),
    }
    for field, columns in shared.items():
        rows[field] = np.take_along_axis(columns[:, None], places, axis=2)
    rows["value"] = np.take_along_axis(values, places, axis=2)
    packed, width = rows.tobytes(), rows.itemsize * places.shape[2]
    for i, bucket in enumerate(buckets):
        begin = i * len(keys) * width
        document = {
            "_id": bucket.full_id,
            "rows": {key: packed[begin + j * width : begin + (j + 1) * width] for j, key in enumerate(keys)},
        }
        if not (is_finite or finite[i].all()):
            odd_ones = [j for j in range(len(keys)) if not finite[i, j].all()]
            document["specials"] = {keys[j]: _specials(values[i, j]) for j in odd_ones}
        yield document


def _table(columns: Iterable[array[Any]]) -> NDArray[Any]:
    return np.stack([np.asarray(each) for each in columns])


def outline_of(name: str, documents: Iterable[Mapping[str, Any]], opened: Bucket) -> Outline:
    """The outline of all rows of a name in the buckets of one shape.

    Args:
        name: A name of the shape.
        documents: The outlines of all full buckets, in any order; of other names, their rows may be missing.
        opened: The open bucket, whose rows are all taken.
    """
    shape, key = opened.shape, escape_key(name)
    in_order = sorted(documents, key=outline_number)
    packed = [each["rows"][key] for each in in_order]
    odd = [each["specials"][key] for each in in_order if key in each.get("specials", ())]
    last = np.empty(len(opened), _row(shape))
    last["row"], last["step"], last["time"] = _order(opened), opened.steps, opened.times
    last["value"] = opened.columns[shape.names.index(name)]
    rows = np.concatenate([np.frombuffer(b"".join(packed), _row(shape)), last])
    # A row may be there several times: as the last and the largest one, for example.
    numbers = rows["row"]
    rows = rows[np.append(numbers[1:] != numbers[:-1], True)[: len(rows)]]
    return Outline(
        rows["row"].astype(np.int64),
        rows["step"].astype(np.int64 if shape.steps == "int" else np.float64),
        rows["time"].astype(np.int64).view("datetime64[us]"),
        rows["value"].astype(np.float64),
        MAX_ROWS * len(packed) + len(last),
        tuple(np.sum([_specials(last["value"]), *odd], axis=0).tolist()),
    )


def together(outlines: Iterable[Outline]) -> Outline:
    """The outline of a name that is in several shapes of a trial, from those of each shape, at least one."""
    some = list(outlines)
    if len(some) == 1:
        return some[0]
    order = np.argsort(np.concatenate([each.rows for each in some]), kind="stable")
    rows, steps, times, values = (
        np.concatenate([getattr(each, field) for each in some])[order] for field in ("rows", "steps", "times", "values")
    )
    nan, inf, neginf = (sum(each) for each in zip(*(each.specials for each in some), strict=True))
    return Outline(rows, steps, times, values, sum(each.total for each in some), (nan, inf, neginf))


def _row(shape: Shape) -> np.dtype[np.void]:
    return np.dtype([("row", "<i8"), ("step", _STEPS[shape.steps]), ("time", "<i8"), ("value", "<f8")])


def _order(bucket: Bucket) -> NDArray[np.int64]:
    """The number of each row in the trial."""
    spans = [np.arange(each.first, each.first + each.rows) for each in bucket.spans]
    return spans[0] if len(spans) == 1 else np.concatenate([np.empty(0, np.int64), *spans])


def _specials(values: NDArray[np.float64]) -> list[int]:
    return [int(each.sum()) for each in (np.isnan(values), values == np.inf, values == -np.inf)]
