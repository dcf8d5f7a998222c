"""Metadata of a trial: plain values are replaced, aggregators accumulate."""

from __future__ import annotations

from typing import Any

from trialstream_schemas.model.aggregators import Aggregator, RingAggregator, ValueAggregator
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.model.values import values
from trialstream_schemas.wire.events import MetadataLogged

from trialstream_consumer.fold.aggregators import make
from trialstream_consumer.fold.document_size import merge, ring_growth
from trialstream_consumer.fold.history import add_rows, shapes_of
from trialstream_consumer.fold.state import Refused, State

__all__ = ["apply_metadata"]


def apply_metadata(state: State, trial: Trial, event: MetadataLogged) -> None:
    """Apply values of metadata. A key that has an aggregator keeps it, and the aggregator takes the value.

    Raises:
        Refused: An aggregator is invalid or cannot take the value, or the document would be too large; the trial is
            unchanged.
        InvalidType: A value is invalid; the trial is unchanged.
        InvalidValue: A key or value is invalid; the trial is unchanged.
    """
    given = values(event.values, "metadata")
    made = {key: make(event.aggregator) for key in given}
    merged: dict[str, Any] = {}
    accumulated: list[tuple[Aggregator, Any]] = []
    growth = 0
    for key, x in given.items():
        held = trial.metadata.get(key)
        if not isinstance(held, Aggregator):
            if isinstance(made[key], ValueAggregator):
                merged[key] = x
                continue
            held = merged[key] = made[key]
        if held.numeric and not isinstance(x, (int, float)):
            raise Refused(f"metadata.{key}: expected a number for {type(held).__name__}, got {type(x).__name__}")
        accumulated.append((held, x))
        if isinstance(held, RingAggregator):
            growth += ring_growth(held, x)
    merge(trial, trial.metadata, merged, growth)
    for aggregator, x in accumulated:
        aggregator.extend([float(x)] if aggregator.numeric else [x])
    for shape in shapes_of(event):
        x = given[shape.names[0]]
        if isinstance(x, (int, float)):
            add_rows(state, trial, shape, event.writer, (), [event.time], [[float(x)]])
