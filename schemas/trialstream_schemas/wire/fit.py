"""Checks that the record of an event of another version fits the schema of this version, in one pass over its values.

fastavro's own validation describes a value for each branch of a union that it does not fit, the whole value at each
level of a nested one: lists nested 60 levels deep in an event of 500 KB took minutes (measured).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from trialstream_schemas.errors import SchemaError

__all__ = ["Fit", "fit_of"]

Fit: TypeAlias = Callable[[dict[str, Any]], object]
"""Called with the record; raises `SchemaError` if a field does not fit."""

# Called with a datum; returns whether it fits.
_Fits: TypeAlias = Callable[[Any], bool]

_INT_END = 2**31
_TYPES: dict[str, frozenset[type]] = {
    "null": frozenset({type(None)}),
    "boolean": frozenset({bool}),
    "long": frozenset({int}),  # decoded integers have 64 bits
    "float": frozenset({float, int}),
    "double": frozenset({float, int}),
    "string": frozenset({str}),
    "bytes": frozenset({bytes}),
}
_PLAIN = tuple(_TYPES)


def fit_of(schema: Any) -> Fit:
    """Make the check of a schema.

    Args:
        schema: The schema of an event of this version, as `fastavro.parse_schema` returns it. A record may lack fields,
            for which the class of the event has defaults or raises an error, and have others, which are dropped.
    """
    named: dict[str, _Fits] = {}
    fields = [(each["name"], each["type"], _fits(each["type"], named)) for each in schema["fields"]]

    def check(record: dict[str, Any]) -> None:
        for name, kind, fits in fields:
            if name in record and not fits(record[name]):
                raise SchemaError(f"{name}: expected a datum of {kind}, got another {type(record[name]).__name__}")

    return check


def _fits(schema: Any, named: dict[str, _Fits]) -> _Fits:
    if isinstance(schema, list):
        # A list fits at most one branch of a union of this version, and so does a dict: each value is visited once.
        types = frozenset().union(*(_TYPES[each] for each in schema if each in _PLAIN))
        branches = [_fits(each, named) for each in schema if each not in _PLAIN]
        return lambda x: type(x) in types or any([fits(x) for fits in branches])
    if isinstance(schema, str):
        if schema in _PLAIN:
            types = _TYPES[schema]
            return lambda x: type(x) in types
        if schema == "int":
            return lambda x: type(x) is int and -_INT_END <= x < _INT_END
        # Looked up later: a recursive record is not made yet.
        return lambda x: named[schema](x)  # noqa: PLW0108
    match schema["type"]:
        case "array":
            return _array(schema["items"], named)
        case "map":
            values = _fits(schema["values"], named)
            return lambda x: type(x) is dict and all([values(each) for each in x.values()])
        case "record":
            fields = [(each["name"], _fits(each["type"], named)) for each in schema["fields"]]
            named[schema["name"]] = made = _record(fields)
            return made
        case kind:
            return _fits(kind, named)


def _array(items: Any, named: dict[str, _Fits]) -> _Fits:
    if isinstance(items, str) and items in _PLAIN:  # columns, at the speed of C
        types = _TYPES[items]
        return lambda x: type(x) is list and types.issuperset(map(type, x))
    fits = _fits(items, named)
    return lambda x: type(x) is list and all([fits(each) for each in x])


def _record(fields: list[tuple[str, _Fits]]) -> _Fits:
    if len(fields) == 1:  # saves a list for each level of nested values
        [(only, fits_only)] = fields
        return lambda x: type(x) is dict and only in x and fits_only(x[only])

    def fits(x: Any) -> bool:
        return type(x) is dict and all([name in x and each(x[name]) for name, each in fields])

    return fits
