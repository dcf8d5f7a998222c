"""Checks of metric rows: the slow path of each row that `Outbox.add_row` does not accept."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from trialstream_schemas.errors import InvalidValue
from trialstream_schemas.model.aggregators import AggregatorSpec, timeseries_aggregator
from trialstream_schemas.model.steps import check_step
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.model.values import MAX_VALUE_BYTES, check_name, number

from trialstream.pipeline.outbox import Outbox
from trialstream.protocol import Step

__all__ = ["RowChecks"]

# Maximum number of tuples of names that are remembered as checked.
_KNOWN_NAMES = 10_000


class RowChecks:
    """Checks rows, and remembers the checked names, so that each tuple of names is checked once."""

    def __init__(self) -> None:
        self._names: set[tuple[str, ...]] = set()

    def prepare(
        self,
        outbox: Outbox,
        trial: Trial,
        uid: str,
        step: Step | None,
        aggregator: AggregatorSpec | None,
        values: dict[str, Any],
    ) -> Callable[[], None]:
        """Check a row, and return a function that appends the row to the outbox.

        Args:
            outbox: The outbox.
            trial: The trial, as the user passed it.
            uid: Uid of the trial.
            step: The step, as the user passed it.
            aggregator: The aggregator, as the user passed it.
            values: Numbers by name.

        Returns:
            A function that appends the row; it may be called again after it has raised `OutboxFull`.

        Raises:
            InvalidType: The step, the aggregator, a name or a value has a type that cannot be logged.
            InvalidValue: The step, a name or a value cannot be logged as it is.
        """
        plain = check_step(step)
        spec = timeseries_aggregator if aggregator is None else AggregatorSpec.check(aggregator, "aggregator")
        if not values:
            return lambda: None
        names = tuple(values)
        if names not in self._names:
            self._check_names(names)
        row = [x if type(x) is float else number(x, f"metric {name!r}") for name, x in values.items()]
        now = time.time_ns()
        owner = trial, aggregator
        return lambda: outbox.add_metrics(uid, plain, now, names, row, spec, owner)

    def _check_names(self, names: tuple[str, ...]) -> None:
        total = sum(len(check_name(each, "metric").encode()) + 8 for each in names)
        if total > MAX_VALUE_BYTES:
            raise InvalidValue(
                f"metrics: expected at most {MAX_VALUE_BYTES} bytes in one call, got {total} for {len(names)} names"
            )
        if len(self._names) >= _KNOWN_NAMES:
            self._names.clear()
        self._names.add(names)
