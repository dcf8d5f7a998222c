"""Chronos: announced starts, and frames of finished chronos."""

from __future__ import annotations

from trialstream_schemas.model.times import check_micros
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.wire.events import ChronosFinished, ChronoStarted

from trialstream_consumer.fold.aggregators import aggregators_of
from trialstream_consumer.fold.history import add_rows, shapes_of
from trialstream_consumer.fold.state import Refused, State

__all__ = ["apply_chrono_start", "apply_chronos"]


def apply_chrono_start(trial: Trial, event: ChronoStarted) -> None:
    """Count a chrono as open.

    Raises:
        Refused: The aggregator is invalid, or the document would be too large; the trial is unchanged.
        InvalidValue: The name is invalid; the trial is unchanged.
    """
    aggregators_of(trial, trial.chronos, [event.name], [event.aggregator])
    trial.open_chronos[event.name] = trial.open_chronos.get(event.name, 0) + 1


def apply_chronos(state: State, trial: Trial, event: ChronosFinished) -> int:
    """Apply a frame of finished chronos.

    Returns:
        The latest of the frame's `times`, microseconds after the event's time.

    Raises:
        Refused: The frame is inconsistent, or the document would be too large; the trial is unchanged.
        InvalidValue: A name or a time is invalid; the trial is unchanged.
    """
    _check(event)
    names = event.names
    latest = max(event.times)
    check_micros(event.time + min(event.times))
    check_micros(event.time + latest)
    aggregators = aggregators_of(trial, trial.chronos, names, event.aggregators)
    shapes = {shape.names[0]: shape for shape in shapes_of(event)}
    rows_of: list[list[int]] = [[] for _ in names]
    for row, i in enumerate(event.chronos):
        rows_of[i].append(row)
    for i, name in enumerate(names):
        elapsed = [event.elapsed[row] for row in rows_of[i]]
        aggregators[i].extend(elapsed)
        if name in shapes:
            times = [event.time + event.times[row] for row in rows_of[i]]
            add_rows(state, trial, shapes[name], event.writer, (), times, [elapsed])
        still_open = trial.open_chronos.get(name, 0) - event.announced[i]
        if still_open > 0:
            trial.open_chronos[name] = still_open
        else:
            trial.open_chronos.pop(name, None)
        if event.failed[i] > 0:
            trial.failed_chronos[name] = trial.failed_chronos.get(name, 0) + event.failed[i]
    return latest


def _check(event: ChronosFinished) -> None:
    """Check that the columns of a frame have matching lengths, and indices and counts in range."""
    rows, names = len(event.chronos), len(event.names)
    of_rows = [rows, len(event.times), len(event.elapsed)]
    if not rows or of_rows != [rows] * 3:
        raise Refused(f"chronos, times, elapsed: expected equal lengths of at least 1, got {of_rows}")
    of_names = [names, len(event.aggregators), len(event.announced), len(event.failed)]
    if of_names != [len(set(event.names))] * 4:
        raise Refused(
            f"names, aggregators, announced, failed: expected distinct names and equal lengths, got {of_names}"
        )
    if not all(0 <= i < names for i in event.chronos):
        raise Refused(f"chronos: expected positions of {names} names, got one outside")
    if not all(0 <= n <= rows for n in (*event.announced, *event.failed)):
        raise Refused(f"announced, failed: expected counts from 0 to the {rows} rows of the frame, got one outside")
