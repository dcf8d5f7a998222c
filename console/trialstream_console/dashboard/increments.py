"""New rows of a trial as a live event has them: all, or of many rows those that a plot needs.

What each of many clients gets several times a second must not grow with the rate of the rows. So of many rows, equal
parts have their first, last, smallest and largest one, and the event has the counts of all: a chart that appends them
shows every spike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from trialstream.protocol import MetricHistory
from trialstream.sync import SyncProtocol

from trialstream_console.dashboard.encoding import dumps
from trialstream_console.dashboard.lines import NO_BLOCKS, Line, Progression, points_of
from trialstream_console.dashboard.live_events import RowsOfName, encoded_event, rows_of_name

__all__ = ["rows_events", "rows_of"]

# Rows and values that are read for an event, and its size: what takes more is drawn faster from `/series`, and up to 64
# events wait for a slow client.
_MAX_ROWS, _MAX_READ, _MAX_BYTES = 100_000, 200_000, 1_000_000
# Of a metric in the document of a trial.
_LEAST_METRIC_BYTES = 150

# Rows of an event, counted for each metric, beyond which they are thinned: 160 kB of JSON.
_MAX_VALUES = 4096
# The fewest parts of the rows of a metric, however many metrics an event has.
_LEAST_PARTS = 8


def rows_events(
    protocol: SyncProtocol, uid: str, begin: int, end: int, wanted: Iterable[frozenset[str]], cursor: str
) -> dict[frozenset[str], bytes]:
    """Read and encode the new rows of a trial, in the thread of the caller.

    Args:
        protocol: The protocol that reads.
        uid: Uid of the trial.
        begin: Number of the first new row.
        end: Number of its rows.
        wanted: What clients want: names of metrics; an empty set for all.
        cursor: The cursor after the rows.

    Returns:
        The event for each of these. One that would be too large has no rows, and `more`.
    """
    asked = set(wanted)
    names = frozenset[str]().union(*asked) if all(asked) else frozenset[str]()
    more = end - begin > _MAX_ROWS
    texts: dict[str, bytes] = {}
    for trial in () if more else protocol.fetch_trials({"uid": uid}, fields=["rows", "size"]):
        more = (end - begin) * (len(names) or trial.size // _LEAST_METRIC_BYTES) > _MAX_READ
        histories = {} if more else protocol.fetch_histories([trial], *names, since_row=begin)[uid]
        rows = rows_of(histories, end)
        more = more or rows is None
        texts = {name: _encoded(name, each) for name, each in (rows or {}).items()}
    head = {"trial": uid, "from": begin, "rows_seen": end}
    return {each: _rows_event(head, texts, each, cursor, more=more) for each in asked}


def _rows_event(
    head: Mapping[str, Any], texts: Mapping[str, bytes], names: frozenset[str], cursor: str, *, more: bool
) -> bytes:
    some = [text for name, text in texts.items() if not names or name in names]
    more = more or sum(map(len, some)) > _MAX_BYTES
    begin = dumps({**head, "more": more}).removesuffix(b"}")
    return encoded_event("rows", b'%s,"names":{%s}}' % (begin, b"" if more else b",".join(some)), cursor)


def _encoded(name: str, rows: RowsOfName) -> bytes:
    return dumps(name) + b":" + dumps(rows)


def rows_of(histories: Mapping[str, MetricHistory], end: int) -> dict[str, RowsOfName] | None:
    """Return the rows of an event by name of the metric.

    Args:
        histories: The new rows of each metric.
        end: Number of the row of the trial before which the rows are.

    Returns:
        The rows; None if there are many, and their steps are texts, or go back as those of a later attempt do. Which of
        them a plot needs is then not known from these rows alone.
    """
    parts = max(_LEAST_PARTS, _MAX_VALUES // (4 * max(1, len(histories))))
    found = {}
    for name, history in histories.items():
        count = int(history.rows.searchsorted(end))
        if count <= 4 * parts:
            found[name] = rows_of_name(history, slice(count))
            continue
        steps = history.steps[:count]
        if steps.dtype.kind not in "if" or np.any(steps[1:] < steps[:-1]):
            return None
        found[name] = _thinned(history, count, parts)
    return found


def _thinned(history: MetricHistory, count: int, parts: int) -> RowsOfName:
    """Return of the first rows those that a plot of some columns needs, where x is the number of the row."""
    values = history.values[:count]
    line = Line(Progression(0, 1, count), values, NO_BLOCKS.extended(values), np.flatnonzero(~np.isfinite(values)))
    points = points_of(line, 0.0, count - 1.0, parts)
    special = points.specials
    rows = rows_of_name(history, np.sort(np.concatenate([points.x, special.x])).astype(np.intp))
    rows["counts"] = {"total": count, "nan": special.nan, "inf": special.inf, "neginf": special.neginf}
    return rows
