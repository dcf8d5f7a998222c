"""Completion: what can stand at a place of an unfinished text of the query language."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import lark
from trialstream.reading.paths import TRIAL_FIELDS, is_time, keys_of, path, resolve
from trialstream_schemas.errors import InvalidValue, QueryError
from trialstream_schemas.model.status import Status

from trialstream_console.queries.conditions import quoted, write_path
from trialstream_console.queries.errors import WhereError
from trialstream_console.queries.literals import keys_of_word
from trialstream_console.queries.parsing import MAX_TEXT, accepted_after, tokens_of

__all__ = ["Column", "Completion", "Item", "complete", "operators"]

T = TypeVar("T")

_MAX_ITEMS = 50
_QUOTES = str.maketrans("", "", "\"'\\")
_EQUALITY = ("=", "!=", "in", "not in")
_ORDER = ("<", "<=", ">", ">=")
_TEXT = ("~", "!~", "contains")
_OPERATORS = {
    "number": (*_EQUALITY, *_ORDER, "exists"),
    "time": (*_ORDER, "exists"),
    "status": (*_EQUALITY, "~", "!~"),
    "text": (*_EQUALITY, *_TEXT, "exists"),
    "mixed": (*_EQUALITY, *_ORDER, *_TEXT, "exists"),
}
_BEFORE = ("not", "has", "lost", "(")
_TIMES = ("now", "1h ago", "24h ago", "7d ago", "30d ago")
# Tokens of which no other one begins with the same characters.
_COMPLETE = frozenset({"LPAR", "RPAR", "COMMA", "QUOTED"})
# Tokens before which a path is, and after which a value is.
_AFTER_PATH = frozenset({"COMPARE", "MATCH", "IN", "NOT_IN", "CONTAINS"})


class Column(NamedTuple):
    """A path that trials have.

    Attributes:
        path: The path, as `fetch_values` takes it.
        kind: `field`, `parameter`, `metric`, `chrono`, `tag` or `metadata`.
        type: `number`, `text`, `time`, `status` or `mixed`.
        texts: Some texts that are its value.
    """

    path: str
    kind: str
    type: str = "mixed"
    texts: tuple[str, ...] = ()


class Item(NamedTuple):
    """A text that can stand at the place.

    Attributes:
        text: The text.
        kind: The kind of its column, `operator`, `word` or `value`.
    """

    text: str
    kind: str


class Completion(NamedTuple):
    """The items that can stand at a place.

    Attributes:
        begin: Index of the character from which an item replaces the text up to the place.
        items: The items, the best first.
    """

    begin: int
    items: list[Item]


def operators(type: str) -> tuple[str, ...]:
    """Return the operators of a type of column.

    Args:
        type: As `Column.type`.
    """
    return _OPERATORS.get(type, _OPERATORS["mixed"])


def complete(text: str, at: int, columns: Iterable[Column]) -> Completion:
    """Return what can stand at a place of a text, which need not be finished.

    Args:
        text: The text.
        at: Index of the character before which the place is; what comes after it does not matter.
        columns: The paths that trials have.

    Returns:
        The completion; without items if the text before the place cannot be read.
    """
    before = text[: max(0, min(at, MAX_TEXT))]
    tokens, begin = _tokens(before)
    known = {each.path: each for each in columns}
    known = {name: Column(name, "field", _type_of_field(name)) for name in TRIAL_FIELDS if name not in known} | known
    wanted = _plain(before[begin:])
    candidates = _candidates(accepted_after(before, tokens), tokens, known, wanted)
    return Completion(begin, _matching(wanted, candidates))


def _tokens(before: str) -> tuple[list[lark.Token], int]:
    """Return the tokens before the word that is completed, and the index at which that begins."""
    tokens: list[lark.Token] = []
    begin = len(before)
    try:
        tokens.extend(tokens_of(before))
    except lark.UnexpectedCharacters as error:  # a quoted text that has no end yet
        begin = error.pos_in_stream or 0
        tokens = list(tokens_of(before[:begin]))
    if tokens and tokens[-1].end_pos == begin:
        last = tokens[-1]
        if last.type not in _COMPLETE if begin == len(before) else last.type == "WORD" and last.endswith("."):
            begin = tokens.pop().start_pos or 0
    return tokens, begin


def _candidates(accepted: set[str], tokens: list[lark.Token], known: dict[str, Column], wanted: str) -> Iterator[Item]:
    last = tokens[-1] if tokens else None
    if "COMPARE" in accepted and last is not None:
        column = _column_of(last, known)
        yield from (Item(each, "operator") for each in operators(column.type))
        if str(last).partition(".")[0] in TRIAL_FIELDS:
            return
    for token, word in (("AND", "and"), ("OR", "or"), ("RPAR", ")"), ("COMMA", ",")):
        if token in accepted:
            yield Item(word, "word")
    if "AGO" in accepted and str(last)[:1].isdigit():
        yield Item("ago", "word")
    if "HAS" in accepted:
        yield from _paths(known, wanted)
        yield from (Item(each, "word") for each in _BEFORE)
    elif "WORD" in accepted and last is not None and last.type == "HAS":
        yield from _paths(known, wanted)
    elif "WORD" in accepted:
        paths = [each for each, after in itertools.pairwise(tokens) if after.type in _AFTER_PATH]
        yield from (Item(each, "value") for each in _values(_column_of(paths[-1], known)))


def _paths(known: dict[str, Column], wanted: str) -> Iterator[Item]:
    """Return paths that have a text in them; of ten thousands, few are written."""
    for each in itertools.islice(_ranked(wanted, known.values(), lambda each: each.path), _MAX_ITEMS - len(_BEFORE)):
        yield Item(write_path(keys_of(each.path)), each.kind)


def _column_of(word: lark.Token, known: dict[str, Column]) -> Column:
    try:
        found = path(*keys_of_word(str(word), 0))
        return known.get(found) or Column(found, "field", "time" if is_time(resolve(found, TRIAL_FIELDS)) else "mixed")
    except (WhereError, InvalidValue, QueryError):
        return Column("", "field")


def _type_of_field(name: str) -> str:
    if name == "status":
        return "status"
    return "time" if is_time(name) else "mixed"


def _values(column: Column) -> Iterable[str]:
    if column.type == "status":
        return list(Status.__members__)
    if column.type == "time":
        return _TIMES
    return map(quoted, column.texts)


def _matching(wanted: str, items: Iterable[Item]) -> list[Item]:
    """Return the items that have a text in them, each once."""
    return [*itertools.islice(_ranked(wanted, dict.fromkeys(items), lambda each: each.text), _MAX_ITEMS)]


def _ranked(wanted: str, things: Iterable[T], text_of: Callable[[T], str]) -> Iterator[T]:
    """Return the things whose text has another in it; first those whose text begins with it."""
    plain = [(_plain(text_of(each)), each) for each in things]
    yield from (each for text, each in plain if text.startswith(wanted))
    yield from (each for text, each in plain if wanted in text and not text.startswith(wanted))


def _plain(text: str) -> str:
    """Return a text as it is compared: without quotes and escapes, in lower case."""
    return text.translate(_QUOTES).lower()
