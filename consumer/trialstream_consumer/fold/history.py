"""History of a trial: the shapes of the rows that an event adds, and their addition to the open bucket.

Only observations for which the event names a time series aggregator are kept as rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trialstream_schemas.model.aggregators import TimeSeriesAggregator
from trialstream_schemas.model.caches import ByteCache, texts_bytes
from trialstream_schemas.model.history import Bucket, Rows, Shape
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.wire.events import ChronosFinished, MetadataLogged, MetricsLogged, TrialEvent, TrialUpdated

from trialstream_consumer.fold.state import State

__all__ = ["TIMESERIES", "add_rows", "metrics_shape", "shapes_of"]

TIMESERIES = TimeSeriesAggregator.lazy()
# The aggregators whose observations are rows.
_SERIES = (TIMESERIES, TimeSeriesAggregator.lazy("max"), TimeSeriesAggregator.lazy("min"))

# A shape caches its uid and capacity; computing them again takes longer than folding a frame of one row.
_shapes: ByteCache[tuple[str, tuple[str, ...], str], Shape] = ByteCache(16 * 1024 * 1024)


def _shape(section: str, names: tuple[str, ...], steps: str) -> Shape:
    key = section, names, steps
    known = _shapes.get(key)
    if known is None:
        known = Shape(*key)
        _shapes.keep(key, known, texts_bytes(names))
    return known


def shapes_of(event: TrialEvent) -> list[Shape]:
    """Shapes of the rows that an event adds to the history."""
    match event:
        case MetricsLogged() if event.aggregator in _SERIES:
            kind = "int" if event.steps else "float" if event.float_steps else "text" if event.text_steps else "none"
            return [_shape("metrics", tuple(event.names), kind)]
        case ChronosFinished():
            pairs = zip(event.names, event.aggregators, strict=False)
            return [_shape("chronos", (name,), "none") for name, spec in pairs if spec in _SERIES]
        case MetadataLogged() if event.aggregator in _SERIES:
            return [_shape("metadata", (key,), "none") for key in event.values]
        case TrialUpdated():
            return [shape for each in event.updates for shape in shapes_of(each)]
    return []


def metrics_shape(names: tuple[str, ...], steps: Sequence[int]) -> Shape:
    """Shape of the rows of metrics with int steps or none."""
    return _shape("metrics", names, "int" if steps else "none")


def add_rows(
    state: State,
    trial: Trial,
    shape: Shape,
    writer: str,
    steps: Sequence[Any],
    times: Sequence[int],
    columns: Sequence[Sequence[float]],
) -> None:
    """Add rows of one shape and writer to the history of a trial.

    Args:
        state: The state. The open bucket, and each bucket that the rows fill, are added to its changes.
        trial: The trial; its row count grows.
        shape: Shape of the rows.
        writer: Id of the writer.
        steps: One step per row; empty if the rows have no steps.
        times: One time per row, microseconds since 1970 UTC.
        columns: One column per name of the shape, one value per row in each.
    """
    key = trial.uid, shape
    bucket = state.buckets.get(key)
    if bucket is None:
        bucket = state.buckets[key] = Bucket(*key)
    filled = bucket.append(Rows(shape, trial.rows, writer, steps, times, columns))
    trial.rows += len(times)
    if filled:
        state.changes.filled += filled
    state.changes.buckets.add(key)
