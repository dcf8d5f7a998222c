"""Positional arguments of the methods that take values as keywords: a mapping of values, then parameters.

Python cannot pass a value named `trial`, `step` or `aggregator` as a keyword of a method that has such a parameter. A
mapping behind the trial or group holds values of any names: `log_trial_metrics(trial, {"step": 1}, step=3)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trialstream_schemas.errors import InvalidType, InvalidValue

__all__ = ["MAPPING_ADVICE", "resolve"]

MAPPING_ADVICE = "to log a value of that name, pass it in a dict behind the trial or group"
"""The advice of errors about a keyword that is a parameter and may have been meant as a value."""


def resolve(path: str, args: tuple[Any, ...], values: dict[str, Any], **parameters: Any) -> tuple[Any, ...]:
    """Resolve the positional arguments behind a trial or group.

    Args:
        path: Name of the values, for messages.
        args: The positional arguments: a mapping of values, if it comes first, and parameters in their order.
        values: The values that were passed as keywords.
        **parameters: The parameters in their order, as they were passed as keywords; None for those that were not.

    Returns:
        All values, and the parameters in their order.

    Raises:
        InvalidType: A parameter was passed twice, or an argument is neither a mapping of values nor a parameter.
        InvalidValue: A value was passed twice.
    """
    if args and isinstance(args[0], Mapping):
        for key in values:
            if key in args[0]:
                raise InvalidValue(f"{path}.{key}: expected one value, got one in the mapping and one as a keyword")
        values = {**args[0], **values}
        args = args[1:]
    for name, given in zip(parameters, args, strict=False):
        if parameters[name] is not None:
            raise InvalidType(
                f"{name}: expected one argument, got one by position and one by keyword; {MAPPING_ADVICE}"
            )
        parameters[name] = given
    if len(args) > len(parameters):
        expected = " and ".join(["a mapping of values", *parameters])
        raise InvalidType(
            f"{path}: expected {expected} behind the trial or group, got {type(args[len(parameters)]).__name__}"
        )
    return values, *parameters.values()
