"""The check of `step`, the argument that log calls of metrics take."""

from __future__ import annotations

import math
from typing import Any

from trialstream_schemas.errors import InvalidValue
from trialstream_schemas.model.scalars import STEP, scalar, wrong_type
from trialstream_schemas.model.values import INT64_MAX, INT64_MIN, check_name

__all__ = ["check_step"]


def check_step(step: Any, path: str = "step") -> int | float | str | None:
    """Check a step.

    Args:
        step: An int of 64 bits, a finite float, a text or None; or a scalar with an `item()` that returns one of these.
        path: Name of the parameter, for messages.

    Returns:
        The step as a plain int, float, str or None.

    Raises:
        InvalidType: The step has another type, is a time of numpy, or `item()` fails.
        InvalidValue: The integer does not fit 64 bits, the float is NaN or infinite, or the text is no valid name.
    """
    if step is None or (type(step) is int and INT64_MIN <= step <= INT64_MAX):
        return step
    if not isinstance(step, (int, float, str)):
        step = scalar(step, path, STEP)
    if isinstance(step, str):
        return check_name(step, path)
    if isinstance(step, bool) or not isinstance(step, (int, float)):
        raise wrong_type(step, path, STEP)
    if isinstance(step, int):
        if not INT64_MIN <= step <= INT64_MAX:
            raise InvalidValue(f"{path}: expected an integer of 64 bits, got one of {step.bit_length()} bits")
        return int(step)
    if not math.isfinite(step):
        raise InvalidValue(f"{path}: expected a finite number, got {step}")
    return float(step)
