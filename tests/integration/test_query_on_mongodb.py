"""Queries on the trials of a real MongoDB, compared with a plain model of its matching."""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profiles import examples
from pymongo import MongoClient
from trialstream.reading.paths import TRIAL_FIELDS, path
from trialstream.reading.query import find
from trialstream_schemas.model.aggregators import TimeSeriesAggregator
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.times import from_micros
from trialstream_schemas.model.trial import Trial, TrialError
from trialstream_schemas.storage.documents import trial_to_document

# Keys that could be mistaken for a path, an operator or an escape.
KEYS = ["a", "b", "a.b", ".", "$lr", "$", "$gt", "%", "%2E", "\\", "a\\.b", "a b", "é", "𝄞", "", "0", "-a"]
SCALARS = (
    *(None, False, True, 0, 1, 1.0, -1, 0.5, 2**63 - 1, -(2**63), math.nan, math.inf, -math.inf),
    *("", "a", "A", "a.b", "$gt", "é", "𝄞", b"", b"\0a", b"b"),
)
PATTERNS = [re.compile("a"), re.compile("^a$", re.IGNORECASE), re.compile(r"\."), re.compile("é|^$")]
TIMES = [from_micros(1_700_000_000_000_000 + n) for n in range(3)]
STATUSES = [None, Status.CreatedGroup, Status.Running, Status.Completed, CustomStatus("Paused", 7)]
MISSING = object()


# --- The model: MongoDB's matching, over plain trials


@dataclass(frozen=True)
class Leaf:
    """A condition on the value at some keys: operators by name, or a plain value."""

    keys: tuple[str, ...]
    condition: Any

    def to_query(self):
        """Return the user's query."""
        return {path(*self.keys): self.condition}

    def holds(self, plain):
        """Return whether a plain trial, or an element of a list, meets the condition."""
        found = list(places(plain, self.keys))
        condition = self.condition
        if not isinstance(condition, dict) or not any(key.startswith("$") for key in condition):
            condition = {"$in": [condition]}
        return all(meets(found, *item) for item in condition.items())


@dataclass(frozen=True)
class StatusLeaf:
    """A condition on the status of a trial."""

    condition: Any

    def to_query(self):
        """Return the user's query."""
        return {"status": self.condition}

    def holds(self, plain):
        """Return whether the status meets the condition; None, stored or asked for, is CreatedGroup."""
        name = plain["status"]["name"] if plain["status"] else "CreatedGroup"
        condition = self.condition
        if not isinstance(condition, dict):
            condition = {"$in": condition if isinstance(condition, list) else [condition]}
        [(key, given)] = condition.items()
        statuses = [each or Status.CreatedGroup for each in (given if isinstance(given, list) else [given])]
        names = [getattr(each, "name", each) for each in statuses]
        return (name in names) == (key in ("$eq", "$in"))


@dataclass(frozen=True)
class Combined:
    """Queries under `$and`, `$or` or `$nor`."""

    operator: str
    queries: tuple[Any, ...]

    def to_query(self):
        """Return the user's query."""
        return {self.operator: [each.to_query() for each in self.queries]}

    def holds(self, plain):
        """Return whether all, any or none of the queries hold."""
        held = [each.holds(plain) for each in self.queries]
        return {"$and": all(held), "$or": any(held), "$nor": not any(held)}[self.operator]


@dataclass(frozen=True)
class Element:
    """A list at some keys with an element for which a query holds."""

    keys: tuple[str, ...]
    query: Any

    def to_query(self):
        """Return the user's query."""
        return {path(*self.keys): {"$elemMatch": self.query.to_query()}}

    def holds(self, plain):
        """Return whether there is such a list."""
        lists = [x for x in places(plain, self.keys) if isinstance(x, list)]
        return any(isinstance(each, dict) and self.query.holds(each) for x in lists for each in x)


def places(x, keys):
    """Yield the values at the keys; a list on the way stands for the element at that index and every dict in it."""
    if not keys:
        yield x
    elif isinstance(x, dict):
        yield from places(x[keys[0]], keys[1:]) if keys[0] in x else [MISSING]
    elif isinstance(x, list):
        if keys[0].isdigit() and int(keys[0]) < len(x):
            yield from places(x[int(keys[0])], keys[1:])
        for each in x:
            if isinstance(each, dict):
                yield from places(each, keys)
    else:
        yield MISSING


