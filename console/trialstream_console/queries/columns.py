"""Paths of columns and sort keys in a text, in the notation of the query language."""

from __future__ import annotations

from collections.abc import Iterator

import lark
from trialstream.reading.paths import TRIAL_FIELDS, path, resolve
from trialstream_schemas.errors import InvalidValue, QueryError

from trialstream_console.queries.errors import WhereError
from trialstream_console.queries.literals import keys_of_word
from trialstream_console.queries.parsing import MAX_TEXT, tokens_of

__all__ = ["parse_columns", "parse_sort"]


def parse_columns(text: str) -> list[str]:
    """Parse paths that are separated by commas.

    Args:
        text: The paths.

    Returns:
        The paths as `fetch_values` takes them.

    Raises:
        WhereError: A path cannot be read, or its field does not exist.
    """
    return [_path(word, 0, "columns") for word in _words(text, "columns")]


def parse_sort(text: str) -> list[str]:
    """Parse sort keys that are separated by commas, each a path or `-path` for the descending order.

    Args:
        text: The keys.

    Returns:
        The keys as `fetch_trials` takes them.

    Raises:
        WhereError: A path cannot be read, or its field does not exist.
    """
    found = []
    for word in _words(text, "sort"):
        descending = word.startswith("-")
        found.append("-" * descending + _path(word, int(descending), "sort"))
    return found


def _words(text: str, name: str) -> Iterator[lark.Token]:
    """Return the words between the commas of a text."""
    if len(text) > MAX_TEXT:
        raise WhereError(f"expected at most {MAX_TEXT} characters, got {len(text)}", MAX_TEXT, name)
    is_path = True
    try:
        for token in tokens_of(text):
            if token.type != ("WORD" if is_path else "COMMA"):
                raise WhereError(f"expected a {'path' if is_path else 'comma'}", token.start_pos or 0, name)
            if is_path:
                yield token
            is_path = not is_path
    except lark.UnexpectedCharacters as error:
        raise WhereError("expected a path", error.pos_in_stream or 0, name) from None
    if is_path:
        raise WhereError("expected a path, got the end of the text", len(text), name)


def _path(word: lark.Token, begin: int, name: str) -> str:
    column = (word.start_pos or 0) + begin
    try:
        found = path(*keys_of_word(str(word)[begin:], column))
        resolve(found, TRIAL_FIELDS)
    except WhereError as error:
        raise WhereError(error.reason, error.column, name) from None
    except (InvalidValue, QueryError) as error:
        raise WhereError(str(error), column, name) from None
    return found
