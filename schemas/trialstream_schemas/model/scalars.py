"""Scalars of other libraries (numpy, torch, jax …), and the errors about objects that cannot be logged.

All checks of values, metrics and steps convert scalars here. The result is a Python scalar that means the same: times
of numpy are refused, since `item()` returns an integer, None or a `datetime` for them, depending on their unit.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from trialstream_schemas.errors import InvalidType, InvalidValue

if TYPE_CHECKING:
    import numpy as np

__all__ = ["NUMBER", "STEP", "VALUE", "Expected", "scalar", "wrong_type"]


@dataclass(frozen=True)
class Expected:
    """The kind of value that a field takes, for messages.

    Attributes:
        types: Description of the types.
        conversion: The expression, in terms of x, that converts another object; empty if no conversion is common.
    """

    types: str
    conversion: Callable[[object], str]


def scalar(x: Any, path: str, expected: Expected) -> Any:
    """Convert an object with an `item()`, such as a numpy scalar or a tensor of one element, to its scalar.

    Args:
        x: The object.
        path: Name of the field, for the message.
        expected: What the field takes, for the message.

    Returns:
        The result of `item()`, or the double of a `numpy.longdouble`. The caller checks its type.

    Raises:
        InvalidType: The object is a numpy time, has no `item()`, or its `item()` fails or returns its own type.
        InvalidValue: A `numpy.longdouble` is finite and too large for a double.
    """
    import numpy as np  # noqa: PLC0415 (heavy)

    dtype = getattr(x, "dtype", None)
    if isinstance(dtype, np.dtype) and _has_times(dtype):
        raise wrong_type(x, path, expected)
    if isinstance(x, np.longdouble):  # Python has no such type, so `item()` returns the object itself
        return _double(x, path)
    item = getattr(x, "item", None)
    if not callable(item):
        raise wrong_type(x, path, expected)
    try:
        found = item()
    except Exception as error:
        raise wrong_type(x, path, expected, f", whose item() failed: {error}") from error
    if type(found) is type(x):  # converting it again would not end
        raise wrong_type(x, path, expected)
    # The item of an array of objects or of long doubles is a numpy scalar itself.
    return scalar(found, path, expected) if isinstance(found, np.generic) else found


def wrong_type(x: object, path: str, expected: Expected, reason: str = "") -> InvalidType:
    """Make the error about an object that cannot be logged, with the conversion to use if one is common.

    Args:
        x: The object.
        path: Name of the field.
        expected: What the field takes.
        reason: Text behind the name of the object's type.

    Returns:
        The error, for the caller to raise.
    """
    conversion = expected.conversion(x)
    advice = conversion and f": pass {conversion}"
    name = f"{type(x).__module__}.{type(x).__qualname__}"
    return InvalidType(f"{path}: expected {expected.types}, got {name}{reason}{advice}")


def _dtype_of_times(x: object) -> np.dtype[Any] | None:
    """The dtype of a numpy time, or of an array or record that holds such times; None for any other object."""
    import numpy as np  # noqa: PLC0415 (heavy)

    dtype = getattr(x, "dtype", None)
    return dtype if isinstance(dtype, np.dtype) and _has_times(dtype) else None


def _has_times(dtype: np.dtype[Any]) -> bool:
    """Whether a type of numpy is, or has a field that is, a datetime64 or a timedelta64."""
    if dtype.base.kind in "mM":
        return True
    return dtype.fields is not None and any([_has_times(field[0]) for field in dtype.fields.values()])


def _double(x: np.longdouble, path: str) -> float:
    found = float(x)
    if math.isinf(found) and abs(x) != math.inf:
        raise InvalidValue(f"{path}: expected a number that fits a double, got {x}")
    return found


# --- Conversions that messages advise


def _to_value(x: object) -> str:
    if isinstance(x, type):
        return "x.__qualname__"
    import numpy as np  # noqa: PLC0415 (heavy)

    match x:
        case complex() | np.complexfloating():
            return "[x.real, x.imag]"
        case AbstractSet() | Sequence() | ValuesView() | Iterator():
            return "list(x)"
        case argparse.Namespace():
            return "vars(x)"
    if dataclasses.is_dataclass(x):
        return "dataclasses.asdict(x)"
    if _is_array(x):
        return "x.tolist()" if _dtype_of_times(x) is None else "x.astype(str).tolist()"
    return _to_step(x)


def _to_step(x: object) -> str:
    match x:
        case Enum():
            return "x.value or x.name"
        case PurePath():
            return "str(x)"
        case date() | time():  # and datetime
            return "x.isoformat()"
        case Decimal():
            return "float(x) or str(x)"
    found = _to_number(x)
    return f"str(x), or {found}" if found and _dtype_of_times(x) is not None else found


def _to_number(x: object) -> str:
    import numpy as np  # noqa: PLC0415 (heavy)

    match x:
        case type() | complex() | np.complexfloating():
            return ""
        case Enum():
            return "x.value"
        case datetime():
            return "x.timestamp()"
        case timedelta():
            return "x.total_seconds()"
    if (dtype := _dtype_of_times(x)) is not None:
        # The seconds since 1970, or the seconds of a duration; a record with times has no number.
        return {
            "M": "x.astype('datetime64[us]').astype(int) / 1e6",
            "m": "x / numpy.timedelta64(1, 's')",
        }.get(dtype.kind, "")
    if _is_array(x):
        return "a number, such as x.mean()"
    return "float(x)" if hasattr(type(x), "__float__") else ""


def _is_array(x: object) -> bool:
    """Whether an object is an array (numpy, torch, pandas …) whose number of elements is not one."""
    return callable(getattr(x, "tolist", None)) and getattr(x, "size", 0) != 1


VALUE = Expected("None, a bool, a number, text, bytes, a list or a dict", _to_value)
NUMBER = Expected("a number", _to_number)
STEP = Expected("an int, a float, a str or None", _to_step)
