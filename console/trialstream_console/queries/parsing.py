"""Parsing of texts of the query language, within bounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import lark
from lark.parsers.lalr_interactive_parser import InteractiveParser
from trialstream.reading.paths import TRIAL_FIELDS, path, resolve
from trialstream_schemas.errors import InvalidValue, QueryError
from trialstream_schemas.messages import shown

from trialstream_console.queries.conditions import (
    EVERYTHING,
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Exists,
    Lost,
    Match,
    Member,
    Not,
    Text,
    Value,
)
from trialstream_console.queries.errors import WhereError
from trialstream_console.queries.grammar import NAMES, new_parser
from trialstream_console.queries.literals import (
    keys_of_word,
    seconds_ago,
    text_of_quoted,
    text_of_word,
    value_of_word,
)

__all__ = ["MAX_CONDITIONS", "MAX_DEPTH", "MAX_TEXT", "MAX_TOKENS", "accepted_after", "parse", "tokens_of"]

MAX_TEXT = 16 * 1024
"""Maximum length of a text, characters."""
MAX_TOKENS = 2000
"""Maximum number of words and signs: parsing them takes about 50 ms."""
MAX_DEPTH = 8
"""Maximum number of open parentheses: each may be three levels of a query, of which the reader takes 32."""
MAX_CONDITIONS = 100
"""Maximum number of conditions: each may be nine of a query, of which the reader takes 1,000."""


def parse(text: str) -> Condition:
    """Parse a text.

    Args:
        text: The text.

    Returns:
        Its condition; `EVERYTHING` if the text has only spaces.

    Raises:
        WhereError: The text cannot be read, or is too long or too deep.
    """
    if len(text) > MAX_TEXT:
        raise WhereError(f"expected at most {MAX_TEXT} characters, got {len(text)}", MAX_TEXT)
    if not text or text.isspace():
        return EVERYTHING
    parser = new_parser(_CONDITIONS).parse_interactive(text)
    try:
        _feed(parser, tokens_of(text))
        condition: Condition = parser.feed_eof()  # type: ignore[no-untyped-call]
    except lark.UnexpectedToken as error:
        found = "the end of the text" if error.token.type == "$END" else shown(str(error.token))
        at = len(text) if error.token.type == "$END" else error.token.start_pos
        assert at is not None
        names = [name for token, name in NAMES.items() if token in _accepted(parser)]
        raise WhereError(f"expected {_listed(names)}, got {found}", at) from None
    except lark.UnexpectedCharacters as error:
        raise _unexpected_character(text, error.pos_in_stream or 0) from None
    return condition


def tokens_of(text: str) -> Iterator[lark.Token]:
    """Return the tokens of a text.

    Args:
        text: The text.

    Raises:
        UnexpectedCharacters: No token begins at some place.
    """
    return new_parser(_CONDITIONS).lex(text)


def accepted_after(text: str, tokens: Iterable[lark.Token]) -> set[str]:
    """Return the names of the tokens that are accepted after some tokens.

    Args:
        text: The text of the tokens.
        tokens: The tokens.

    Returns:
        The names; none if the tokens themselves are not accepted.
    """
    parser = new_parser(_CONDITIONS).parse_interactive(text)
    try:
        _feed(parser, tokens)
        return _accepted(parser)
    except (WhereError, lark.UnexpectedInput):
        return set()


def _feed(parser: InteractiveParser, tokens: Iterable[lark.Token]) -> None:
    """Feed a parser tokens, as far as they are within the bounds."""
    depth, conditions = 0, 1
    for number, token in enumerate(tokens):
        if number >= MAX_TOKENS:
            raise WhereError(f"expected at most {MAX_TOKENS} words and signs, got more", _column(token))
        depth += (token.type == "LPAR") - (token.type == "RPAR")
        conditions += token.type in {"AND", "OR"}
        if depth > MAX_DEPTH:
            raise WhereError(f"expected at most {MAX_DEPTH} parentheses within each other, got more", _column(token))
        if conditions > MAX_CONDITIONS:
            raise WhereError(
                f"expected at most {MAX_CONDITIONS} conditions, got more: write `in (…)` for many values of one path",
                _column(token),
            )
        parser.feed_token(token)


def _accepted(parser: InteractiveParser) -> set[str]:
    accepted: set[str] = parser.accepts()  # type: ignore[no-untyped-call]
    return accepted


def _listed(names: list[str]) -> str:
    """Return the names as a list of alternatives: "a", "a or b", "a, b or c"."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _unexpected_character(text: str, at: int) -> WhereError:
    match text[at]:
        case '"' | "'":
            return WhereError(f"expected a closing {text[at]} of the quoted text", at)
        case "\\":
            return WhereError("expected a character after the backslash", at)
    return WhereError(f"expected a word or an operator, got {shown(text[at])}; is it {text[at]}= or {text[at]}~?", at)


