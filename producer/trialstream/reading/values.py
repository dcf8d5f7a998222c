"""Values of single fields of many trials: the paths that users pass to `fetch_values`, and the conversion of values.

MongoDB returns one array for each trial. The values are those that a fetched `Trial` has: times, statuses, aggregators
and errors are objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from trialstream_schemas.errors import QueryError
from trialstream_schemas.model.aggregators import Aggregator, is_aggregator_document
from trialstream_schemas.model.forms import from_document
from trialstream_schemas.model.keys import unescape_key
from trialstream_schemas.model.times import from_micros
from trialstream_schemas.storage.documents import error_from_document, status_from_document

from trialstream.reading.checks import shown
from trialstream.reading.operands import query_errors
from trialstream.reading.paths import TRIAL_FIELDS, is_time, resolve

__all__ = ["ValueFields", "value_fields"]

_ROW = "r"


class ValueFields(NamedTuple):
    """Fields whose values are read.

    Attributes:
        projection: The projection for MongoDB, which makes an array of the values.
        converters: For each field, the function that converts its value.
    """

    projection: dict[str, Any]
    converters: Sequence[Callable[[Any], Any]]

    def rows(self, documents: Iterable[dict[str, Any]]) -> list[tuple[Any, ...]]:
        """Return the values of each document.

        Args:
            documents: What MongoDB returned.
        """
        columns = zip(*[each[_ROW] for each in documents], strict=True)
        converted = [map(convert, column) for convert, column in zip(self.converters, columns, strict=False)]
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
        converters.append(_OBJECTS.get(stored) or (_time if is_time(stored) else _value))
    return ValueFields({"_id": 0, _ROW: expressions}, converters)


def _time(x: Any) -> Any:
    """Convert a time; None and a list of times (`errors.time`) too."""
    if isinstance(x, list):
        return [_time(each) for each in x]
    return None if x is None else from_micros(x)


def _value(x: Any) -> Any:
    """Convert a value, an aggregator, or a dict of these."""
    if type(x) is dict:  # no key of a user is that of an aggregator's kind
        return (
            Aggregator.from_document(x)
            if is_aggregator_document(x)
            else {unescape_key(key): _value(each) for key, each in x.items()}
        )
    return from_document(x)


_OBJECTS: dict[str, Callable[[Any], Any]] = {
    "status": status_from_document,
    "errors": lambda errors: [error_from_document(each) for each in errors],
}
