"""Frames of metrics: one frame folded by itself, and frames of one row folded together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trialstream_schemas.errors import TrialStreamError
from trialstream_schemas.model.aggregators import Aggregator, BestAggregator, TimeSeriesAggregator, extend_columns
from trialstream_schemas.model.attempts import superseding_step
from trialstream_schemas.model.caches import ByteCache, texts_bytes
from trialstream_schemas.model.columns import extremes, shifted
from trialstream_schemas.model.times import check_micros
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.model.values import check_name
from trialstream_schemas.wire.events import MetricsLogged
from trialstream_schemas.wire.rows import RowRun

from trialstream_consumer.fold.aggregators import aggregators_of
from trialstream_consumer.fold.document_size import last_step_growth
from trialstream_consumer.fold.history import TIMESERIES, add_rows, metrics_shape, shapes_of
from trialstream_consumer.fold.state import Refused, State, update_last_seen

__all__ = ["apply_metrics", "fold_rows"]


def apply_metrics(state: State, trial: Trial, event: MetricsLogged) -> int:
    """Apply a frame of metrics.

    Returns:
        The latest of the frame's `times`, microseconds after the event's time.

    Raises:
        Refused: The frame is inconsistent, or the document would be too large; the trial is unchanged.
        InvalidValue: A name, a step or a time is invalid; the trial is unchanged.
    """
    times, names, columns = event.times, event.names, event.columns
    rows = len(times)
    steps = event.steps or event.float_steps or event.text_steps
    if not rows or not names:
        raise Refused(f"frame: expected at least one row and one name, got {rows} rows and {len(names)} names")
    if len(columns) != len(names) or any([len(column) != rows for column in columns]):
        raise Refused(f"columns: expected {len(names)} of length {rows}, got {_lengths(columns)}")
    if not _are_distinct(tuple(names)):
        raise Refused("names: expected distinct names of metrics, got a name twice")
    if len(steps) not in (0, rows) or bool(event.steps) + bool(event.float_steps) + bool(event.text_steps) > 1:
        counts = len(event.steps), len(event.float_steps), len(event.text_steps)
        raise Refused(f"steps: expected none, or one per row ({rows}) of one type, got {counts} of int, float and text")
    for step in event.text_steps:
        check_name(step, "step")
    measures = state.measures.pop(id(event), None)
    earliest, latest = extremes(times) if measures is None else (measures.earliest, measures.latest)
    check_micros(event.time + earliest)
    check_micros(event.time + latest)
    last_step = steps[-1] if steps else None
    growth = last_step_growth(trial, event, last_step)
    aggregators = aggregators_of(trial, trial.metrics, names, [event.aggregator] * len(names), growth)
    if BestAggregator in map(type, aggregators):
        _extend_with_best(trial, event.writer, aggregators, columns, steps)
    else:
        extend_columns(aggregators, columns, last_step, measures and measures.moments)
    for shape in shapes_of(event):
        since_1970 = shifted(times, event.time) if measures is None else measures.times
        add_rows(state, trial, shape, event.writer, steps, since_1970, columns)
    return latest


def _extend_with_best(
    trial: Trial,
    writer: str,
    aggregators: Sequence[Aggregator],
    columns: Sequence[Sequence[float]],
    steps: Sequence[Any],
) -> None:
    """Extend each aggregator by its column; one that keeps its best observation takes the step of each row."""
    attempt = trial.attempt_of(writer)
    bound = superseding_step(trial.attempts, attempt)
    last_step = steps[-1] if steps else None
    for aggregator, column in zip(aggregators, columns, strict=True):
        if isinstance(aggregator, BestAggregator):
            aggregator.extend_rows(column, steps, attempt, bound)
        else:
            aggregator.extend(column, last_step)


def _lengths(columns: Sequence[Sequence[float]]) -> str:
    lengths = [len(column) for column in columns] or [0]
    return f"{len(columns)} of lengths {min(lengths)} to {max(lengths)}"


def fold_rows(state: State, rows: RowRun) -> bool:
    """Fold frames of one row at once if they are regular, as nearly all are.

    Frames are regular if the trial and the writer are known, the `seq` of the writer continues without a gap, all names
    are known time series with a number in each frame, and all times are between the years 1 and 9999. The resulting
    state is the same, to the bit, as if each frame were folded by itself.

    Args:
        state: The state.
        rows: The frames, which follow one another in the trial.

    Returns:
        Whether the frames were folded. If not, the state is unchanged: fold each frame by itself.
    """
    trial, names = state.trials.get(rows.trial), rows.names
    mark = trial.writers.get(rows.writer) if trial else None
    if trial is None or mark is None or rows.seq != mark + 1 or rows.aggregator != TIMESERIES:
        return False
    held = [trial.metrics.get(name) for name in names]
    series = [each for each in held if type(each) is TimeSeriesAggregator and type(each.last_step) is not str]
    if not names or len(series) != len(names) or not _are_distinct(names):
        return False
    earliest, latest = extremes(rows.times)
    try:
        check_micros(earliest)
        check_micros(latest)
    except TrialStreamError:
        return False
    step = rows.steps[-1] if rows.steps else None
    for aggregator, column in zip(series, rows.columns, strict=True):
        aggregator.extend_each(column, step)
    add_rows(state, trial, metrics_shape(names, rows.steps), rows.writer, rows.steps, rows.times, rows.columns)
    trial.writers[rows.writer] = mark + len(rows)
    state.changes.trials.add(rows.trial)
    update_last_seen(trial, rows.writer, latest)
    return True


_distinct: ByteCache[tuple[str, ...], bool] = ByteCache(16 * 1024 * 1024)


def _are_distinct(names: tuple[str, ...]) -> bool:
    known = _distinct.get(names)
    if known is None:
        known = len(set(names)) == len(names)
        _distinct.keep(names, known, texts_bytes(names))
    return known
