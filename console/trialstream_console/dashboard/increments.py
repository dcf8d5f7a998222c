"""New rows of a trial as a live event has them: all, or of many rows those that a plot needs.

What each of many clients gets several times a second must not grow with the rate of the rows. So of many rows, equal
parts have their first, last, smallest and largest one, and the event has the counts of all: a chart that appends them
shows every spike.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from trialstream.protocol import MetricHistory

from trialstream_console.dashboard.lines import NO_BLOCKS, Line, Progression, points_of
from trialstream_console.dashboard.live_events import RowsOfName, rows_of_name

__all__ = ["rows_of"]

# Rows of an event, counted for each metric, beyond which they are thinned: 160 kB of JSON.
_MAX_VALUES = 4096
# The fewest parts of the rows of a metric, however many metrics an event has.
_LEAST_PARTS = 8


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
