"""JSON schemas of types, and checks of JSON values by types.

The types are those of parameters, bodies and answers: None, bool, int, float, str, `Any`, `Literal`, unions, lists,
dicts with keys of text, and `TypedDict`s, whose attributes their docstrings describe. `Annotated` adds a `Limits`.
"""

from __future__ import annotations

import math
import re
import types
from dataclasses import dataclass
from functools import lru_cache
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from trialstream_schemas.messages import shown

from trialstream_console.dashboard.refusals import Refusal

__all__ = ["Limits", "Schema", "checked", "schema_of"]

Schema: TypeAlias = dict[str, Any]

_PLAIN: dict[Any, tuple[str, str]] = {
    types.NoneType: ("null", "null"),
    bool: ("boolean", "true or false"),
    int: ("integer", "a whole number"),
    float: ("number", "a number"),
    str: ("string", "a text"),
}


@dataclass(frozen=True)
class Limits:
    """Limits and the description of a parameter or of a part of a body.

    Attributes:
        description: What it is, with its unit.
        least: Smallest number, or smallest length of a list or a text.
        most: Largest number, or largest length.
    """

    description: str = ""
    least: float | None = None
    most: float | None = None


def schema_of(kind: Any, named: dict[str, Schema]) -> Schema:
    """Return the JSON schema of a type.

    Args:
        kind: The type.
        named: The schemas of the `TypedDict`s by name, to which those of this type are added.

    Returns:
        The schema; that of a `TypedDict` is a reference into `#/components/schemas`.

    Raises:
        TypeError: The type is none of those in the module's docstring.
    """
    kind, limits = _unwrapped(kind)
    schema = _plain_schema(kind, named)
    if limits is None:
        return schema
    unit = {"string": "Length", "array": "Items"}.get(str(schema.get("type")))
    names = ("minimum", "maximum") if unit is None else (f"min{unit}", f"max{unit}")
    bounds = {name: bound for name, bound in zip(names, (limits.least, limits.most), strict=True) if bound is not None}
    return schema | bounds | ({"description": limits.description} if limits.description else {})


def _plain_schema(kind: Any, named: dict[str, Schema]) -> Schema:
    if kind is Any:
        return {}
    if kind in _PLAIN:
        return {"type": _PLAIN[kind][0]}
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(parts)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(each, named) for each in parts]}
    if origin is list:
        return {"type": "array", "items": schema_of(parts[0], named)}
    if origin is dict and parts[0] is str:
        return {"type": "object", "additionalProperties": schema_of(parts[1], named)}
    if not is_typeddict(kind):
        raise TypeError(f"{kind!r}: expected a type that JSON has")
    if kind.__name__ not in named:
        named[kind.__name__] = {}  # a type may have itself as a part
        described = _attributes(kind.__doc__ or "")
        fields = {
            name: schema_of(each, named) | ({"description": described[name]} if name in described else {})
            for name, each in _fields(kind).items()
        }
        named[kind.__name__] = {
            "type": "object",
            "description": (kind.__doc__ or "").partition("\n")[0],
            "properties": fields,
            "required": sorted(_required(kind)),
            "additionalProperties": False,
        }
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def checked(given: Any, kind: Any, place: str) -> Any:
    """Check a JSON value.

    Args:
        given: The value, of `json.loads`.
        kind: Its type.
        place: Name of the parameter, or path in the body, for the message.

    Returns:
        The value; a whole number becomes a float where the type is one.

    Raises:
        Refusal: The value is not of the type, or out of its limits.
    """
    kind, limits = _unwrapped(kind)
    if limits is not None and isinstance(given, list | dict) and get_origin(kind) is type(given):
        _check_limits(given, limits, place)  # before each item is checked, of which there may be many
    value = _checked(given, kind, place)
    if limits is not None and value is not None:
        _check_limits(value, limits, place)
    return value


def _checked(given: Any, kind: Any, place: str) -> Any:
    if kind is Any:
        return given
    if kind is float and type(given) is int:
        try:
            return float(given)
        except OverflowError:
            raise _wrong(given, "a number that a double can hold", place) from None
    if kind in _PLAIN:
        if type(given) is not kind or (kind is float and not math.isfinite(given)):
            raise _wrong(given, _PLAIN[kind][1], place)
        return given
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        if given not in parts or isinstance(given, bool):
            raise _wrong(given, "one of " + ", ".join(map(repr, parts)), place)
        return given
    if origin in (Union, types.UnionType):
        return _of_union(given, parts, place)
    if origin is list:
        if not isinstance(given, list):
            raise _wrong(given, "a list", place)
        return [checked(each, parts[0], f"{place}[{i}]") for i, each in enumerate(given)]
    if not isinstance(given, dict):
        raise _wrong(given, "an object", place)
    if origin is dict:
        return {key: checked(each, parts[1], f"{place}.{key}") for key, each in given.items()}
    fields = _fields(kind)
    if missing := _required(kind) - given.keys():
        where = _at(place, min(missing))
        raise Refusal("query", f"{where}: expected a value, got none", place=where)
    if unknown := given.keys() - fields.keys():
        where = _at(place, min(unknown))
        raise Refusal("query", f"{where}: expected one of {', '.join(fields)}", place=where)
    return {key: checked(each, fields[key], _at(place, key)) for key, each in given.items()}


def _of_union(given: Any, parts: tuple[Any, ...], place: str) -> Any:
    first: Refusal | None = None
    for each in parts:
        try:
            return checked(given, each, place)
        except Refusal as refusal:
            is_structure = is_typeddict(_unwrapped(each)[0]) and isinstance(given, dict)
            first = refusal if first is None or is_structure else first
    assert first is not None
    raise first


def _check_limits(value: Any, limits: Limits, place: str) -> None:
    size = value if isinstance(value, int | float) else len(value)
    what = "" if isinstance(value, int | float) else " characters" if isinstance(value, str) else " items"
    if limits.least is not None and size < limits.least:
        raise Refusal("query", f"{place}: expected at least {limits.least:g}{what}, got {size}", place=place)
    if limits.most is not None and size > limits.most:
        raise Refusal("query", f"{place}: expected at most {limits.most:g}{what}, got {size}", place=place)


def _wrong(given: Any, wanted: str, place: str) -> Refusal:
    return Refusal("query", f"{place or 'body'}: expected {wanted}, got {shown(given)}", place=place)


def _at(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _unwrapped(kind: Any) -> tuple[Any, Limits | None]:
    """Return a type without its annotations, and its limits."""
    limits = None
    while get_origin(kind) in (Annotated, Required, NotRequired):
        limits = next((each for each in get_args(kind)[1:] if isinstance(each, Limits)), limits)
        kind = get_args(kind)[0]
    return kind, limits


@lru_cache(maxsize=256)
def _fields(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


@lru_cache(maxsize=256)
def _required(kind: Any) -> set[str]:
    """Return the keys that a `TypedDict` must have; `__required_keys__` does not see annotations that are texts."""
    return {name for name, each in _fields(kind).items() if get_origin(each) is not NotRequired}


def _attributes(docstring: str) -> dict[str, str]:
    """Return the descriptions of the attributes in a docstring."""
    _, _, section = docstring.partition("Attributes:\n")
    found = re.findall(r"^ {4,8}(\w+): (.*(?:\n {9,}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}
