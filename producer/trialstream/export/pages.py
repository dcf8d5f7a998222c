"""The trials of a query and their histories, read piece by piece, so that memory is bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from trialstream_schemas.model.aggregators import TimeSeriesAggregator
from trialstream_schemas.model.trial import Trial

from trialstream.protocol import MetricHistory, Protocol, Query

__all__ = ["histories_of", "trials_of"]

_TRIALS = 100
"""Trials that are in memory at a time: at most 12 MB each, and usually a few kilobytes."""


async def trials_of(protocol: Protocol, query: Query | None) -> AsyncIterator[list[Trial]]:
    """Read the trials that match, sorted by uid.

    Args:
        protocol: The protocol.
        query: As for `fetch_trials`.

    Yields:
        Lists of at most 100 trials.
    """
    after: dict[str, Any] = {}
    while True:
        found = await protocol.fetch_trials({"$and": [query or {}, after]}, sort="uid", limit=_TRIALS)
        if found:
            yield found
        if len(found) < _TRIALS:
            return
        after = {"uid": {"$gt": found[-1].uid}}


async def histories_of(protocol: Protocol, trial: Trial) -> AsyncIterator[tuple[str, MetricHistory]]:
    """Read the histories of a trial, one metric at a time.

    Args:
        protocol: The protocol.
        trial: The trial, as it was fetched.

    Yields:
        Name and history of each metric that is a time series and has rows.
    """
    for name, aggregator in sorted(trial.metrics.items()):
        if isinstance(aggregator, TimeSeriesAggregator):
            found = await protocol.fetch_histories([trial], name)
            for history in found[trial.uid].values():
                yield name, history
