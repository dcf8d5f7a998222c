"""Metric histories: conversion of buckets to arrays, in the order of the log."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trialstream_schemas.model.history import Bucket, Shape, WriterSpan
from trialstream_schemas.model.values import INT64_MAX, INT64_MIN

from trialstream.protocol import MetricHistory, Step
from trialstream.reading.checks import checked_number
from trialstream.reading.reader import Since
from trialstream.reading.rewinds import Rewinds

__all__ = ["check_points", "check_row", "downsampled", "histories"]

# The minimum, the maximum and the last row.
_LEAST_POINTS = 3
_ALL = Since()


def check_points(max_points: int | None) -> int | None:
    """Check the parameter `max_points`.

    Args:
        max_points: Maximum number of points, an integer of any type; None for all.

    Returns:
        The number as an int, or None.

    Raises:
        InvalidType: The number is not an integer.
        InvalidValue: The number is less than 3.
    """
    return None if max_points is None else checked_number(max_points, "max_points", _LEAST_POINTS)


def check_row(since_row: int | None) -> int | None:
    """Check the parameter `since_row`.

    Args:
        since_row: Number of a row, an integer of any type; None for all rows.

    Returns:
        The number as an int, or None.

    Raises:
        InvalidType: The number is not an integer.
        InvalidValue: The number is negative, or does not fit 64 bits.
    """
    return None if since_row is None else checked_number(since_row, "since_row", 0, INT64_MAX)


def histories(
    buckets: Iterable[Bucket], since: Since = _ALL, rewinds: Rewinds | None = None
) -> dict[str, MetricHistory]:
    """Return the history of each name: the rows of all its buckets, in the order of the log.

    Args:
        buckets: All buckets with such rows of these names.
        since: The rows to keep.
        rewinds: Finds the superseded rows, which are left out; None keeps them.

    Returns:
        The histories by name, sorted by name.
    """
    by_shape: dict[Shape, list[Bucket]] = {}
    for bucket in buckets:
        by_shape.setdefault(bucket.shape, []).append(bucket)
    parts: dict[str, list[tuple[NDArray[Any], ...]]] = {}
    for shape, some in by_shape.items():
        # MongoDB returns the open bucket, which is the last one, among the first. Once the buckets are sorted, the rows
        # usually are too; not if columns were left out, by which shapes differ.
        some.sort(key=lambda each: each.spans[0].first if each.spans else -1)
        spans = [span for each in some for span in each.spans]
        shared = _shared_columns(shape, some, spans)
        kept = _kept(shape, since, shared[0], shared[1])
        if rewinds is not None and (superseded := rewinds.superseded(shape.steps, spans, shared[1])) is not None:
            kept = ~superseded if kept is None else kept & ~superseded
        for i, name in enumerate(shape.names):
            rows: tuple[NDArray[Any], ...] = (*shared, _column(np.float64, [each.columns[i] for each in some]))
            if kept is not None:
                rows = tuple(each[kept] for each in rows)
            elif i:  # users may change an array of one history
                rows = (*(each.copy() for each in shared), rows[-1])
            parts.setdefault(name, []).append(rows)
    return {name: _joined(each) for name, each in sorted(parts.items())}


def downsampled(history: MetricHistory, max_points: int) -> MetricHistory:
    """Downsample a history such that no spike is lost: keep the minimum and the maximum of each bucket.

    The rows are cut into buckets of equal length (to one row), in their order: `(max_points - 2) // 2` buckets, or
    `(max_points - 2) // 3` if values are NaN or infinite, but at least one. The result has, in order,

    - the first minimum and the first maximum of the finite values of each bucket;
    - the first row of each bucket whose value is NaN or infinite, so a plot shows a gap there: a sequence of such rows
      has a row in the result, or it lies in one bucket, after another one that has;
    - the first and the last row of the history.

    With 3 or 4 points there may not be room for all of these: the extremes come first, then the last row, the row that
    is NaN or infinite, and the first row.

    Args:
        history: The history.
        max_points: Maximum number of points, 3 or more.

    Returns:
        A history of at most `max_points` rows; the given history if it has no more.
    """
    total = len(history)
    if total <= max_points:
        return history
    finite = np.isfinite(history.values)
    is_finite = bool(finite.all())  # the usual case, in which nothing is copied
    low = history.values if is_finite else np.where(finite, history.values, math.inf)
    high = history.values if is_finite else np.where(finite, history.values, -math.inf)
    count = max(1, (max_points - 2) // (2 if is_finite else 3))
    extremes = np.concatenate([_first_in_buckets(low, count, np.argmin), _first_in_buckets(high, count, np.argmax)])
    found = [extremes[finite[extremes]], [total - 1]]  # a bucket without finite values has no extremes
    if not is_finite:
        odd = _first_in_buckets(finite, count, np.argmin)
        found.append(odd[~finite[odd]])
    chosen = np.unique(np.concatenate([*found, [0]])[:max_points].astype(np.intp))
    columns: list[NDArray[Any]] = [history.steps, history.times, history.writers, history.values, history.rows]
    return MetricHistory(*(each[chosen] for each in columns))


def _first_in_buckets(column: NDArray[Any], count: int, find: Callable[..., Any]) -> NDArray[np.intp]:
    """Find one row in each bucket.

    Args:
        column: A column with at least `count` rows.
        count: Number of buckets.
        find: `numpy.argmin` or `numpy.argmax`.

    Returns:
        The number of the row that was found in each bucket.
    """
    length, longer = divmod(len(column), count)
    cut = longer * (length + 1)  # the first `longer` buckets have one row more
    found = []
    for first, rows in ((0, column[:cut].reshape(longer, length + 1)), (cut, column[cut:].reshape(-1, length))):
        found.append(first + np.arange(len(rows)) * rows.shape[1] + find(rows, axis=1))
    return np.concatenate(found)


def _shared_columns(
    shape: Shape, buckets: Sequence[Bucket], spans: Sequence[WriterSpan]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return four arrays with one element for each row: its number in the trial, its step, its time and its writer.

    Args:
        shape: Shape of the buckets.
        buckets: The buckets, ascending.
        spans: Their spans; none, if there are no rows.
    """
    # Without rows, the bucket is the open one of a shape whose last bucket is exactly full.
    counts = np.array([each.rows for each in spans], dtype=np.int64)
    firsts = np.array([each.first for each in spans], dtype=np.int64)
    times = _column(np.int64, [each.times for each in buckets]).view("datetime64[us]")
    order = np.arange(len(times), dtype=np.int64)
    others = firsts - (np.cumsum(counts) - counts)  # rows of other shapes before each span
    order += others[0] if np.all(others == others[:1]) and len(others) else np.repeat(others, counts)
    writers = np.repeat(np.array([each.writer for each in spans], dtype=object), counts)
    match shape.steps:
        case "int":
            steps: NDArray[Any] = _column(np.int64, [each.steps for each in buckets])
        case "float":
            steps = _column(np.float64, [each.steps for each in buckets])
        case "text":
            steps = np.array([step for each in buckets for step in each.steps], dtype=object)
        case _:
            steps = np.full(len(times), None, dtype=object)
    return order, steps, times, writers


