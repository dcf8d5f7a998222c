"""Values of single fields of many trials: the paths that users pass to `fetch_values`, and the conversion of values.

MongoDB returns one array for each trial. The values are those that a fetched `Trial` has: times, statuses, aggregators
and errors are objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

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

__all__ = ["ValueFields", "value_fields"]

_ROW = "r"


class ValueFields(NamedTuple):
    """Fields whose values are read.

    Attributes:
        projection: The projection for MongoDB, which makes an array of the values.
        converters: For each field, the function that converts its values.
    """

    projection: dict[str, Any]
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


def value_fields(fields: Sequence[str]) -> ValueFields:
    """Check and translate the fields of trials whose values are read.

    Args:
        fields: Paths as in queries, at least one.

    Returns:
        The fields, in this order.

    Raises:
        QueryError: The fields are not a list of paths, or a field does not exist; the message names it.
    """
    if not isinstance(fields, (list, tuple)) or not fields:
        raise QueryError(f"fields: expected a list of at least one path, got {shown(fields)}")
    expressions, converters = [], []
    for given in fields:
        if not isinstance(given, str):
            raise QueryError(f"fields: expected paths of type str, got {shown(given)}")
        with query_errors():
            stored = "status" if given == "status" else resolve(given, TRIAL_FIELDS)
        expressions.append(f"${stored}")
        converters.append(_OBJECTS.get(stored) or (_times if is_time(stored) else _values))
    return ValueFields({"_id": 0, _ROW: expressions}, converters)


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
