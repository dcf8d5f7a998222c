"""Conversion of what users have at hand into values that can be logged: the Protocol is strict, the tracker is not.

| given | becomes |
|---|---|
| None, bool, float, str, bytes, int of 64 bits | itself; a larger int its digits; a lone surrogate an escape |
| Enum | its value if that is a bool, a number or a text, otherwise its name |
| Path | its path |
| datetime, date, time | ISO 8601 |
| timedelta | its seconds |
| Decimal, Fraction | the double if it is the same number, otherwise its text |
| UUID, torch.dtype, torch.device, numpy.dtype | its text |
| complex | [real, imaginary] |
| class, function, module | its qualified name; `functools.partial` the name of its function |
| Mapping | a dict; keys that are not texts become their text, as 1 becomes "1" |
| dataclass, attrs, pydantic, namedtuple, Namespace, omegaconf | a dict of its fields, or a list |
| list, tuple; range and other sequences of up to 1,000 items | a list |
| set, frozenset | a list, sorted by type and value |
| numpy and torch scalars, 0-d arrays, arrays of up to 1,000 items | the number, or a list |
| all else | its `repr` without memory addresses, at most 1,000 characters |

Values are part of a trial's identity when they are parameters, so that equal objects must have equal forms in every
process: this is why sets are sorted and addresses removed.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import Any
from uuid import UUID

from trialstream_schemas.errors import TrialStreamError
from trialstream_schemas.model.values import INT64_MAX, INT64_MIN, MAX_DEPTH, MAX_NAME_BYTES, Value, value

__all__ = ["Lost", "plain_name", "plain_value", "plain_values"]

Lost = Callable[[str, object], object]
"""Called with the path and the object where a value has no form, or is too large, and its `repr` is taken instead."""

# Longest `repr` that stands for an object, characters.
_MAX_REPR = 1000
# Arrays with more items, and sequences that are not lists, are shown by their `repr`, which has the shape or range.
_MAX_ITEMS = 1000
# Classes whose text is their name: those of numpy and torch.
_NAMED = frozenset({"dtype", "device"})
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# Levels of a value that are converted; the rest is shown by its `repr`. The Protocol takes a few levels more.
_MAX_LEVELS = MAX_DEPTH - 1


def plain_values(given: object, path: str, lost: Lost) -> dict[str, Value]:
    """Convert a mapping, or an object with fields, to a dict of values that can be logged.

    Args:
        given: A mapping, dataclass, Namespace, configuration of omegaconf and so on; None for no values.
        path: Name of the parameter, for warnings.
        lost: See `Lost`.

    Returns:
        Values by name; one entry `{"value": …}` if the object has no fields.
    """
    found = plain_value({} if given is None else given, path, lost)
    return found if isinstance(found, dict) else {"value": found}


def plain_value(x: object, path: str, lost: Lost) -> Value:
    """Convert an object to a value that can be logged, by the table above; nothing raises an error.

    Args:
        x: The object.
        path: Name of the field, for warnings.
        lost: See `Lost`.

    Returns:
        The value.
    """
    found = _plain(x, path, lost, 0)
    try:
        return value(found, path)
    except TrialStreamError:  # too large as a whole
        return _text_of(x, path, lost)


def plain_name(key: object) -> str:
    """Convert a key to a name that can be logged.

    Args:
        key: The key of a mapping.

    Returns:
        The text of the key, of at most `MAX_NAME_BYTES`.
    """
    text = key if isinstance(key, str) else _name_of(key)
    if len(text) * 4 > MAX_NAME_BYTES or not text.isascii() or "\0" in text:
        text = text.replace("\0", "\\0").encode(errors="backslashreplace")[:MAX_NAME_BYTES].decode(errors="ignore")
    return str.__str__(text)


def _name_of(key: object) -> str:
    if isinstance(key, type) or callable(key):
        return _qualified(key)
    plain = _plain(key, "key", lambda *_: None, 0)
    return plain if isinstance(plain, str) else str(plain)


def _plain(x: Any, path: str, lost: Lost, level: int) -> Value:
    """Convert an object; the levels of what it contains are counted."""
    try:
        return _converted(x, path, lost, level)
    except Exception:  # noqa: BLE001 (fields and properties of users' objects may raise anything)
        return _text_of(x, path, lost)


def _converted(x: Any, path: str, lost: Lost, level: int) -> Value:
    if x is None or isinstance(x, bool):
        return x
    if level > _MAX_LEVELS:
        return _text_of(x, path, lost)
    match x:
        case Enum():
            return _plain(x.value, path, lost, level) if isinstance(x.value, (bool, int, float, str)) else x.name
        case int():
            return int(x) if INT64_MIN <= x <= INT64_MAX else str(int(x))
        case float():
            return float(x)
        case str():
            return str.__str__(x).encode(errors="backslashreplace").decode()
        case bytes() | bytearray() | memoryview():
            return bytes(x)
        case PurePath() | UUID():
            return _plain(str(x), path, lost, level)
        case datetime() | date() | time():
            return x.isoformat()
        case timedelta():
            return x.total_seconds()
        case Decimal() | Fraction():
            return float(x) if float(x) == x else str(x)
        case complex():
            return [x.real, x.imag]
        case type() | types.FunctionType() | types.BuiltinFunctionType() | types.MethodType() | types.ModuleType():
            return _qualified(x)
        case functools.partial():
            return _plain(x.func, path, lost, level)
    if isinstance(x, Mapping):
        return _entries(x.items(), path, lost, level)
    if (fields := _fields(x)) is not None:
        return _converted(fields, path, lost, level)
    if isinstance(x, AbstractSet):
        items = [_plain(each, path, lost, level + 1) for each in x]
        return sorted(items, key=_order)
    if isinstance(x, Sequence):
        # Items of other sequences are computed or loaded one by one.
        if not isinstance(x, (list, tuple)) and len(x) > _MAX_ITEMS:
            return _text_of(x, path, lost)
        return [_plain(each, f"{path}.{i}", lost, level + 1) for i, each in enumerate(x)]
    return _array(x, path, lost, level)


def _entries(items: Iterable[tuple[object, object]], path: str, lost: Lost, level: int) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for key, x in items:
        name = plain_name(key)
        found[name] = _plain(x, f"{path}.{name}", lost, level + 1)
    return found


def _order(x: Value) -> tuple[str, float, str]:
    """Sort key of the items of a set, which is the same in every process."""
    return type(x).__name__, x if isinstance(x, (int, float)) else 0, repr(x)


def _fields(x: Any) -> Any:
    """The fields of an object by name, or its items, if it is of a kind that has them; otherwise None."""
    kind = type(x)
    if dataclasses.is_dataclass(x):  # not asdict, which copies the values
        return {each.name: getattr(x, each.name) for each in dataclasses.fields(x)}
    if isinstance(x, (argparse.Namespace, types.SimpleNamespace)):
        return vars(x)
    if hasattr(kind, "__attrs_attrs__"):
        return {each.name: getattr(x, each.name) for each in kind.__attrs_attrs__}
    if isinstance(x, tuple) and hasattr(kind, "_fields"):
        return dict(zip(kind._fields, x, strict=True))
    if hasattr(kind, "model_fields") and hasattr(kind, "model_dump"):  # pydantic
        return {name: getattr(x, name) for name in kind.model_fields} | (getattr(x, "model_extra", None) or {})
    if kind.__module__.partition(".")[0] == "omegaconf":
        from omegaconf import OmegaConf  # noqa: PLC0415 (the user has it)  # type: ignore[import-not-found,unused-ignore]

        return OmegaConf.to_container(x, resolve=True)
    return None


def _array(x: Any, path: str, lost: Lost, level: int) -> Value:
    """Convert an object that is none of Python's own: an array or scalar of numpy, torch and the like, or any other."""
    if any([kind.__name__ in _NAMED for kind in type(x).__mro__]):
        return str(x)
    if math.prod(getattr(x, "shape", ())) > _MAX_ITEMS:
        return _text_of(x, path, lost)
    if str(getattr(x, "dtype", "")).startswith(("datetime64", "timedelta64")):
        x = x.astype(str)
    convert = getattr(x, "tolist", None) or getattr(x, "item", None)
    if callable(convert) and type(found := convert()) is not type(x):
        return _plain(found, path, lost, level)
    return _text_of(x, path, lost)


def _qualified(x: Any) -> str:
    name = getattr(x, "__qualname__", None) or getattr(x, "__name__", None)
    module = getattr(x, "__module__", None)
    if name is None:
        return _ADDRESS.sub("", repr(x))[:_MAX_REPR]
    return f"{module}.{name}" if module and module != "builtins" else str(name)


def _text_of(x: object, path: str, lost: Lost) -> str:
    lost(path, x)
    try:
        text = _ADDRESS.sub("", repr(x))
    except Exception:  # noqa: BLE001 (a broken __repr__ of a user's object)
        text = f"<{type(x).__module__}.{type(x).__qualname__}>"
    return text[:_MAX_REPR].encode(errors="backslashreplace").decode()
