"""Checks of metric rows: the slow path of each row that `Outbox.add_row` does not accept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from trialstream_schemas.errors import InvalidValue
from trialstream_schemas.model.aggregators import AggregatorSpec, timeseries_aggregator
from trialstream_schemas.model.scalars import NUMBER, scalar
from trialstream_schemas.model.steps import check_step
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.model.values import MAX_VALUE_BYTES, check_name, number

from trialstream.pipeline.outbox import Outbox
from trialstream.protocol import Step

__all__ = ["RowChecks", "as_floats"]

# Maximum number of tuples of names that are remembered as checked.
_KNOWN_NAMES = 10_000
# A double represents every integer below this one.
_EXACT = 2**53


def as_floats(values: dict[str, Any]) -> dict[str, Any] | None:
    """Convert the numbers of a row to floats, apart from those that may lose digits.

    Args:
        values: Numbers by name.

    Returns:
        The converted row; None if all its numbers are floats already.

    Raises:
        InvalidType: A value is not a number.
        InvalidValue: A number is too large for a double.
    """
    found = {}
    for name, x in values.items():
        if type(x) is not float:
            double = number(x, f"metric {name!r}")
            if not _EXACT <= abs(double) < math.inf:
                found[name] = double
    return values | found if found else None


class RowChecks:
    """Checks rows, and remembers the checked names, so that each tuple of names is checked once.

    Args:
        warn_once: Warns the user of each message once.
    """

    def __init__(self, warn_once: Callable[[str], None]) -> None:
        self._warn_once = warn_once
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
        row = [x if type(x) is float else self._number(name, x) for name, x in values.items()]
        now = time.time_ns()
        owner = trial, aggregator
        return lambda: outbox.add_metrics(uid, plain, now, names, row, spec, owner)

    def _number(self, name: str, x: Any) -> float:
        path = f"metric {name!r}"
        found = number(x, path)
        if not -_EXACT < found < _EXACT:
            self.warn_inexact(path, x, found)
        return found

    def warn_inexact(self, path: str, x: Any, found: object) -> None:
        """Warn the user, once for each field, of an integer that lost digits when it became a double.

        Args:
            path: Name of the field.
            x: The number as the user passed it.
            found: The double.
        """
        exact = x if isinstance(x, (int, float)) else scalar(x, path, NUMBER)
        if isinstance(exact, int) and exact != found:
            self._warn_once(
                f"trialstream: {path}: an integer beyond 2**53 loses digits as a double: log it as a parameter or text"
            )

    def _check_names(self, names: tuple[str, ...]) -> None:
        total = sum(len(check_name(each, "metric").encode()) + 8 for each in names)
        if total > MAX_VALUE_BYTES:
            raise InvalidValue(
                f"metrics: expected at most {MAX_VALUE_BYTES} bytes in one call, got {total} for {len(names)} names"
            )
        if len(self._names) >= _KNOWN_NAMES:
            self._names.clear()
        self._names.add(names)
