"""Conditions of the query language as objects, and their text.

The text of a condition is read as an equal condition again: `parsing.parse(write(condition)) == condition`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = [
    "EVERYTHING",
    "Ago",
    "AllOf",
    "AnyOf",
    "Comparison",
    "Condition",
    "Exists",
    "Lost",
    "Match",
    "Member",
    "Not",
    "Text",
    "Value",
    "quoted",
    "write",
    "write_path",
]


@dataclass(frozen=True)
class Ago:
    """A time relative to that at which the text is read.

    Attributes:
        seconds: How long ago, seconds.
    """

    seconds: float


Value: TypeAlias = "bool | int | float | str | Ago | None"


@dataclass(frozen=True)
class Comparison:
    """A path compared with a value.

    Attributes:
        keys: Field and keys of the path.
        operator: `=`, `!=`, `<`, `<=`, `>`, `>=` or `contains`.
        value: The value.
        column: Index of the value in the text.
    """

    keys: tuple[str, ...]
    operator: str
    value: Value
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Member:
    """A path whose value is one of several, or none of them.

    Attributes:
        keys: Field and keys of the path.
        negated: Whether the value is none of them.
        values: The values.
        column: Index of the first value in the text.
    """

    keys: tuple[str, ...]
    negated: bool
    values: tuple[Value, ...]
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Match:
    """A path whose text matches a regular expression, or does not.

    Attributes:
        keys: Field and keys of the path.
        negated: Whether the text does not match.
        pattern: The regular expression.
        column: Index of the expression in the text.
    """

    keys: tuple[str, ...]
    negated: bool
    pattern: str
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Exists:
    """A path that has a value.

    Attributes:
        keys: Field and keys of the path.
        column: Index of the path in the text.
    """

    keys: tuple[str, ...]
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Text:
    """A name that has a text in it, in any case.

    Attributes:
        text: The text.
        column: Index of the text in the whole one.
    """

    text: str
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Lost:
    """A trial with a running status whose process sends neither events nor heartbeats any more."""


@dataclass(frozen=True)
class Not:
    """A condition that does not hold."""

    condition: Condition


@dataclass(frozen=True)
class AllOf:
    """Conditions that all hold; without any, every trial."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class AnyOf:
    """Conditions of which at least one holds."""

    conditions: tuple[Condition, ...]


Condition: TypeAlias = "Comparison | Member | Match | Exists | Text | Lost | Not | AllOf | AnyOf"

EVERYTHING = AllOf(())
"""The condition of an empty text."""

# What is written in a path without quotes.
_PLAIN_KEY = re.compile(r"[\w$%&*+/:;?@^|#\[\]{}-]+")
# What is written as an escape in quotes.
_ESCAPED = re.compile(r'["\\\x00-\x1f\x7f-\x9f]')
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def write(condition: Condition) -> str:
    """Return the text of a condition.

    Args:
        condition: The condition.

    Returns:
        The text; empty for `EVERYTHING`.
    """
    match condition:
        case AllOf(conditions):
            return " and ".join(f"({write(each)})" if isinstance(each, AnyOf) else write(each) for each in conditions)
        case AnyOf(conditions):
            return " or ".join(map(write, conditions))
        case Not(inner):
            return f"not ({write(inner)})" if isinstance(inner, (AllOf, AnyOf)) else f"not {write(inner)}"
        case Comparison(keys, operator, value):
            return f"{write_path(keys)} {operator} {_value(value)}"
        case Member(keys, negated, values):
            return f"{write_path(keys)} {'not ' * negated}in ({_values(values)})"
        case Match(keys, negated, pattern):
            return f"{write_path(keys)} {'!' * negated}~ {quoted(pattern)}"
        case Exists(keys):
            return f"{write_path(keys)} exists"
        case Text(text):
            return quoted(text)
        case Lost():
            return "lost"


def write_path(keys: Iterable[str]) -> str:
    """Return the text of a path: keys with delimiters, spaces or other characters are quoted.

    Args:
        keys: Field and keys, from the outside in.
    """
    return ".".join(key if _PLAIN_KEY.fullmatch(key) else quoted(key) for key in keys)


def quoted(text: str) -> str:
    """Return a text in quotes, with what ends or hides it as escapes."""
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _escape(found: re.Match[str]) -> str:
    return _SHORT_ESCAPES.get(found[0], f"\\u{ord(found[0]):04x}")


def _values(values: Iterable[Value]) -> str:
    return ", ".join(map(_value, values))


def _value(value: Value) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case Ago(seconds):
            return f"{seconds!r}s ago"
        case str():
            return quoted(value)
        case float() if math.isnan(value):
            return "nan"
    return repr(value)