def _column(kind: type[np.number[Any]], parts: Sequence[Any]) -> NDArray[Any]:
    """Return the numbers of columns, which are arrays, or little-endian bytes as they are stored."""
    stored = np.dtype(kind).newbyteorder("<" if isinstance(parts[0], bytes) else "=")
    return np.concatenate([np.frombuffer(each, stored) for each in parts]).astype(kind, copy=False)


def _kept(shape: Shape, since: Since, order: NDArray[np.int64], steps: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return the index of the rows to keep; None for all."""
    rows = None
    if since.row is not None and len(order) and order[0] < since.row:
        rows = order >= since.row
    if since.step is None:
        return rows
    bound = _bound(shape.steps, since.step)
    if bound is None:
        return np.zeros(len(steps), dtype=bool)
    later: NDArray[np.bool_] = (steps >= bound).astype(bool)
    return later if rows is None else later & rows


def _bound(step_type: str, least: Step) -> Step | None:
    """Return the smallest step of a type that is not below a step; None if there is none.

    So numpy compares exactly, as MongoDB does: it would compare an integer with a double as doubles, without the last
    digits of integers beyond 2**53.
    """
    if isinstance(least, str) or step_type not in ("int", "float"):
        return least if isinstance(least, str) and step_type == "text" else None
    if step_type == "int":
        return max(INT64_MIN, math.ceil(least)) if least <= INT64_MAX else None
    double = float(least)
    return double if double >= least else math.nextafter(double, math.inf)


def _joined(parts: Sequence[tuple[NDArray[Any], ...]]) -> MetricHistory:
    # Once the parts are sorted, the rows usually are too.
    parts = sorted(parts, key=lambda part: int(part[0][0]) if len(part[0]) else 0)
    order, steps, times, writers, values = parts[0]
    if len(parts) > 1:
        kinds = {part[1].dtype.kind for part in parts}
        # As objects, numbers keep their type when they are joined with text or None.
        steps = np.concatenate([part[1].astype(object) if "O" in kinds else part[1] for part in parts])
        order, times, writers, values = (np.concatenate([part[i] for part in parts]) for i in (0, 2, 3, 4))
    if np.any(order[1:] < order[:-1]):
        sorted_ = np.argsort(order, kind="stable")
        order, steps, times, writers, values = (each[sorted_] for each in (order, steps, times, writers, values))
    return MetricHistory(steps, times, writers, values, order)