def meets(found, key, given):
    """Return whether the values found meet one operator; a list does if it does itself or one of its elements does."""
    spread = [each for x in found for each in ([*x, x] if isinstance(x, list) else [x])]
    match key:
        case "$eq":
            return any(equal(x, given) for x in spread)
        case "$gt" | "$gte" | "$lt" | "$lte":
            return any(compares(x, key, given) for x in spread)
        case "$in":
            return any(matches(x, each) for x in spread for each in given)
        case "$all":
            return bool(given) and all(any(matches(x, each) for x in spread) for each in given)
        case "$regex":
            return any(matches(x, re.compile(given)) for x in spread)
        case "$ne":
            return not meets(found, "$eq", given)
        case "$nin":
            return not meets(found, "$in", given)
        case "$not":
            return not all(meets(found, *item) for item in given.items())
        case "$exists":
            return any(x is not MISSING for x in found) == given
        case "$size":
            return any(isinstance(x, list) and len(x) == given for x in found)
        case "$elemMatch":
            return any(
                all(meets([each], *item) for item in given.items()) for x in found if isinstance(x, list) for each in x
            )
    raise AssertionError(key)


def matches(x, given):
    """Return whether a value equals the given one or matches the given pattern."""
    if isinstance(given, re.Pattern):
        return isinstance(x, str) and given.search(x) is not None
    return equal(x, given)


def kind(x):
    """Return the kind of a value; MongoDB compares only values of one kind."""
    if x is MISSING or x is None:
        return "null"
    return {bool: "bool", int: "number", float: "number"}.get(type(x), type(x).__name__)


def equal(x, y):
    """Compare as MongoDB does: NaN equals itself, missing is null, True is not 1, and the order of keys counts."""
    if kind(x) != kind(y):
        return False
    match x:
        case list():
            return len(x) == len(y) and all(map(equal, x, y))
        case dict():
            return list(x) == list(y) and all(map(equal, x.values(), y.values()))
        case float() if math.isnan(x):
            return isinstance(y, float) and math.isnan(y)
    return kind(x) == "null" or x == y


def compares(x, key, y):
    """Compare the order as MongoDB does: values of one kind, bytes by length first, text by code point, NaN never."""
    if kind(x) != kind(y):
        return False
    if equal(x, y):
        return key in ("$gte", "$lte")
    if isinstance(x, bytes):
        x, y = (len(x), x), (len(y), y)
    return {"$gt": operator.gt, "$gte": operator.gt, "$lt": operator.lt, "$lte": operator.lt}[key](x, y)


def plain(trial):
    """Return a trial as a user sees it, with keys as they were given."""
    return {
        "uid": trial.uid,
        "name": trial.name,
        "revision": trial.revision,
        "parameters": trial.parameters,
        "metrics": {
            name: {"last": each.last, "avg": each.avg, "count": each.count} for name, each in trial.metrics.items()
        },
        "status": trial.status and {"name": trial.status.name, "code": trial.status.value},
        "errors": [{"type": each.type, "message": each.message} for each in trial.errors],
        "started": trial.started,
    }


# --- Random trials and queries

scalars = st.sampled_from(SCALARS)
keys = st.sampled_from(KEYS)
lists = st.lists(scalars | st.dictionaries(keys, scalars, max_size=2), max_size=3)
values = st.recursive(scalars | lists, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=6)
patterns = st.sampled_from(PATTERNS)
times = st.sampled_from(TIMES)
statuses = st.sampled_from(STATUSES)
names = statuses | st.sampled_from(["Running", "Paused"])


@st.composite
def trials(draw):
    """A few trials that share keys and values."""
    made = []
    for revision in range(draw(st.integers(1, 6))):
        trial = Trial(
            name=draw(st.sampled_from(["a", "b", "é."])),
            parameters=draw(st.dictionaries(keys, values, max_size=4)),
            revision=revision,
            status=draw(statuses),
            started=draw(st.none() | times),
            errors=[TrialError(each, "é", "", TIMES[0]) for each in draw(st.lists(st.sampled_from("ab"), max_size=2))],
        )
        for name, xs in draw(st.dictionaries(keys, st.lists(st.floats(-2, 2), min_size=1), max_size=2)).items():
            trial.metrics[name] = TimeSeriesAggregator()
            trial.metrics[name].extend(xs)
        made.append(trial)
    return made


