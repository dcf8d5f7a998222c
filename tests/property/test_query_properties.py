"""Translation of queries with any keys and any values, and of any other object."""

from __future__ import annotations

import contextlib
import re
import warnings
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trialstream.reading.fields import partial_fields
from trialstream.reading.paths import GROUP_FIELDS, PROJECT_FIELDS, TRIAL_FIELDS, path
from trialstream.reading.query import translate
from trialstream.reading.sorting import order, sort_keys
from trialstream_schemas.errors import QueryError
from trialstream_schemas.model.forms import to_document
from trialstream_schemas.model.keys import escape_key
from trialstream_schemas.model.status import Status

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
# Characters with a meaning in a path, an operator or an escaped key are drawn often.
KEYS = st.text(st.sampled_from("\\.$%-a0 é"), max_size=6) | TEXT
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text("a.$%") | st.binary()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=8)
FIELDS = st.sampled_from([TRIAL_FIELDS, GROUP_FIELDS, PROJECT_FIELDS])

OPERATORS = (
    *("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$and", "$or", "$nor", "$not", "$exists"),
    *("$regex", "$all", "$elemMatch", "$size"),
)
ANY_KEYS = (
    st.sampled_from(OPERATORS)
    | st.sampled_from(["$where", "$expr", "$options", "status", "name", "tags.a", "errors", "created", "errors.time"])
    | st.text(max_size=3)
    | st.integers()
)
ANYTHING = st.recursive(
    SCALARS | st.integers() | st.text(max_size=3) | st.just(re.compile("a")) | st.builds(object),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(ANY_KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(st.lists(KEYS, max_size=8))
def test_a_path_is_translated_to_stored_keys(keys):
    """The path of any keys names the place where documents have them, and no operator."""
    stored = ".".join(map(escape_key, keys))

    assert translate({path("parameters", *keys): 1}, TRIAL_FIELDS) == {
        ".".join(["parameters", stored][: 1 + bool(keys)]): 1
    }
    assert sort_keys("-" + path("tags", *keys), TRIAL_FIELDS)[0] == (".".join(["tags", stored][: 1 + bool(keys)]), -1)


@given(st.lists(KEYS, min_size=1, max_size=8))
def test_a_relative_path_is_translated_to_stored_keys(keys):
    """Inside `$elemMatch` the path of any keys names their place in the element, even if it begins with a dollar."""
    asked = {"tags.list": {"$elemMatch": {path(*keys): 1}}}

    assert translate(asked, TRIAL_FIELDS) == {"tags.list": {"$elemMatch": {".".join(map(escape_key, keys)): 1}}}


@given(st.lists(KEYS, min_size=1), st.lists(KEYS, min_size=1))
def test_paths_of_different_keys_differ(one, other):
    """No two sequences of keys share a path."""
    assert (path(*one) == path(*other)) == (one == other)


@given(VALUES)
def test_values_are_translated_to_their_stored_form(x):
    """Values of a query are translated to the form in which documents have them."""
    assert repr(translate({"tags.x": {"$eq": x}}, TRIAL_FIELDS)) == repr({"tags.x": {"$eq": to_document(x)}})


def operators_of(x):
    """Return every key of a translated query that MongoDB would take for an operator."""
    if isinstance(x, dict):
        for key, inner in x.items():
            if key.startswith("$"):
                yield key
            yield from operators_of(inner)
    elif isinstance(x, list):
        for inner in x:
            yield from operators_of(inner)


@given(ANYTHING | st.dictionaries(ANY_KEYS, ANYTHING, max_size=3), FIELDS)
def test_anything_is_translated_or_refused(query, fields):
    """Any object as a query gives allowed operators only or raises only QueryError, and stays unchanged."""
    before = repr(query)
    try:
        translated = translate(query, fields)
    except QueryError:
        translated = {}

    assert set(operators_of(translated)) <= set(OPERATORS)
    assert repr(query) == before


YEARS = datetime(2, 1, 1), datetime(9998, 1, 1)  # noqa: DTZ001 (hypothesis adds the zones)
ZONES = st.just(UTC) | st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(*YEARS, timezones=ZONES), st.sampled_from(["created", "errors.time"]))
def test_a_time_is_the_same_as_its_text(time, field):
    """ISO 8601 text means the time that it shows, and without a zone the time in UTC."""
    as_time = translate({field: {"$lt": time}}, TRIAL_FIELDS)

    assert translate({field: {"$lt": time.isoformat()}}, TRIAL_FIELDS) == as_time
    in_utc = time.astimezone(UTC).replace(tzinfo=None)
    assert translate({field: {"$lt": in_utc.isoformat(" ")}}, TRIAL_FIELDS) == as_time


@given(st.sampled_from(list(Status)), st.data())
def test_a_built_in_status_matches_in_any_case(status, data):
    """A built-in name in any case is translated like the status itself, wherever it may stand."""
    name = "".join(data.draw(st.sampled_from([each.lower(), each.upper()])) for each in status.name)

    for condition in (lambda x: x, lambda x: [x, None], lambda x: {"$ne": x}, lambda x: {"$nin": [x], "$eq": x}):
        assert translate({"status": condition(name)}, TRIAL_FIELDS) == translate(
            {"status": condition(status)}, TRIAL_FIELDS
        )


@given(st.text("[]^:-&|~\\az", max_size=10) | st.text(max_size=8))
def test_no_pattern_causes_a_warning(pattern):
    """Any text as a pattern is passed on unchanged or is a QueryError, and causes no warning."""
    with warnings.catch_warnings(), contextlib.suppress(QueryError):
        warnings.simplefilter("error")

        assert translate({"name": {"$regex": pattern}}, TRIAL_FIELDS) == {"name": {"$regex": pattern}}


@given(ANYTHING)
def test_any_sort_is_translated_or_refused(sort):
    """Any object as a sort gives each key once and a total order, or is refused."""
    try:
        keys = sort_keys(sort, TRIAL_FIELDS)
        found = order(sort, TRIAL_FIELDS)
    except QueryError:
        return

    assert len(dict(keys)) == len(keys)
    assert "_id" in dict(keys)
    assert len(dict(found.keys)) == len(found.keys) == len(keys)
    assert "_id" in dict(found.keys)


FIELD_PATHS = st.builds(
    lambda field, keys: path(field, *keys),
    st.sampled_from([*TRIAL_FIELDS, "trials", "groups"]),
    st.lists(KEYS, max_size=3),
)


@given(ANYTHING | st.lists(FIELD_PATHS | ANYTHING), st.sampled_from(["trials", "groups", "projects"]))
def test_any_fields_are_translated_or_refused(fields, collection):
    """Any object as fields gives a projection with the identity and without conflicting paths, or is refused."""
    try:
        found = partial_fields(fields, collection)
    except QueryError:
        return

    if fields is None:
        assert found.projection is None
        return
    assert "name" in found.projection
    assert not {*found.projection} & found.members
    for each in found.projection:
        assert "." not in each or each.split(".")[0] not in found.projection
        assert each.count(".") <= 1
        assert not any(key.startswith("$") or not key for key in each.split("."))


@given(KEYS, st.text(st.characters(exclude_characters="\\.$"), min_size=1, max_size=1))
def test_a_lone_backslash_is_refused(key, other):
    """A backslash that escapes nothing is a QueryError."""
    with pytest.raises(QueryError):
        translate({f"{path('tags', key)}\\{other}": 1}, TRIAL_FIELDS)
