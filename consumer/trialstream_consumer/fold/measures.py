"""Measures of frames: what the fold computes from the columns of a frame alone, here for many frames at once.

numpy works on the columns of all frames in few calls. The measures of a frame have the same bits whatever frames are
measured with it, so the fold does not depend on how the log was cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from trialstream_schemas.model.aggregators import Moments, TimeSeriesAggregator, moments_of_columns
from trialstream_schemas.model.columns import is_long, shifted_together
from trialstream_schemas.wire.events import MetricsLogged

__all__ = ["Measures", "measures_of"]

# Times that numpy works on at once, so that they fit the processor's cache.
_TABLE = 8192
_SERIES = TimeSeriesAggregator.lazy()


class Measures(NamedTuple):
    """Measures of a frame.

    Attributes:
        earliest: The earliest of the frame's `times`.
        latest: The latest of the frame's `times`.
        times: Time of each row, microseconds since 1970 UTC; undefined if one of them does not fit 64 bits.
        moments: Moments of each column; None for a column with a number that is not finite.
    """

    earliest: int
    latest: int
    times: Sequence[int]
    moments: list[Moments | None]


def measures_of(events: Iterable[object]) -> dict[int, Measures]:
    """Measure the frames among events that are long enough for numpy.

    Args:
        events: Events among other objects, which are ignored.

    Returns:
        The measures by `id` of the event. Short frames, and frames that are inconsistent or not of time series, have
        none.
    """
    by_rows: dict[int, list[MetricsLogged]] = {}
    for event in events:
        if type(event) is MetricsLogged and _is_measured(event):
            by_rows.setdefault(len(event.times), []).append(event)
    found: dict[int, Measures] = {}
    for rows, frames in by_rows.items():
        height = max(1, _TABLE // rows)
        for at in range(0, len(frames), height):
            found.update(_measured(frames[at : at + height]))
    return found


def _is_measured(frame: MetricsLogged) -> bool:
    rows = len(frame.times)
    return (
        is_long(frame.times)
        and frame.aggregator == _SERIES
        and -(2**63) <= frame.time < 2**63
        and bool(frame.columns)
        and all([len(column) == rows for column in frame.columns])
    )


def _measured(frames: Sequence[MetricsLogged]) -> Iterator[tuple[int, Measures]]:
    """Measure frames with the same number of rows."""
    times = shifted_together([each.times for each in frames], [each.time for each in frames])  # type: ignore[misc]
    moments = iter(moments_of_columns([column for each in frames for column in each.columns]))
    for each, of_times in zip(frames, times, strict=True):
        yield id(each), Measures(*of_times, list(islice(moments, len(each.columns))))