def conditions(operands):
    """Conditions on one value, by every operator that is allowed there."""
    operators = st.one_of(
        st.tuples(st.sampled_from(["$eq", "$ne"]), values),
        st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), operands),
        st.tuples(st.sampled_from(["$in", "$nin", "$all"]), st.lists(operands | lists | patterns, max_size=3)),
        st.tuples(st.just("$exists"), st.booleans()),
        st.tuples(st.just("$size"), st.integers(0, 3)),
        st.tuples(st.just("$regex"), st.sampled_from(["a", "^$", "(?i)^A$", r"\."])),
    )
    simple = st.lists(operators, min_size=1, max_size=2).map(dict)
    return st.one_of(
        operands,
        patterns,
        lists,
        simple,
        simple.map(lambda inner: {"$not": inner}),
        simple.map(lambda inner: {"$elemMatch": inner}),
    )


parameters = st.lists(keys, max_size=3).map(lambda below: ("parameters", *below))
metrics = st.tuples(st.just("metrics"), keys, st.sampled_from(["last", "avg", "count"]))
fixed = st.sampled_from(
    [
        *(("name",), ("revision",), ("status", "code"), ("status", "name")),
        *(("errors",), ("errors", "type"), ("errors", "0", "type")),
    ]
)
time_conditions = (
    st.none() | times | st.dictionaries(st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), times)
)
time_leaves = st.builds(Leaf, st.just(("started",)), time_conditions.filter(lambda given: given != {}))
status_conditions = st.one_of(
    names,
    st.lists(names, max_size=3),
    st.tuples(st.sampled_from(["$eq", "$ne"]), names).map(lambda item: dict([item])),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(names, max_size=3)).map(lambda item: dict([item])),
)
leaves = st.builds(Leaf, parameters | metrics | fixed, conditions(scalars))
relative_leaves = st.builds(Leaf, st.tuples(keys) | st.just(("type",)), conditions(scalars))


def combined(inner):
    """Combinations of queries."""
    return st.builds(
        Combined, st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1, max_size=3).map(tuple)
    )


elements = st.builds(Element, parameters | st.just(("errors",)), relative_leaves | combined(relative_leaves))
queries = st.recursive(
    leaves | elements | time_leaves | st.builds(StatusLeaf, status_conditions), combined, max_leaves=4
)


@pytest.fixture
def collection(config):
    """The collection of trials in a database that nothing else uses."""
    with MongoClient(config.mongo) as client:
        yield client[config.database].trials
        client.drop_database(config.database)


def found(collection, query, sort=None, limit=None):
    """Return the revisions of the trials that MongoDB finds, in its order."""
    asked = find(query, TRIAL_FIELDS, sort, limit)
    if asked.order.computed:
        cursor = collection.aggregate(asked.stages())
    else:
        cursor = collection.find(asked.filter, sort=asked.order.keys, limit=asked.limit)
    return [document["revision"] for document in cursor]


@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some=trials(), several=st.lists(queries, min_size=1, max_size=5))
def test_mongodb_finds_the_trials_that_the_model_finds(collection, some, several):
    """MongoDB finds exactly the trials for which the query holds on the trials themselves."""
    collection.delete_many({})
    collection.insert_many([trial_to_document(trial) for trial in some])

    for query in several:
        expected = [trial.revision for trial in some if query.holds(plain(trial))]
        assert sorted(found(collection, query.to_query())) == expected, query.to_query()


def test_each_odd_key_is_found_alone(collection):
    """A key is found by its path at every depth, and no key is taken for another."""
    collection.insert_many(
        trial_to_document(Trial(name="a", parameters={key: {key: [{key: 1}]}}, revision=i))
        for i, key in enumerate(KEYS)
    )

    for i, key in enumerate(KEYS):
        assert found(collection, {path("parameters", key): {"$exists": True}}) == [i]
        assert found(collection, {path("parameters", key, key): {"$size": 1}}) == [i]
        assert found(collection, {path("parameters", key, key): {"$elemMatch": {path(key): 1}}}) == [i]
        assert found(collection, {path("parameters", key, key): {"$in": [[{key: 1}]]}}) == [i]
        assert found(collection, {"parameters": {"$eq": {key: {key: [{key: 1}]}}}}) == [i]


def test_sorting_and_odd_keys(collection):
    """Trials are sorted by keys of any name, and equal ones by their uid."""
    collection.insert_many(
        trial_to_document(Trial(name="a", parameters={}, tags={"a.b": n}, revision=i))
        for i, n in enumerate([2, 1, 3, 1])
    )

    assert found(collection, {}, path("tags", "a.b")) == [1, 3, 0, 2]
    assert found(collection, {}, ["-" + path("tags", "a.b"), "-uid"]) == [2, 0, 3, 1]
    assert found(collection, {}) == [0, 1, 2, 3]


