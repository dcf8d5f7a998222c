"""Aggregators of a trial's metrics and chronos. Each metric or chrono keeps the first one that the log names for it."""

from __future__ import annotations

from collections.abc import Sequence

from trialstream_schemas.errors import TrialStreamError
from trialstream_schemas.model.aggregators import Aggregator, AggregatorSpec
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.model.values import check_name

from trialstream_consumer.fold.document_size import aggregator_entry, grow
from trialstream_consumer.fold.state import Refused

__all__ = ["aggregators_of", "make"]


def make(spec: AggregatorSpec) -> Aggregator:
    """Make an aggregator.

    Raises:
        Refused: This version has no such aggregator, or its argument is out of range.
    """
    try:
        return spec()
    except (TrialStreamError, ValueError, TypeError) as error:
        raise Refused(str(error)) from None


def aggregators_of(
    trial: Trial, held: dict[str, Aggregator], names: Sequence[str], specs: Sequence[AggregatorSpec], growth: int = 0
) -> list[Aggregator]:
    """Return the aggregators of names, and make the missing ones.

    Args:
        trial: The trial; its size grows.
        held: `metrics` or `chronos` of the trial.
        names: Names of metrics or chronos.
        specs: One specification per name, for names without an aggregator.
        growth: Growth for other reasons, bytes.

    Raises:
        Refused: A name or aggregator is invalid, or the document would be too large; the trial is unchanged.
    """
    if not growth and all([name in held for name in names]):  # the fast path, for nearly all frames
        return [held[name] for name in names]
    made: dict[str, Aggregator] = {}
    copies = 3 if held is trial.chronos else 1  # open_chronos and failed_chronos may have the name as a key too
    for name, spec in zip(names, specs, strict=True):
        if name not in held:
            made[check_name(name, "name")] = each = make(spec)
            growth += aggregator_entry(name, each, copies)
    grow(trial, growth)
    held.update(made)
    return [held[name] for name in names]
