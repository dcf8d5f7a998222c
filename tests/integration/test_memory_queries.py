"""Queries in memory: the same answers as those of a real MongoDB, for the same documents."""

from __future__ import annotations

import re

import pytest
import test_query_on_mongodb as on_mongodb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profiles import examples
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from trialstream.reading.fields import partial_fields
from trialstream.reading.live import _QUERY_ERRORS
from trialstream.reading.paths import TRIAL_FIELDS, path
from trialstream.reading.query import find, translate
from trialstream.reading.sorting import sort_keys
from trialstream_consumer.memory.finding import found_documents
from trialstream_schemas.errors import QueryError
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.storage.documents import trial_to_document

KEYS = ["a", "b", "0", "1", "a.b", "$gt"]
SOME = st.sampled_from([None, True, False, 0, 1, 1.0, -0.5, float("nan"), float("inf"), 2**53 + 1, "", "a", "é", b"a"])
VALUES = st.recursive(
    SOME,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=10,
)
PATHS = st.lists(st.sampled_from(KEYS), max_size=4).map(lambda keys: path("parameters", *keys))
TRIALS = st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4), min_size=1, max_size=5)
PATTERNS = st.sampled_from(
    [re.compile("a"), re.compile("^É$", re.IGNORECASE), re.compile(r"^\w"), re.compile(r"\Wx|^$")]
)


def conditions(inner):
    """Conditions of any nesting on the values at one path."""
    operators = st.one_of(
        st.tuples(st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), VALUES),
        st.tuples(st.sampled_from(["$in", "$nin", "$all"]), st.lists(VALUES | PATTERNS, max_size=3)),
        st.tuples(st.just("$exists"), st.booleans()),
        st.tuples(st.just("$size"), st.integers(0, 3)),
        st.tuples(st.just("$regex"), st.sampled_from(["a", "^$", r"\W", "[[:alpha:]]"])),
        st.tuples(st.sampled_from(["$not", "$elemMatch"]), inner),
        st.tuples(st.just("$elemMatch"), st.dictionaries(st.sampled_from(["a", "0", "a.0", "0.1", "b.a"]), inner)),
    )
    return st.lists(operators, min_size=1, max_size=2).map(dict)


CONDITIONS = st.recursive(
    st.builds(lambda key, x: {key: x}, st.sampled_from(["$eq", "$gt", "$lte", "$ne"]), VALUES), conditions, max_leaves=4
)


def is_supported(query):
    """Whether the Protocol takes a query: a dict with an operator as key cannot be an operand everywhere."""
    try:
        return bool(translate(query, TRIAL_FIELDS))
    except QueryError:
        return False


