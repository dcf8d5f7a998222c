"""Arguments of log calls that take values by name: keywords, and a mapping for names that cannot be keywords.

Python cannot pass a value named `trial`, `step` or `aggregator` as a keyword of a method that has such a parameter. A
mapping behind the trial or the group holds values of any names: `log_trial_metrics(trial, {"step": 1}, step=3)`. Other
positional arguments mean what they mean without a mapping: `log_trial_metrics(trial, 3, loss=1)` passes the step.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.model.aggregators import AggregatorSpec

__all__ = [
    "MAPPING_ADVICE",
    "PLAIN_STEPS",
    "arguments_of",
    "checked_aggregator",
    "row_arguments",
    "shows_keywords",
    "takes_mapping",
    "without_mapping",
]

F = TypeVar("F", bound=Callable[..., Any])

MAPPING_ADVICE = "pass a value of that name in a dict behind the trial or group"
"""The advice of errors about a value whose name is that of a parameter."""

PLAIN_STEPS = frozenset({int, float, str})
"""Types of a positional argument of `log_trial_metrics` that is a step for sure."""


def arguments_of(
    method: str, path: str, args: tuple[Any, ...], values: dict[str, Any], **parameters: tuple[Any, Any]
) -> tuple[Any, ...]:
    """Sort the arguments of a call behind its trial or group.

    Args:
        method: Name of the method, for messages.
        path: Name of the values, for messages.
        args: Positional arguments: at most one mapping, which is the first, and parameters of the method.
        values: Values that were passed as keywords.
        **parameters: For each parameter, what was passed as a keyword, and its default.

    Returns:
        The parameters in their order, and the values as a dict.

    Raises:
        InvalidType: There are too many positional arguments, a value that is no mapping, or a parameter twice.
        InvalidValue: A value is in the mapping and a keyword too.
    """
    if args and isinstance(args[0], Mapping):
        values = _merged(args[0], values, path)
        args = args[1:]
    elif args and not parameters:
        raise InvalidType(f"{path}: expected a dict, got {type(args[0]).__name__}")
    if len(args) > len(parameters):
        raise InvalidType(f"{method}: got {len(args) - len(parameters)} positional arguments too many")
    for name, (given, default) in list(parameters.items())[: len(args)]:
        if given is not default:
            raise InvalidType(f"{method}: got multiple values for argument {name!r}: {MAPPING_ADVICE}")
    return (*args, *(given for given, _ in list(parameters.values())[len(args) :]), values)


def _merged(mapping: Mapping[Any, Any], keywords: dict[str, Any], path: str) -> dict[str, Any]:
    for key in keywords:
        if key in mapping:
            raise InvalidValue(f"{path}.{key}: expected one value, got one in the dict and one as a keyword")
    return {**mapping, **keywords}


def row_arguments(
    args: tuple[Any, ...], step: Any, aggregator: AggregatorSpec | None, values: dict[str, Any]
) -> tuple[Any, AggregatorSpec | None, dict[str, Any]]:
    """Sort the arguments of a call of `log_trial_metrics` behind its trial, if there are positional ones.

    Args:
        args: Positional arguments.
        step: The keyword `step`, or None.
        aggregator: The keyword `aggregator`, or None.
        values: Values that were passed as keywords.

    Returns:
        The step, the aggregator and the values.

    Raises:
        InvalidType: As for `arguments_of`.
        InvalidValue: As for `arguments_of`.
    """
    step, aggregator, values = arguments_of(
        "log_trial_metrics", "metrics", args, values, step=(step, None), aggregator=(aggregator, None)
    )
    return step, aggregator, values


def without_mapping(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The positional arguments behind a trial or group, without a mapping at their beginning."""
    return args[1:] if args and isinstance(args[0], Mapping) else args


def checked_aggregator(given: object, default: AggregatorSpec) -> AggregatorSpec:
    """Check the aggregator of a call that takes values by name.

    Args:
        given: The argument.
        default: The default.

    Returns:
        The argument; the default for None.

    Raises:
        InvalidType: The argument is not an `AggregatorSpec`.
    """
    if given is None:
        return default
    try:
        return AggregatorSpec.check(given, "aggregator")
    except InvalidType as error:
        raise InvalidType(f"{error}: {MAPPING_ADVICE}") from None


def shows_keywords(method: F) -> F:
    """Let a method with `*args` show the signature that its callers rely on: all parameters by position or by keyword.

    `inspect.signature` and `help` show it. The mapping that `*args` takes too is described by the method's docstring.
    """
    signature = inspect.signature(method)
    parameters = [
        each.replace(kind=each.POSITIONAL_OR_KEYWORD) if each.kind is each.KEYWORD_ONLY else each
        for each in signature.parameters.values()
        if each.kind is not each.VAR_POSITIONAL
    ]
    method.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return method


def takes_mapping(method: F) -> F:
    """Let the error about a keyword that is a parameter of the method advise the mapping, and show the keywords.

    The method is called from a function of its own, so it is for calls that are not frequent.
    """

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except TypeError as error:
            if (advised := _advised(error)) is None:
                raise
            raise advised from None

    @functools.wraps(method)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        try:
            return await method(*args, **kwargs)
        except TypeError as error:
            if (advised := _advised(error)) is None:
                raise
            raise advised from None

    return shows_keywords(cast("F", call_async if inspect.iscoroutinefunction(method) else call))


def _advised(error: TypeError) -> TypeError | None:
    """The error of a keyword that is a parameter, with the advice; None for an error of the method itself."""
    raised_by_call = error.__traceback__ is not None and error.__traceback__.tb_next is None
    return TypeError(f"{error}: {MAPPING_ADVICE}") if raised_by_call and "multiple values" in str(error) else None
