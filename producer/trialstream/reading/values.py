"""Values of single fields of many trials: the paths that users pass to `fetch_values`, and the conversion of values.

MongoDB returns one array for each trial. The values are those that a fetched `Trial` has: times, statuses, aggregators
and errors are objects. With a maximum size, MongoDB cuts larger values: what is read is bounded, whatever was logged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from bson import encode
from bson.min_key import MinKey
from trialstream_schemas.errors import QueryError
from trialstream_schemas.messages import shown
from trialstream_schemas.model.aggregators import Aggregator, is_aggregator_document
from trialstream_schemas.model.forms import PLAIN_TYPES, from_document
from trialstream_schemas.model.keys import unescape_key
from trialstream_schemas.model.times import from_micros
from trialstream_schemas.storage.documents import (
    attempts_from_document,
    error_from_document,
    former_participants_from_document,
    participants_from_document,
    status_from_document,
)

from trialstream.reading.operands import query_errors
from trialstream.reading.paths import TRIAL_FIELDS, is_time, resolve

__all__ = ["LongValue", "ValueFields", "cut", "value_fields"]

_ROW = "r"
# Fields that may be large; the others are numbers, times and names.
_LARGE = frozenset(
    {
        *("description", "version", "parameters", "metadata", "tags", "metrics", "chronos", "open_chronos"),
        *("failed_chronos", "writers", "errors", "attempts", "participants", "former_participants"),
    }
)
# By type of Python, the name that MongoDB has for it.
_TYPES: dict[type, str] = {str: "string", dict: "object", list: "array", bytes: "binData"}


class LongValue(NamedTuple):
    """A value that is larger than a maximum size, and was not read.

    Attributes:
        type: `string`, `object`, `array` or `binData`, as MongoDB names types.
        start: The beginning of a text, of at most a quarter of the maximum size in characters; empty for other types.
        size: Size of the value in BSON, bytes.
    """

    type: str
    start: str
    size: int


class ValueFields(NamedTuple):
    """Fields whose values are read.

    Attributes:
        projection: The projection for MongoDB, which makes an array of the values.
        paths: For each field, its keys in a document, and the maximum size of a value; None for any.
        converters: For each field, the function that converts its values.
    """

    projection: dict[str, Any]
    paths: Sequence[tuple[list[str], int | None]]
    converters: Sequence[Callable[[Sequence[Any]], Sequence[Any]]]

    def rows(self, documents: Iterable[dict[str, Any]]) -> list[tuple[Any, ...]]:
        """Return the values of each document.

        Args:
            documents: What MongoDB returned.
        """
        # The garbage collector visits the lists of the documents again and again, but not tuples of numbers.
        columns = zip(*[tuple(each[_ROW]) for each in documents], strict=True)
        converted = [convert(column) for convert, column in zip(self.converters, columns, strict=False)]
        return list(zip(*converted, strict=True))


def value_fields(fields: Sequence[str], max_bytes: int | None = None) -> ValueFields:
    """Check and translate the fields of trials whose values are read.

    Args:
        fields: Paths as in queries, at least one.
        max_bytes: Maximum size of a value in BSON; a larger one becomes a `LongValue`. None for values of any size.

    Returns:
        The fields, in this order.

    Raises:
        QueryError: The fields are not a list of paths, or a field does not exist; the message names it.
    """
    if not isinstance(fields, (list, tuple)) or not fields:
        raise QueryError(f"fields: expected a list of at least one path, got {shown(fields)}")
    expressions: list[Any] = []
    paths: list[tuple[list[str], int | None]] = []
    converters: list[Callable[[Sequence[Any]], Sequence[Any]]] = []
    for given in fields:
        if not isinstance(given, str):
            raise QueryError(f"fields: expected paths of type str, got {shown(given)}")
        with query_errors():
            stored = "status" if given == "status" else resolve(given, TRIAL_FIELDS)
        convert = _OBJECTS.get(stored) or (_times if is_time(stored) else _values)
        keys = stored.split(".")
        most = max_bytes if keys[0] in _LARGE else None
        expressions.append(f"${stored}" if most is None else _cut_expression(f"${stored}", most))
        paths.append((keys, most))
        converters.append(convert if most is None else partial(_with_long_values, convert))
    return ValueFields({"_id": 0, _ROW: expressions}, paths, converters)


def _cut_expression(value: str, max_bytes: int) -> dict[str, Any]:
    """Return the expression of a value, or of what `_with_long_values` reads: no value of a user is a MinKey."""
    is_text = {"$eq": [{"$type": value}, "string"]}
    start = {"$cond": [is_text, {"$substrCP": [value, 0, max_bytes // 4]}, ""]}
    size = {"$bsonSize": {"v": value}}
    return {"$cond": [{"$lte": [size, max_bytes]}, value, [{"$literal": MinKey()}, {"$type": value}, start, size]]}


def cut(value: Any, max_bytes: int | None) -> Any:
    """Return a stored value as MongoDB returns it by the projection of `value_fields`.

    Args:
        value: The value.
        max_bytes: Maximum size of the value; None for any.
    """
    if max_bytes is None or type(value) not in _TYPES or (size := len(encode({"v": value}))) <= max_bytes:
        return value
    return [MinKey(), _TYPES[type(value)], value[: max_bytes // 4] if isinstance(value, str) else "", size]


def _with_long_values(convert: Callable[[Sequence[Any]], Sequence[Any]], column: Sequence[Any]) -> Sequence[Any]:
    long = {i: LongValue(*x[1:]) for i, x in enumerate(column) if type(x) is list and x and type(x[0]) is MinKey}
    if not long:
        return convert(column)
    others = iter(convert([x for i, x in enumerate(column) if i not in long]))
    return [long[i] if i in long else next(others) for i in range(len(column))]


def _times(column: Sequence[Any]) -> Sequence[Any]:
    """Convert times, None, and lists of times (`errors.time`)."""
    return [
        None if x is None else [from_micros(each) for each in x] if type(x) is list else from_micros(x) for x in column
    ]


def _values(column: Sequence[Any]) -> Sequence[Any]:
    """Convert values, aggregators, and dicts of these."""
    if PLAIN_TYPES.issuperset(map(type, column)):
        return column
    return [_value(each) for each in column]


def _value(x: Any) -> Any:
    if type(x) is not dict:
        return from_document(x)
    if is_aggregator_document(x):  # no key of a user is that of an aggregator's kind
        return Aggregator.from_document(x)
    return {unescape_key(key): _value(each) for key, each in x.items()}


_OBJECTS: dict[str, Callable[[Sequence[Any]], Sequence[Any]]] = {
    "status": lambda column: [status_from_document(each) for each in column],
    "attempts": lambda column: [attempts_from_document(each) for each in column],
    "participants": lambda column: [participants_from_document(each) for each in column],
    "former_participants": lambda column: [former_participants_from_document(each) for each in column],
    "errors": lambda column: [[error_from_document(each) for each in errors] for errors in column],
}
