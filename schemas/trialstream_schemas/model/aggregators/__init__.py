"""Aggregators: each keeps a summary of bounded size of a stream of observations.

| class | kind | summary |
|---|---|---|
| `ValueAggregator` | `value` | the last observation |
| `StatAggregator` | `stat` | count, mean, deviation, minimum, maximum, sum; first `skip_obs` apart; last observation |
| `RingAggregator` | `ring` | the last n observations |
| `TimeSeriesAggregator` | `timeseries` | the statistics, and the last observation with its step; the history has all |
| `BestAggregator` | `best` | the same, and the best observation with its step |

`StatAggregator.lazy(1)` returns an `AggregatorSpec`, which log calls take and events carry. An aggregator has a form
for documents (`to_document`) and a form in strict JSON (`to_json`), and its state is restored exactly from both.
"""

from __future__ import annotations

from trialstream_schemas.model.aggregators.base import MAX_KEPT, Aggregator, AggregatorSpec, is_aggregator_document
from trialstream_schemas.model.aggregators.best import BestAggregator
from trialstream_schemas.model.aggregators.moments import Moments, moments_of_columns
from trialstream_schemas.model.aggregators.ring import RingAggregator
from trialstream_schemas.model.aggregators.stat import StatAggregator
from trialstream_schemas.model.aggregators.timeseries import (
    TimeSeriesAggregator,
    extend_columns,
    timeseries_aggregator,
)
from trialstream_schemas.model.aggregators.value import ValueAggregator, value_aggregator

__all__ = [
    "MAX_KEPT",
    "Aggregator",
    "AggregatorSpec",
    "BestAggregator",
    "Moments",
    "RingAggregator",
    "StatAggregator",
    "TimeSeriesAggregator",
    "ValueAggregator",
    "extend_columns",
    "is_aggregator_document",
    "moments_of_columns",
    "timeseries_aggregator",
    "value_aggregator",
]