def _column(token: lark.Token) -> int:
    assert token.start_pos is not None
    return token.start_pos


def _join(kind: type[AllOf | AnyOf], parts: list[Condition]) -> Condition:
    """Return the conditions as one; those that are of the same kind become one list."""
    if len(parts) == 1:
        return parts[0]
    return kind(tuple(each for part in parts for each in (part.conditions if isinstance(part, kind) else (part,))))


class _Conditions(lark.Transformer[lark.Token, Condition]):
    """Makes conditions of what the parser has read."""

    def disjunction(self, children: list[Condition | lark.Token]) -> Condition:
        return _join(AnyOf, [each for each in children if not isinstance(each, lark.Token)])

    def conjunction(self, children: list[Condition | lark.Token]) -> Condition:
        return _join(AllOf, [each for each in children if not isinstance(each, lark.Token)])

    def negated(self, children: list[Condition]) -> Condition:
        inner = children[1]
        return inner.condition if isinstance(inner, Not) else Not(inner)

    def group(self, children: list[Condition]) -> Condition:
        return children[1]

    def comparison(self, children: list[Any]) -> Condition:
        word, operator, (value, column) = children
        name = "=" if operator == "==" else operator.lower()
        return Comparison(_keys(word), str(name), value, column)

    def match(self, children: list[Any]) -> Condition:
        word, operator, (pattern, column) = children
        return Match(_keys(word), operator == "!~", pattern, column)

    def member(self, children: list[Any]) -> Condition:
        word, operator, *rest = children
        values = [each for each in rest if not isinstance(each, lark.Token)]
        return Member(_keys(word), operator.type == "NOT_IN", tuple(value for value, _ in values), values[0][1])

    def exists(self, children: list[lark.Token]) -> Condition:
        return Exists(_keys(children[0]), _column(children[0]))

    def has(self, children: list[lark.Token]) -> Condition:
        return Exists(_keys(children[1]), _column(children[1]))

    def lost(self, _: list[lark.Token]) -> Condition:
        return Lost()

    def word(self, children: list[lark.Token]) -> Condition:
        word = children[0]
        first = word.partition(".")[0]
        if first in TRIAL_FIELDS:
            raise WhereError(
                f"expected an operator after the path {shown(str(word))}; quote it to search for it in names",
                word.end_pos or 0,
            )
        return Text(text_of_word(str(word), _column(word)), _column(word))

    def quoted(self, children: list[lark.Token]) -> Condition:
        return Text(text_of_quoted(str(children[0])), _column(children[0]))

    def value(self, children: list[lark.Token]) -> tuple[Value, int]:
        token, *ago = children
        column = _column(token)
        if ago:
            return seconds_ago(str(token), column), column
        if token.type == "QUOTED":
            return text_of_quoted(str(token)), column
        return value_of_word(str(token), column), column

    def pattern(self, children: list[lark.Token]) -> tuple[str, int]:
        token = children[0]
        column = _column(token)
        text = text_of_quoted(str(token)) if token.type == "QUOTED" else text_of_word(str(token), column)
        return text, column


def _keys(word: lark.Token) -> tuple[str, ...]:
    """Return the keys of a path whose field exists."""
    keys = keys_of_word(str(word), _column(word))
    try:
        resolve(path(*keys), TRIAL_FIELDS)
    except (InvalidValue, QueryError) as error:
        raise WhereError(str(error), _column(word)) from None
    return keys


_CONDITIONS = _Conditions()
