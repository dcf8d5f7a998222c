"""Bounds of queries: MongoDB ends a query between documents only, so what one document takes is bounded here."""

from __future__ import annotations

import re
import time

import pytest
import trialstream as ts
from trialstream.reading import budget
from trialstream.reading.operands import MAX_PATTERN
from trialstream.reading.paths import TRIAL_FIELDS
from trialstream.reading.query import MAX_CONDITIONS, MAX_PATTERNS, translate
from trialstream_schemas.errors import QueryError

P = re.compile("x")
# Queries with a number of patterns.
PATTERNS = {
    "$nor": lambda n: {"$nor": [{"name": {"$regex": "x"}}] * n},
    "$and of equalities": lambda n: {"$and": [{"name": P}] * n},
    "$in": lambda n: {"name": {"$in": [P] * n}},
    "$all": lambda n: {"parameters.a": {"$all": [P] * n}},
    "$not": lambda n: {"$or": [{"name": {"$not": {"$regex": "x"}}}] * n},
    "$elemMatch": lambda n: {"$or": [{"parameters.a": {"$elemMatch": {"$regex": "x"}}}] * n},
    "$elemMatch of queries": lambda n: {"errors": {"$elemMatch": {"$or": [{"message": P}] * n}}},
    "mixed": lambda n: {"name": P, "tags.a": {"$in": [P] * (n - 1)}},
}
CONDITIONS = {
    "paths": (lambda n: {f"tags.k{i}": 1 for i in range(n)}, MAX_CONDITIONS),
    "$or": (lambda n: {"$or": [{"tags.a": i} for i in range(n)]}, MAX_CONDITIONS - 1),
    "operators": (lambda n: {"$or": [{"tags.a": {"$gt": i}} for i in range(n)]}, (MAX_CONDITIONS - 1) // 2),
    "$all": (lambda n: {"tags.a": {"$all": list(range(n))}}, MAX_CONDITIONS - 2),
    "$elemMatch": (lambda n: {"tags.a": {"$elemMatch": {f"k{i}": 1 for i in range(n)}}}, MAX_CONDITIONS - 2),
}


@pytest.mark.parametrize("query", PATTERNS.values(), ids=PATTERNS)
def test_the_number_of_patterns_is_bounded(query):
    """The message names the path of the first one too many."""
    assert translate(query(MAX_PATTERNS), TRIAL_FIELDS)
    with pytest.raises(QueryError, match=rf"query: expected at most {MAX_PATTERNS} patterns, got more at \S+"):
        translate(query(MAX_PATTERNS + 1), TRIAL_FIELDS)


@pytest.mark.parametrize(("query", "most"), CONDITIONS.values(), ids=CONDITIONS)
def test_the_number_of_conditions_is_bounded(query, most):
    """Conditions of every kind count, however deep."""
    assert translate(query(most), TRIAL_FIELDS)
    with pytest.raises(QueryError, match=f"query: expected at most {MAX_CONDITIONS} conditions, got more at "):
        translate(query(most + 1), TRIAL_FIELDS)


def test_long_lists_of_values_are_one_condition():
    """MongoDB finds a value in a sorted list, so `$in` takes thousands."""
    assert translate({"uid": {"$in": [str(i) for i in range(100_000)]}}, TRIAL_FIELDS)


@pytest.mark.parametrize("pattern", [lambda n: "x" * n, lambda n: re.compile("x" * n)], ids=["text", "compiled"])
def test_the_length_of_a_pattern_is_bounded(pattern):
    """The message names its place and both lengths, and does not quote it."""
    assert translate({"name": {"$regex": pattern(MAX_PATTERN)}}, TRIAL_FIELDS)
    with pytest.raises(QueryError, match=r"name \$regex: expected a pattern of at most 4096 characters, got 4097$"):
        translate({"name": {"$regex": pattern(MAX_PATTERN + 1)}}, TRIAL_FIELDS)


async def test_the_reader_in_memory_has_the_same_bounds():
    """A query that MongoDB does not get is refused in memory, too."""
    async with ts.connect("memory:") as protocol:
        for query in (PATTERNS["$nor"](900), CONDITIONS["$or"][0](5000)):
            for read in (protocol.fetch_trials, lambda query: protocol.fetch_values(["name"], query)):
                with pytest.raises(QueryError, match="expected at most"):
                    await read(query)


async def test_a_read_in_memory_ends_between_documents():
    """A query over many documents ends at the timeout, with the same error."""
    async with ts.connect("memory:", timeout=0.1) as protocol:
        for i in range(40):
            await protocol.new_trial(ts.Trial(name=f"t{i}", description="a" * 22 + "b"))
        with pytest.raises(ts.QueryTimeout, match=r"the query took longer than 0\.1 s and was ended"):
            await protocol.fetch_trials({"description": {"$regex": "^(a|aa)+$"}})
        assert len(await protocol.fetch_trials({"name": "t3"})) == 1


def test_a_budget_is_shared_by_what_is_within_it():
    """An inner block has no more time than the outer one, and the error names the timeout of the whole call."""
    assert budget.remaining(7.0) == 7.0
    with budget.within(0.2):
        assert 0.1 < budget.remaining(7.0) <= 0.2
        with budget.within(60.0):
            assert budget.remaining(7.0) <= 0.2
            assert "longer than 0.2 s" in str(budget.timed_out(7.0))
        with budget.within(0.0):
            assert budget.remaining(7.0) == 0.0
            time.sleep(0.001)
            with pytest.raises(ts.QueryTimeout, match=r"longer than 0\.2 s"):
                list(budget.in_time([1]))
        assert list(budget.in_time([1])) == [1]
    assert budget.remaining(7.0) == 7.0
    assert budget.remaining(float("inf")) == float("inf")
