"""The query language: any condition, any text."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from trialstream.reading.operands import pattern_operand
from trialstream.reading.paths import TRIAL_FIELDS, keys_of, path
from trialstream.reading.query import translate
from trialstream_console.queries import Column, WhereError, complete, parse_columns, parse_where
from trialstream_console.queries.conditions import (
    Ago,
    AllOf,
    AnyOf,
    Comparison,
    Exists,
    Lost,
    Match,
    Member,
    Not,
    Text,
    write,
    write_path,
)
from trialstream_console.queries.parsing import parse
from trialstream_schemas.errors import InvalidValue, QueryError

NOW = datetime(2026, 7, 1, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
# Characters with a meaning in the language are drawn often.
TRICKY = st.text(st.sampled_from("\\.\"'()=<>!~, $-a0é\n"), max_size=6)
KEYS = TRICKY | TEXT
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | KEYS
    | st.sampled_from(["and", "not in", "lost", "null", "1", "nan", "2h ago", "2026-07-01"])
)
FIELDS = ("parameters", "metrics", "tags", "metadata", "chronos")
PATHS = st.builds(lambda field, keys: (field, *keys), st.sampled_from(FIELDS), st.lists(KEYS, min_size=1, max_size=3))
TIMES = st.sampled_from(["2026-07-01", "now", None]) | st.floats(0, 1e9).map(Ago)


def is_pattern(text):
    """Whether the reader takes a text as a pattern."""
    try:
        return bool(pattern_operand(text, "x"))
    except (InvalidValue, QueryError):
        return False


CONDITIONS = (
    st.builds(Comparison, PATHS, st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "contains"]), VALUES)
    | st.builds(Comparison, st.just(("created",)), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), TIMES)
    | st.builds(Comparison, st.just(("status",)), st.sampled_from(["=", "!="]), st.none() | KEYS)
    | st.builds(Member, PATHS, st.booleans(), st.lists(VALUES, min_size=1, max_size=4).map(tuple))
    | st.builds(Match, PATHS | st.just(("status",)), st.booleans(), KEYS.filter(is_pattern))
    | st.builds(Exists, PATHS | st.sampled_from(sorted(TRIAL_FIELDS)).map(lambda name: (name,)))
    | st.builds(Text, KEYS)
    | st.builds(Lost)
)


def joined(kind, parts):
    """Join conditions such that none of them is of the same kind."""
    return kind(tuple(each for part in parts for each in (part.conditions if isinstance(part, kind) else (part,))))


def negated(part):
    """Negate a condition; twice is not at all."""
    return part.condition if isinstance(part, Not) else Not(part)


NESTED = st.recursive(
    CONDITIONS,
    lambda inner: (
        st.builds(joined, st.sampled_from([AllOf, AnyOf]), st.lists(inner, min_size=2, max_size=3)) | inner.map(negated)
    ),
    max_leaves=8,
)


@given(NESTED)
def test_the_text_of_a_condition_is_read_as_that_condition(condition):
    """The text of any condition is parsed to an equal one, and the reader accepts its query."""
    text = write(condition)
    try:
        again, query = parse(text), parse_where(text, now=NOW)
    except WhereError as error:
        assert "parentheses within each other" in str(error)  # noqa: PT017 (no other error is allowed)
        return

    assert repr(without_columns(again)) == repr(without_columns(condition))  # NaN is equal to no NaN
    translate(query, TRIAL_FIELDS)


def without_columns(condition):
    """Return the text of all fields of a condition but columns."""
    return re.sub(r", column=\d+", "", repr(condition))


WORDS = (
    "status parameters.a name created and or not in has exists lost ago contains ( ) , = != < ~ !~ 'ab' \" 1 2h "
    "Running null nan \\"
)
LANGUAGE = st.lists(st.sampled_from(WORDS.split()) | TRICKY, max_size=12).map(" ".join)


@given(LANGUAGE | st.text(max_size=30))
def test_any_text_is_a_query_or_an_error_at_a_column(text):
    """Any text gives a query that the reader accepts, or a WhereError whose column is in the text or at its end."""
    try:
        query = parse_where(text, now=NOW)
    except WhereError as error:
        assert (0 <= error.column <= len(text), f"where, column {error.column}: " in str(error)) == (True, True)  # noqa: PT017
        return

    translate(query, TRIAL_FIELDS)


@given(LANGUAGE, st.integers(0, 60))
def test_any_text_can_be_completed(text, at):
    """A completion of any text at any place replaces text before the place, and each path in it can be read."""
    columns = [Column(path("parameters", key), "parameter", "text", ("a b",)) for key in ("a.b", "x y", "", "é")]
    found = complete(text, at, columns)

    assert 0 <= found.begin <= min(at, len(text))
    for each in found.items:
        if each.kind == "parameter":
            assert parse_columns(each.text)


@given(st.lists(PATHS, min_size=1, max_size=4))
def test_the_text_of_paths_is_read_as_these_paths(paths):
    """Paths of any keys can be columns, in quotes or with escapes."""
    columns = [path(*keys) for keys in paths]

    assert parse_columns(", ".join(map(write_path, paths))) == columns
    for keys, column in zip(paths, columns, strict=True):
        assert keys_of(column) == list(keys)


@given(st.binary(max_size=40))
def test_bytes_as_text(data):
    """Bytes that are not UTF-8 are texts with lone surrogates, which are refused or read."""
    with contextlib.suppress(WhereError):
        parse_where(data.decode("utf-8", "surrogateescape"))
