"""Texts, values and counts in messages: on one line, without control characters, bounded in length.

A message may quote what any writer has logged: a name can move the cursor of a terminal, turn the direction of the text
around it, or begin a line of its own. All errors of trialstream make their message `printable`, and so do the lines and
tables of the commands.
"""

from __future__ import annotations

import re
import reprlib

__all__ = ["MAX_MESSAGE", "MAX_REASON", "counted", "in_message", "printable", "shortened", "shown"]

MAX_REASON = 2000
"""Maximum length of the reason of a dead letter, of an outcome and of a log line, characters."""

MAX_MESSAGE = 10_000
"""Maximum length of the message of an error, characters: a page, and not the document that a hostile name can fill."""

# Control characters but tab and line feed; marks, embeddings, overrides and isolates of the text direction; separators
# of lines and paragraphs; lone surrogates, as in file names that are not UTF-8.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LAYOUT = re.compile("[\t\n]")
_INT_BITS = 64


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 trial", "3 trials".

    Args:
        number: The number.
        noun: The noun in the singular, with a verb or a clause after it if need be: "event waits".
        plural: The same in the plural: "events wait"; by default the noun with an "s".
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def printable(text: str, *, one_line: bool = False) -> str:
    r"""Return a text with its unsafe characters as escapes, such as `\x1b`.

    Args:
        text: The text.
        one_line: Whether tabs and line feeds are escaped, too.
    """
    text = _UNSAFE.sub(_escape, text)
    return _LAYOUT.sub(_escape, text) if one_line else text


def in_message(text: str, *, one_line: bool = True) -> str:
    """Return a text as the message of an error has it: `printable`, and `shortened` to `MAX_MESSAGE` characters.

    Args:
        text: The text.
        one_line: Whether tabs and line feeds are escaped, too.
    """
    return printable(shortened(text, MAX_MESSAGE), one_line=one_line)


def shortened(text: str, most: int = MAX_REASON) -> str:
    """Return a text with at most so many characters: its beginning and its end, and how much is left out between them.

    Args:
        text: The text.
        most: Maximum length, characters; at least 64.
    """
    if len(text) <= most:
        return text
    gap = f" … [{len(text) - most} characters and more left out] … "
    tail = (most - len(gap)) // 4
    return f"{text[: most - len(gap) - tail]}{gap}{text[-tail:]}"


class _Repr(reprlib.Repr):
    """Shows objects in messages, shortened. Python refuses to write integers of thousands of digits."""

    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if x.bit_length() <= _INT_BITS else f"an int of {x.bit_length()} bits"


_REPR = _Repr()


def shown(value: object) -> str:
    """Return the shortened `repr` of any object, on one line and without control characters.

    Args:
        value: The object; its own `__repr__` may return any text, or fail.
    """
    return printable(_REPR.repr(value), one_line=True)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