def is_nothing(x):
    """Return whether a value comes last: missing, null, or NaN."""
    return x is MISSING or x is None or (isinstance(x, float) and math.isnan(x))


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(*[st.sampled_from([MISSING, None, math.nan, math.inf, -math.inf, -1, 0, 0.5, 2])] * 2), max_size=8
    ),
    directions=st.tuples(*[st.sampled_from([1, -1])] * 2),
    limit=st.none() | st.integers(1, 9),
)
def test_nothing_comes_last_in_either_direction(collection, rows, directions, limit):
    """Missing values, null and NaN come after all numbers, by each key in turn, before the limit is applied."""
    collection.delete_many({})
    for revision, row in enumerate(rows):
        parameters = {key: x for key, x in zip(["a.b", "b"], row, strict=True) if x is not MISSING}
        collection.insert_one(trial_to_document(Trial(name="a", parameters=parameters, revision=revision)))
    paths = [path("parameters", "a.b"), path("parameters", "b")]
    got = found(collection, {}, list(zip(paths, directions, strict=True)), limit)

    everything = found(collection, {}, list(zip(paths, directions, strict=True)))
    assert sorted(everything) == list(range(len(rows)))
    assert got == everything[:limit]
    firsts = [rows[i][0] for i in everything]
    numbers = [x for x in firsts if not is_nothing(x)]
    assert not any(map(is_nothing, firsts[: len(numbers)]))
    assert numbers == sorted(numbers, reverse=directions[0] == -1)
    for x in set(numbers):
        seconds = [rows[i][1] for i in everything if rows[i][0] == x and not is_nothing(rows[i][0])]
        some = [y for y in seconds if not is_nothing(y)]
        assert not any(map(is_nothing, seconds[: len(some)]))
        assert some == sorted(some, reverse=directions[1] == -1)


def test_sorting_by_metrics_times_and_elements(collection):
    """Trials without a metric, a time, a status or an element come last; the uid decides between equal ones."""
    lists = [[{"n": 2}], [], None, [{"n": 1}, {"n": 3}], MISSING]
    for revision, (each, loss) in enumerate(zip(lists, [[2.0], [math.nan], [], [1.0], None], strict=True)):
        trial = Trial(name="a", tags={} if each is MISSING else {"l": each, "0": revision % 2}, revision=revision)
        trial.created = TIMES[0]
        if loss is not None:
            trial.metrics["loss"] = TimeSeriesAggregator()
            trial.metrics["loss"].extend(loss)
        if revision in (1, 3):
            trial.started, trial.status = TIMES[revision % 2], Status.Running
            trial.errors = [TrialError("abcd"[revision], "", "", TIMES[0])]
        collection.insert_one(trial_to_document(trial))

    assert found(collection, {}, "metrics.loss.last") == [3, 0, 1, 2, 4]
    assert found(collection, {}, "-metrics.loss.last") == [0, 3, 1, 2, 4]
    assert found(collection, {}, "metrics.loss.avg", 3) == [3, 0, 1]
    assert found(collection, {}, ["started", "-uid"]) == [3, 1, 4, 2, 0]
    assert found(collection, {}, "status") == [1, 3, 0, 2, 4]
    assert found(collection, {}, "errors.0.type") == found(collection, {}, "errors.type") == [1, 3, 0, 2, 4]
    assert found(collection, {}, "tags.l.0.n") == [3, 0, 1, 2, 4]
    assert found(collection, {}, "tags.l.1.n") == [3, 0, 1, 2, 4]
    assert found(collection, {}, "tags.l") == [3, 0, 1, 2, 4]
    assert found(collection, {}, "tags.0") == [0, 2, 1, 3, 4]


def test_the_largest_valid_queries(collection):
    """MongoDB accepts every query that the limits of depth and length allow."""
    value: Any = 1
    for _ in range(64):
        value = {"a": value}
    for key, wrap in [("$and", lambda x: {"$and": [x]}), ("$elemMatch", lambda x: {"tags": {"$elemMatch": x}})]:
        query = {"tags.a": {"$in": [value]}}
        for _ in range(32):
            query = wrap(query)
        assert found(collection, query) == [], key

    assert found(collection, {"tags" + ".a" * 99: 1}) == []
    assert found(collection, {}, [f"tags.a.{i}" for i in range(31)]) == []
    assert found(collection, {}, "tags" + ".0" * 16 + ".a" * 83) == []
    assert found(collection, {}, "-tags" + ".a" * 99) == []


