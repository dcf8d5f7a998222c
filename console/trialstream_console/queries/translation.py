"""Conditions as queries of `fetch_trials`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from trialstream.reading.fields import KEYED_FIELDS
from trialstream.reading.paths import TRIAL_FIELDS, is_time, path, resolve
from trialstream.reading.query import MAX_PATTERNS, translate
from trialstream_schemas.errors import InvalidValue, QueryError

from trialstream_console.queries import conditions as c
from trialstream_console.queries.errors import WhereError
from trialstream_console.silence import lost_query

__all__ = ["Translation"]

_OPERATORS = {"=": "$eq", "!=": "$ne", "<": "$lt", "<=": "$lte", ">": "$gt", ">=": "$gte"}
# Fields of which a null that is stored is a value like any other.
_WITH_NULLS = ("parameters", "metadata", "tags")
_NOW = "now"


class Translation:
    """One translation: conditions of one text, at one time.

    Args:
        now: The time to which relative times refer.
    """

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._patterns = 0

    def query(self, condition: c.Condition) -> dict[str, Any]:
        """Return the query of a condition.

        Args:
            condition: The condition.

        Returns:
            The query, which the reader accepts.

        Raises:
            WhereError: A field does not exist, or a value does not fit its field.
        """
        match condition:
            case c.AllOf(()):
                return {}
            case c.AllOf(parts):
                return {"$and": list(map(self.query, parts))}
            case c.AnyOf(parts):
                return {"$or": list(map(self.query, parts))}
            case c.Not(inner):
                return {"$nor": [self.query(inner)]}
            case c.Lost():
                return lost_query(self._now)
            case c.Text(text, column):
                return self._with_pattern({"name": {"$regex": f"(?i){re.escape(text)}"}}, column)
            case c.Exists(keys, column):
                return self._checked(_exists(keys), column)
            case c.Match(keys, negated, pattern, column):
                match_ = {"$regex": pattern}
                return self._with_pattern({_text_path(keys): {"$not": match_} if negated else match_}, column)
            case c.Member(keys, negated, values, column):
                operands = [self._operand(keys, each, column) for each in values]
                return self._checked({path(*keys): {"$nin" if negated else "$in": operands}}, column)
            case c.Comparison(keys, "contains", value, column):
                return self._contains(keys, value, column)
            case c.Comparison(keys, operator, value, column):
                return self._checked({path(*keys): {_OPERATORS[operator]: self._operand(keys, value, column)}}, column)

    def _operand(self, keys: tuple[str, ...], value: c.Value, column: int) -> Any:
        """Return the operand of a value; times for fields that hold times."""
        if value != _NOW and not isinstance(value, c.Ago):
            return value
        if not _holds_time(keys, column):
            if isinstance(value, str):
                return value
            raise WhereError(f"expected a value of {c.write_path(keys)}, which is not a time, got a time", column)
        if isinstance(value, str):
            return self._now
        try:
            return self._now - timedelta(seconds=value.seconds)
        except OverflowError:
            raise WhereError("expected a time after the year 1, got an earlier one", column) from None

    def _contains(self, keys: tuple[str, ...], value: c.Value, column: int) -> dict[str, Any]:
        if len(keys) == 1 and keys[0] in KEYED_FIELDS:
            if not isinstance(value, str):
                raise WhereError(f"expected the text of a key of {keys[0]}", column)
            return self._checked({path(keys[0], value): {"$exists": True}}, column)
        operand = self._operand(keys, value, column)
        in_list = {_text_path(keys): {"$elemMatch": {"$eq": operand}}}
        if not isinstance(value, str) or _holds_time(keys, column):
            return self._checked(in_list, column)
        is_text = {"$regex": re.escape(value), "$not": {"$elemMatch": {"$exists": True}}}
        return self._with_pattern({"$or": [in_list, {_text_path(keys): is_text}]}, column)

    def _with_pattern(self, query: dict[str, Any], column: int) -> dict[str, Any]:
        self._patterns += 1
        if self._patterns > MAX_PATTERNS:
            raise WhereError(
                f"expected at most {MAX_PATTERNS} searches for texts and patterns, got more: join them by | into one",
                column,
            )
        return self._checked(query, column)

    def _checked(self, query: Mapping[str, Any], column: int) -> dict[str, Any]:
        """Return a query that the reader accepts; raise `WhereError` at a column otherwise."""
        try:
            translate(query, TRIAL_FIELDS)
        except QueryError as error:
            raise WhereError(str(error), column) from None
        return dict(query)


def _holds_time(keys: tuple[str, ...], column: int) -> bool:
    try:
        return is_time(resolve(path(*keys), TRIAL_FIELDS))
    except (QueryError, InvalidValue) as error:
        raise WhereError(str(error), column) from None


def _text_path(keys: tuple[str, ...]) -> str:
    """Return a path whose value may be a text: that of a status is its name."""
    return "status.name" if keys == ("status",) else path(*keys)


def _exists(keys: tuple[str, ...]) -> dict[str, Any]:
    if keys[0] in _WITH_NULLS and len(keys) > 1:
        return {path(*keys): {"$exists": True}}
    return {_text_path(keys): {"$ne": None}}
