r"""Words and quoted texts of the query language: paths, values and times.

A quoted text has the escapes `\\`, `\"`, `\'`, `\n`, `\r`, `\t` and `\u` with four digits. Any other backslash stays
what it is, so the pattern `"epoch\d+"` needs no escape.
"""

from __future__ import annotations

import math
import re

from trialstream.reading.paths import keys_of
from trialstream_schemas.errors import InvalidValue, QueryError
from trialstream_schemas.messages import shown
from trialstream_schemas.model.values import INT64_MAX

from trialstream_console.queries.conditions import Ago, Value
from trialstream_console.queries.errors import WhereError

__all__ = ["keys_of_word", "seconds_ago", "text_of_quoted", "text_of_word", "value_of_word"]

_PART = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|(?:[^."'\\]|\\.)+""", re.DOTALL)
_ESCAPE = re.compile(r"""\\(?:u([0-9a-fA-F]{4})|([\\"'nrt]))""")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(\.[0-9]*)?|(\.[0-9]+))([eE][+-]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_INTEGER_DIGITS = 20  # of 64 bits, with a sign
_CONSTANTS: dict[str, Value] = {"true": True, "false": False, "null": None, "none": None}
_AGE = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)([a-z]+)", re.IGNORECASE)
_UNITS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def keys_of_word(word: str, column: int) -> tuple[str, ...]:
    """Return the keys of a path.

    Args:
        word: Keys separated by dots. A key with spaces, dots or delimiters is quoted, or has its dots escaped.
        column: Index of the path in the text.

    Returns:
        Field and keys, from the outside in.

    Raises:
        WhereError: A key is missing, or the path is malformed or too long.
    """
    keys: list[str] = []
    at = 0
    while True:
        found = _PART.match(word, at)
        if found is None:
            after = f" after {'.'.join(keys)!r}" if keys else ""
            raise WhereError(f'expected a key{after}, got {shown(word[at:])}; write "" for an empty one', column + at)
        try:
            keys += [text_of_quoted(found[0])] if found[0][0] in "\"'" else keys_of(found[0])
        except (InvalidValue, QueryError) as error:
            raise WhereError(str(error), column + at) from None
        at = found.end()
        if at == len(word):
            return tuple(keys)
        if word[at] != ".":
            raise WhereError(f"expected a dot between two keys, got {shown(word[at:])}", column + at)
        at += 1


def text_of_quoted(quoted: str) -> str:
    """Return the text that is in quotes, without its escapes."""
    return _ESCAPE.sub(_unescaped, quoted[1:-1])


def text_of_word(word: str, column: int) -> str:
    """Return the text of an unquoted word.

    Args:
        word: The word.
        column: Index of the word in the text.

    Returns:
        The same text.

    Raises:
        WhereError: A part of the word is quoted.
    """
    if any(quote in word for quote in "\"'"):
        raise WhereError(f"expected a value, got {shown(word)}; quote a text as a whole", column)
    return word


def value_of_word(word: str, column: int) -> Value:
    """Return the value of an unquoted word: a number, `true`, `false`, `null`, or else a text.

    Args:
        word: The word.
        column: Index of the word in the text.

    Returns:
        The value.

    Raises:
        WhereError: A number is beyond 64 bits, or a part of the word is quoted.
    """
    if word.lower() in _CONSTANTS:
        return _CONSTANTS[word.lower()]
    if _NO_NUMBER.fullmatch(word):
        return float(word)
    number = _NUMBER.fullmatch(word)
    if number is None:
        return text_of_word(word, column)
    if any(number.groups()):
        value = float(word)
        if math.isinf(value):
            raise WhereError(f"expected a number in the range of doubles, got {shown(word)}; write inf", column)
        return value
    if len(word) > _INTEGER_DIGITS or not -INT64_MAX - 1 <= int(word) <= INT64_MAX:
        raise WhereError(f"expected an integer of 64 bits, got {shown(word)}; append .0 for a double", column)
    return int(word)


def seconds_ago(word: str, column: int) -> Ago:
    """Return the time of a word before `ago`.

    Args:
        word: A number and a unit, such as `2h`: s, m or min, h, d, w.
        column: Index of the word in the text.

    Returns:
        The time.

    Raises:
        WhereError: The word is something else.
    """
    found = _AGE.fullmatch(word)
    if found is None or found[2].lower() not in _UNITS:
        raise WhereError(f"expected a duration such as 30s, 10m, 2h, 3d or 1w before 'ago', got {shown(word)}", column)
    return Ago(float(found[1]) * _UNITS[found[2].lower()])


def _unescaped(found: re.Match[str]) -> str:
    if found[1]:
        return chr(int(found[1], 16))
    return _ESCAPES.get(found[2], found[2])