CLAUSES = st.dictionaries(PATHS, SOME | PATTERNS | CONDITIONS, min_size=1, max_size=2).filter(is_supported)
QUERIES = st.recursive(
    CLAUSES,
    lambda inner: st.builds(
        lambda key, parts: {key: parts},
        st.sampled_from(["$and", "$or", "$nor"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=3,
)
SORTS = st.lists(st.tuples(PATHS, st.sampled_from([1, -1])), max_size=3)
LIMITS = st.none() | st.integers(1, 3)
FIELDS = st.none() | st.lists(PATHS | st.sampled_from(["status", "metrics.loss", "uid", "errors"]), max_size=3)


@pytest.fixture(scope="module")
def collection(stack):
    """A collection of trials that nothing else uses."""
    with MongoClient(stack.mongo.uri) as client:
        yield client["memory-queries"].trials
        client.drop_database("memory-queries")


def of_mongodb(collection, query, sort, limit, fields):
    """Return what MongoDB answers; None if it refuses the sort, such as one by several paths that lead to lists."""
    asked = find(query, TRIAL_FIELDS, sort, limit)
    projection = partial_fields(fields, "trials").projection
    try:
        if asked.order.computed:
            return list(collection.aggregate(asked.stages(projection)))
        return list(collection.find(asked.filter, projection, sort=asked.order.keys, limit=asked.limit))
    except OperationFailure as error:
        if error.code in _QUERY_ERRORS:
            return None
        raise


def in_memory(documents, query, sort, limit, fields):
    """Return the answer in memory; None as for MongoDB."""
    asked = find(query, TRIAL_FIELDS, sort, limit)
    projection = partial_fields(fields, "trials").projection
    try:
        return found_documents(documents, asked.filter, sort_keys(sort, TRIAL_FIELDS), asked.limit, projection)
    except QueryError:
        return None


def same_as_mongodb(collection, documents, query, sort=None, limit=None, fields=None):
    """Compare the two answers, in their order and to the type of each value."""
    ours = in_memory(documents, query, sort, limit, fields)
    theirs = of_mongodb(collection, query, sort, limit, fields)
    return repr(ours) == re.sub(r"Int64\((-?\d+)\)", r"\1", repr(theirs))


@settings(max_examples=examples(200), deadline=None, suppress_health_check=list(HealthCheck))
@given(TRIALS, st.lists(st.tuples(QUERIES, SORTS, LIMITS, FIELDS), min_size=1, max_size=6))
def test_any_query_on_any_values(collection, some, asked):
    """Queries with every operator, on nested values, have the same answer, in the same order."""
    documents = [trial_to_document(Trial(name="a", revision=i, parameters=each)) for i, each in enumerate(some)]
    collection.delete_many({})
    collection.insert_many(documents)

    for query, sort, limit, fields in asked:
        assert same_as_mongodb(collection, documents, query, sort, limit, fields), (query, sort, limit, fields)
    for _, sort, _, _ in asked:
        assert same_as_mongodb(collection, documents, {}, sort), sort


@settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
@given(on_mongodb.trials(), st.lists(on_mongodb.queries, min_size=1, max_size=5))
def test_queries_on_trials(collection, some, several):
    """Queries of statuses, times, errors, metrics and users' keys have the same answer."""
    documents = [trial_to_document(trial) for trial in some]
    collection.delete_many({})
    collection.insert_many(documents)

    for query in several:
        asked = query.to_query()
        assert same_as_mongodb(collection, documents, asked, "revision"), asked


PATTERN_TEXTS = [
    *(
        "^[[:alpha:]]+$",
        "[[:digit:]!]",
        "[^[:lower:]]",
        "[[!]",
        r"[\w]",
        r"[^\W\d]",
        r"\bé",
        r"é\b",
        r"\d",
        r"\s",
        r"a\Z",
    ),
    *(
        r"(?i)É",
        r"^.$",
        r"(?s)^.$",
        r"(?m)^b$",
        "a$",
        "[&&]",
        "[a-c&&]",
        r"[\]]",
        "[]a]",
        "[^]a]",
        r"\.",
        "[[:^punct:]]",
    ),
    *("[[:space:]]", "[[:word:]]", "[[:blank:]]", "[[:^word:]]", "[[:xdigit:]]", "[[:graph:]]", "[[:print:]]"),
    *(r"[\s]", r"[\S]", r"[^\s]", r"[\D]", r"\W\Z", "(?i)[[:upper:]]", "[[:cntrl:]]", "[[:^ascii:]]", r"[\-a]"),
]
TEXTS = [
    "",
    "a",
    "é",
    "É",
    "1",
    "a1",
    "a\n",
    "\n",
    "b\n",
    "a\nb\n",
    "[",
    "]",
    "&",
    "-",
    ".",
    " ",
    "\t",
    "_",
    "x\x7f",
    "Å",
    "٣",
]


@pytest.mark.parametrize("pattern", PATTERN_TEXTS)
def test_patterns(collection, pattern):
    """Patterns match the same texts, though Python's `re` reads classes otherwise than MongoDB."""
    documents = [trial_to_document(Trial(name="a", revision=i, tags={"x": x})) for i, x in enumerate(TEXTS)]
    collection.delete_many({})
    collection.insert_many(documents)

    assert same_as_mongodb(collection, documents, {"tags.x": {"$regex": pattern}}, "revision")
