"""Aggregators: what is kept of a stream of observations."""

from __future__ import annotations

from trialstream_schemas.model.aggregators.stat import (
    MAX_KEPT,
    Aggregator,
    AggregatorSpec,
    RingAggregator,
    StatAggregator,
    TimeSeriesAggregator,
    ValueAggregator,
    is_aggregator_document,
    timeseries_aggregator,
    value_aggregator,
)

__all__ = [
    "MAX_KEPT",
    "Aggregator",
    "AggregatorSpec",
    "RingAggregator",
    "StatAggregator",
    "TimeSeriesAggregator",
    "ValueAggregator",
    "is_aggregator_document",
    "timeseries_aggregator",
    "value_aggregator",
]