def test_time_and_identity(collection):
    """Times are compared to the microsecond, and a trial is found by its uid."""
    some = [Trial(name="a", revision=i, created=time) for i, time in enumerate(TIMES)]
    collection.insert_many(map(trial_to_document, some))

    assert found(collection, {"created": {"$gt": TIMES[0], "$lte": TIMES[1]}}) == [1]
    assert found(collection, {"uid": some[2].uid}) == [2]


def test_times_as_text_and_as_dates(collection):
    """Text and dates find the trials that the datetimes of the same times find."""
    days = [datetime(2026, 1, day, 12, tzinfo=UTC) for day in (1, 2, 3)]
    some = [
        Trial(name="a", revision=i, created=time, started=time, errors=[TrialError("a", "", "", time)])
        for i, time in enumerate(days)
    ]
    collection.insert_many(map(trial_to_document, [*some, Trial(name="a", revision=3, created=days[0])]))

    for field in ("started", "errors.time", "errors.0.time"):
        assert found(collection, {field: {"$gte": "2026-01-02T12:00:00Z"}}) == [1, 2]
        assert found(collection, {field: {"$gt": "2026-01-02T13:00+01:00"}}) == [2]
        assert found(collection, {field: {"$lt": date(2026, 1, 2)}}) == [0]
        assert found(collection, {field: "2026-01-02T12:00:00"}) == [1]
        assert found(collection, {field: {"$in": ["2026-01-01T12", days[2]]}}) == [0, 2]
        assert found(collection, {field: {"$not": {"$gt": "2026-01-01T12"}}}) == [0, 3]
    assert found(collection, {"errors": {"$elemMatch": {"time": {"$gte": "2026-01-03"}, "type": "a"}}}) == [2]
    assert found(collection, {"started": None}) == [3]


def test_built_in_statuses_in_any_case(collection):
    """The name of a built-in status is found in any case, that of a custom one as it is."""
    statuses = [Status.Suspended, CustomStatus("Paused", 7), CustomStatus.stored("suspended", 8), None]
    collection.insert_many(
        trial_to_document(Trial(name="a", revision=i, status=each)) for i, each in enumerate(statuses)
    )

    assert found(collection, {"status": "suspended"}) == [0]
    assert found(collection, {"status": ["SUSPENDED", "paused", None]}) == [0, 3]
    assert found(collection, {"status": {"$nin": ["suspended", "Paused"]}}) == [2, 3]
    assert found(collection, {"status": statuses[2]}) == found(collection, {"status.name": "suspended"}) == [2]


def test_trials_without_a_status_in_their_document(collection):
    """Queries for CreatedGroup, or for None, find documents that say so and those of earlier versions, which do not."""
    documents = [
        trial_to_document(Trial(name="a", revision=i, status=each))
        for i, each in enumerate([Status.CreatedGroup, None, Status.Running, None])
    ]
    del documents[3]["status"]
    collection.insert_many(documents)

    for status in (Status.CreatedGroup, "CreatedGroup", "createdgroup", None):
        assert found(collection, {"status": status}) == [0, 1, 3]
        assert found(collection, {"status": {"$eq": status}}) == [0, 1, 3]
        assert found(collection, {"status": [status, "Running"]}) == [0, 1, 2, 3]
        assert found(collection, {"status": {"$ne": status}}) == [2]
        assert found(collection, {"status": {"$nin": [status]}}) == [2]
        assert found(collection, {"status": {"$eq": status, "$in": [status, "Running"]}}) == [0, 1, 3]
        assert found(collection, {"status": {"$ne": status, "$nin": ["Running"]}}) == []
    assert found(collection, {"status.name": "CreatedGroup"}) == [0]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        pytest.param("^[[:alpha:]]+$", [0, 2], id="a class"),
        pytest.param("[[:digit:]!]", [1, 3], id="a class and a character"),
        pytest.param("[^[:lower:]]", [1, 2, 3], id="all but a class"),
        pytest.param("[[!]", [3], id="a bracket"),
    ],
)
def test_posix_classes_in_patterns(collection, pattern, wanted):
    """MongoDB matches sets of characters of which Python's `re` warns."""
    names = ["ab", "a1", "Ab", "a[!"]
    collection.insert_many(trial_to_document(Trial(name=name, revision=i)) for i, name in enumerate(names))

    assert sorted(found(collection, {"name": {"$regex": pattern}})) == wanted
