r"""Regular expressions as MongoDB reads them (PCRE, with UTF-8 text), translated to Python's `re`.

MongoDB's classes, such as `\w` and `[[:alpha:]]`, have ASCII characters only, and `\Z` matches before a last newline,
too. Everything else that both accept has the same meaning in both.
"""

from __future__ import annotations

import re

from trialstream_schemas.model.caches import ByteCache

__all__ = ["compiled"]

# An escape, or a set of characters with its POSIX classes, as in the check of patterns.
_ESCAPE_OR_SET = re.compile(r"\\.|\[\^?\]?(?:\[:\^?[a-z]+:\]|\\.|[^\]\\])*\]?", re.DOTALL)
# Inside a set: a POSIX class, an escape, or a character that Python may take for an operator of sets.
_PART_OF_SET = re.compile(r"\[:(\^?)([a-z]+):\]|\\(.)|([\[&~|])", re.DOTALL)
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t-\r ",
    "upper": "A-Z",
    "word": "0-9A-Z_a-z",
    "xdigit": "0-9A-Fa-f",
}
_NEGATED = {
    "alnum": r"\x00-/:-@\[-`{-\U0010ffff",
    "alpha": r"\x00-@\[-`{-\U0010ffff",
    "ascii": r"\x80-\U0010ffff",
    "blank": r"\x00-\x08\n-\x1f!-\U0010ffff",
    "cntrl": r" -~\x80-\U0010ffff",
    "digit": r"\x00-/:-\U0010ffff",
    "graph": r"\x00- \x7f-\U0010ffff",
    "lower": r"\x00-`{-\U0010ffff",
    "print": r"\x00-\x1f\x7f-\U0010ffff",
    "punct": r"\x00- 0-9A-Za-z\x7f-\U0010ffff",
    "space": r"\x00-\x08\x0e-\x1f!-\U0010ffff",
    "upper": r"\x00-@\[-\U0010ffff",
    "word": r"\x00-/:-@\[-^`{-\U0010ffff",
    "xdigit": r"\x00-/:-@G-`g-\U0010ffff",
}
_ESCAPED_CLASSES = {"d": "digit", "s": "space", "w": "word"}


# A compiled pattern takes up to 40 bytes for each character of its text.
_COMPILED_BYTES = 40
_compiled: ByteCache[str | re.Pattern[str], re.Pattern[str]] = ByteCache(4 * 1024 * 1024)


def compiled(pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    """Compile a regular expression of a checked query.

    Args:
        pattern: Text, or a compiled pattern, whose flags stay.
    """
    known = _compiled.get(pattern)
    if known is None:
        known = _made_pattern(pattern)
        _compiled.keep(pattern, known, _COMPILED_BYTES * len(known.pattern))
    return known


def _made_pattern(pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    text, flags = (pattern, 0) if isinstance(pattern, str) else (pattern.pattern, pattern.flags & ~re.ASCII)
    return re.compile(_ESCAPE_OR_SET.sub(_translated, text), flags)


def _translated(found: re.Match[str]) -> str:
    """Translate an escape or a set."""
    text = found[0]
    if not text.startswith("["):
        if text == r"\Z":
            return r"(?=\n?\Z)"
        if text[1] in "bB":
            return f"(?a:{text})"
        # A set, since Python 3.11 searches with the wrong set for a pattern that begins with `(?a:\W)`.
        return f"[{_class(text[1])}]" if text[1].lower() in _ESCAPED_CLASSES else text
    begin = 2 if text.startswith("[^") else 1
    return text[:begin] + _PART_OF_SET.sub(_part, text[begin:])


def _part(found: re.Match[str]) -> str:
    negated, posix, escaped, plain = found.groups()
    if posix is not None:
        return (_NEGATED if negated else _CLASSES)[posix]
    if plain is not None:
        return f"\\{plain}"
    return _class(escaped) if escaped.lower() in _ESCAPED_CLASSES else found[0]


def _class(escaped: str) -> str:
    """Return the characters of a class by its letter; an upper one is that of all other characters."""
    return (_CLASSES if escaped.islower() else _NEGATED)[_ESCAPED_CLASSES[escaped.lower()]]
