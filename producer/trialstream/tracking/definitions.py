"""Definitions of metrics by users: the metric that is their step, and their aggregator."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Any

from trialstream_schemas.model.aggregators import AggregatorSpec

from trialstream.protocol import Step

__all__ = ["Definition", "Definitions"]

# Tuples of names whose parts are remembered; then they are found anew.
_MAX_REMEMBERED = 1000


@dataclass(frozen=True)
class Definition:
    """The step and the aggregator of the metrics whose names match a pattern.

    Attributes:
        pattern: Pattern of names, as `fnmatch` has it: `val/*`.
        step: Name of the metric of the same row that is their step; None for the step of the row.
        aggregator: Their aggregator; None for the default.
    """

    pattern: str
    step: str | None
    aggregator: AggregatorSpec | None


class Definitions:
    """The definitions of one tracker; the latest one that matches a name counts."""

    def __init__(self) -> None:
        self._all: list[Definition] = []
        self._parts: dict[tuple[str, ...], list[tuple[Definition | None, list[str]]]] = {}

    def add(self, definition: Definition) -> None:
        """Add a definition."""
        self._all.append(definition)
        self._parts = {}

    def split(
        self, row: dict[str, Any], step: Step | None, aggregator: AggregatorSpec | None
    ) -> list[tuple[dict[str, Any], Any, AggregatorSpec | None]]:
        """Split a row into rows whose metrics have the same step and aggregator.

        Args:
            row: Numbers by name.
            step: Step of the row; an explicit step counts for all metrics.
            aggregator: Aggregator of the row; an explicit one counts for all metrics.

        Returns:
            Rows, each with its step and aggregator.
        """
        names = tuple(row)
        remembered = self._parts  # another thread may add a definition meanwhile, and begin another dict
        parts = remembered.get(names)
        if parts is None:
            if len(remembered) >= _MAX_REMEMBERED:
                remembered.clear()
            parts = remembered[names] = self._find(names)
        return [
            (
                {name: row[name] for name in names},
                row.get(found.step) if step is None and found is not None and found.step is not None else step,
                aggregator if aggregator is not None or found is None else found.aggregator,
            )
            for found, names in parts
        ]

    def _find(self, names: tuple[str, ...]) -> list[tuple[Definition | None, list[str]]]:
        parts: dict[tuple[str | None, AggregatorSpec | None], tuple[Definition | None, list[str]]] = {}
        for name in names:
            matching = [each for each in self._all if fnmatch.fnmatchcase(name, each.pattern)]
            found = matching[-1] if matching else None
            key = (found.step, found.aggregator) if found else (None, None)
            parts.setdefault(key, (found, []))[1].append(name)
        return list(parts.values())
