"""Rows of the tracker: nested dicts of anything like a number become flat rows of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

from trialstream_schemas.errors import TrialStreamError
from trialstream_schemas.model.values import number

from trialstream.protocol import Step
from trialstream.tracking.faults import Faults
from trialstream.tracking.values import plain_name, plain_value

__all__ = ["flat_row", "numbers_of", "step_of"]

# Levels of nested dicts, and names of a row after which a further dict is no number.
_MAX_LEVELS = 64
_MAX_NAMES = 100_000


def flat_row(values: object, faults: Faults) -> dict[str, Any]:
    """Convert what a user logs as metrics to a row of one level.

    Nested dicts become names such as `a/b`. Decimal and Fraction become doubles, a timedelta its seconds, an Enum its
    value. None is left out.

    Args:
        values: A mapping of numbers, or of such mappings.
        faults: Takes the error if the argument is no mapping.

    Returns:
        Values by name.
    """
    row: dict[str, Any] = {}
    if isinstance(values, Mapping):
        _flatten(values, "", row, 0)
    elif values is not None:
        faults.report("log", TypeError(f"expected a dict of numbers, got {type(values).__name__}"))
    return row


def _flatten(values: Mapping[Any, Any], prefix: str, row: dict[str, Any], level: int) -> None:
    for key, given in values.items():
        name = prefix + (key if type(key) is str else plain_name(key))
        x = given
        if isinstance(x, Mapping) and level < _MAX_LEVELS and len(row) < _MAX_NAMES:  # a dict that contains itself ends
            _flatten(x, f"{name}/", row, level + 1)
            continue
        match x:
            case None:
                continue
            case Enum():
                x = x.value
            case Decimal() | Fraction():
                x = float(x)
            case timedelta():
                x = x.total_seconds()
        row[plain_name(name)] = x


def numbers_of(row: dict[str, Any], faults: Faults) -> dict[str, float]:
    """Convert the values of a row to numbers, and leave out those that are none, which are counted.

    Args:
        row: Values by name.
        faults: Counts the values that are no numbers.

    Returns:
        Numbers by name.
    """
    found: dict[str, float] = {}
    for name, x in row.items():
        try:
            found[name] = number(x, f"metric {name!r}")
        except TrialStreamError as error:
            faults.report("log", error)
    return found


def step_of(step: object, faults: Faults) -> Step | None:
    """Convert a step to one that can be logged.

    Args:
        step: The step, of any type.
        faults: Counts a step that has no form.

    Returns:
        An int, a float or a text; None if the step has none of these forms.
    """
    plain = plain_value(step, "step", faults.lost)
    return plain if isinstance(plain, (int, float, str)) and plain == plain else None  # noqa: PLR0124 (NaN)
