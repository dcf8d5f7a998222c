"""Translation of users' queries for MongoDB."""

from __future__ import annotations

import re
import warnings
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest
from trialstream.reading.fields import partial_fields
from trialstream.reading.paths import GROUP_FIELDS, PROJECT_FIELDS, TRIAL_FIELDS, path
from trialstream.reading.query import check_limit, find, translate
from trialstream.reading.sorting import order, sort_keys
from trialstream_schemas.errors import QueryError
from trialstream_schemas.model.attempts import TrialAttempt
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.trial import Project, Trial, TrialGroup
from trialstream_schemas.storage.documents import group_to_document, project_to_document, trial_to_document

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
MICROS = 1767355200000000
WEST = timezone(timedelta(hours=-1))


def translated(query):
    """Return the translation of a query for trials."""
    return translate(query, TRIAL_FIELDS)


@pytest.mark.parametrize(
    ("fields", "document"),
    [
        pytest.param(
            TRIAL_FIELDS, trial_to_document(Trial(name="a", attempts=[TrialAttempt("k", 1, NOON)])), id="trials"
        ),
        pytest.param(GROUP_FIELDS, group_to_document(TrialGroup(name="a")), id="groups"),
        pytest.param(PROJECT_FIELDS, project_to_document(Project(name="a")), id="projects"),
    ],
)
def test_every_field_of_a_document_can_be_queried(fields, document):
    """All fields of a document can be queried, with `uid` for `_id`."""
    assert set(fields.values()) == set(document)
    assert set(fields) == set(document) - {"_id"} | {"uid"}


PATTERN = re.compile("^ml", re.IGNORECASE)
# Name of a case: a condition on `parameters.x`, and its translation.
CONDITIONS = {
    "equality": (1, 1),
    "None": (None, None),
    "bytes": (b"\0", b"\0"),
    "a tuple": ((1, 2), [1, 2]),
    "a numpy scalar": (np.int32(3), 3),
    "a datetime": (NOON, MICROS),
    "a pattern": (PATTERN, PATTERN),
    "a dict": ({"a.b": {"": 1}}, {"a%2Eb": {"%": 1}}),
    "an empty dict": ({}, {}),
    "$eq": ({"$eq": 1}, {"$eq": 1}),
    "$eq with a dict like an operator": ({"$eq": {"$gt": 1}}, {"$eq": {"%24gt": 1}}),
    "$ne": ({"$ne": "a"}, {"$ne": "a"}),
    "$gt and $lte": ({"$gt": 0, "$lte": NOON}, {"$gt": 0, "$lte": MICROS}),
    "$gte and $lt": ({"$gte": np.float64(0.5), "$lt": 2}, {"$gte": 0.5, "$lt": 2}),
    "$in": ({"$in": (1, None, PATTERN)}, {"$in": [1, None, PATTERN]}),
    "$in with a set": ({"$in": {1}}, {"$in": [1]}),
    "$nin": ({"$nin": []}, {"$nin": []}),
    "$all": ({"$all": [1, {"a.b": 2}]}, {"$all": [1, {"a%2Eb": 2}]}),
    "$not with operators": ({"$not": {"$gt": 1, "$exists": True}}, {"$not": {"$gt": 1, "$exists": True}}),
    "$not with a pattern": ({"$not": PATTERN}, {"$not": PATTERN}),
    "$exists": ({"$exists": False}, {"$exists": False}),
    "$regex with text": ({"$regex": "(?i)^ml"}, {"$regex": "(?i)^ml"}),
    "$regex with a pattern": ({"$regex": PATTERN}, {"$regex": PATTERN}),
    "$size": ({"$size": np.int64(2)}, {"$size": 2}),
    "$elemMatch with operators": ({"$elemMatch": {"$gt": 1, "$lt": 3}}, {"$elemMatch": {"$gt": 1, "$lt": 3}}),
    "$elemMatch with a query": ({"$elemMatch": {r"a\.b.c": 1}}, {"$elemMatch": {"a%2Eb.c": 1}}),
    "$elemMatch with $or": ({"$elemMatch": {"$or": [{"a": 1}]}}, {"$elemMatch": {"$or": [{"a": 1}]}}),
    "$elemMatch in $elemMatch": (
        {"$elemMatch": {"l": {"$elemMatch": {"": NOON}}}},
        {"$elemMatch": {"l": {"$elemMatch": {"%": MICROS}}}},
    ),
    "$elemMatch knows no fields": ({"$elemMatch": {"status": 1, "uid": 2}}, {"$elemMatch": {"status": 1, "uid": 2}}),
}


@pytest.mark.parametrize(("asked", "given"), CONDITIONS.values(), ids=CONDITIONS)
def test_condition(asked, given):
    """A condition is passed to MongoDB unchanged, with its values in their stored form."""
    assert translated({"parameters.x": asked}) == {"parameters.x": given}


@pytest.mark.parametrize("operator", ["$and", "$or", "$nor"])
def test_queries_are_combined(operator):
    """`$and`, `$or` and `$nor` take queries, each of which is translated."""
    asked = {operator: [{"uid": "a"}, {"$or": ({"status": "Running"},)}], "name": "b"}

    assert translated(asked) == {operator: [{"_id": "a"}, {"$or": [{"status.name": "Running"}]}], "name": "b"}


def test_the_empty_query_stays_empty():
    """The empty query, which matches all documents, is translated to itself."""
    assert translated({}) == {}


@pytest.mark.parametrize("fields", [TRIAL_FIELDS, GROUP_FIELDS, PROJECT_FIELDS], ids=["trials", "groups", "projects"])
def test_no_query_matches_all_documents(fields):
    """No query is the empty query, with the default order and any limit."""
    assert find(None, fields) == find({}, fields)
    assert find(None, fields, "-name", 3) == find({}, fields, "-name", 3)


def test_the_given_query_is_not_changed():
    """Translating a query does not change the given dict."""
    inner = {"$in": [NOON]}
    query = {"created": inner, "$and": [{"status": [Status.Running]}]}

    translated(query)

    assert query == {"created": {"$in": [NOON]}, "$and": [{"status": [Status.Running]}]}


PATHS = {
    "the uid": ("uid", "_id"),
    "a field": ("revision", "revision"),
    "a key": ("parameters.lr", "parameters.lr"),
    "an aggregator's statistic": ("metrics.loss.last", "metrics.loss.last"),
    "an index": ("errors.0.type", "errors.0.type"),
    "a dot in a key": (r"metrics.val\.loss.last", "metrics.val%2Eloss.last"),
    "a backslash in a key": (r"tags.a\\.b", r"tags.a\.b"),
    "a leading dollar": ("parameters.$lr", "parameters.%24lr"),
    "an escaped dollar": (r"parameters.\$lr", "parameters.%24lr"),
    "a percent sign": ("parameters.%2E", "parameters.%252E"),
    "the empty key": ("parameters.", "parameters.%"),
    "the empty key inside": ("parameters..a", "parameters.%.a"),
    "spaces and Unicode": ("tags.é 𝄞\n", "tags.é 𝄞\n"),
    "the name of a status": ("status.name", "status.name"),
    "the code of a status": ("status.code", "status.code"),
}


@pytest.mark.parametrize(("asked", "given"), PATHS.values(), ids=PATHS)
def test_path_of_a_query(asked, given):
    """A path is split at its dots, and its keys are escaped as in documents."""
    assert translated({asked: 1}) == {given: 1}


@pytest.mark.parametrize(
    ("keys", "joined"),
    [
        pytest.param(("parameters", "lr"), "parameters.lr", id="plain keys"),
        pytest.param(("metrics", "val.loss", "last"), r"metrics.val\.loss.last", id="a dot"),
        pytest.param(("tags", "a\\.b"), r"tags.a\\\.b", id="a backslash and a dot"),
        pytest.param(("tags", ""), "tags.", id="the empty key"),
        pytest.param(("tags", "$x"), "tags.$x", id="a dollar below a field"),
        pytest.param(("$x", "$y"), r"\$x.$y", id="a dollar first, for $elemMatch"),
    ],
)
def test_path_joins_keys(keys, joined):
    """`path` escapes characters that would split a key or make it an operator."""
    assert path(*keys) == joined


# The names under which documents have the status of new trials: earlier versions stored null.
CREATED = ["CreatedGroup", None]
STATUSES = {
    "a Status": (Status.Running, "Running"),
    "a CustomStatus": (CustomStatus("Paused", 7), "Paused"),
    "a name": ("Paused", "Paused"),
    "the status of new trials": (Status.CreatedGroup, {"$in": CREATED}),
    "its name": ("createdgroup", {"$in": CREATED}),
    "none set": (None, {"$in": CREATED}),
    "any of a list": ([Status.Running, "Paused", None], {"$in": ["Running", "Paused", *CREATED]}),
    "any of a tuple": ((Status.Broken,), {"$in": ["Broken"]}),
    "any of a set": ({Status.Broken}, {"$in": ["Broken"]}),
    "$eq": ({"$eq": Status.Running}, {"$in": ["Running"]}),
    "$eq None": ({"$eq": None}, {"$in": CREATED}),
    "$ne": ({"$ne": "Running"}, {"$nin": ["Running"]}),
    "$ne None": ({"$ne": None}, {"$nin": CREATED}),
    "$in": ({"$in": [Status.Running, None]}, {"$in": ["Running", *CREATED]}),
    "$nin": ({"$nin": {"Running"}, "$ne": "Broken"}, {"$nin": ["Running", "Broken"]}),
    "$eq and $in with a common status": ({"$in": ["Running", "a", None], "$eq": None}, {"$in": CREATED}),
    "$eq and $in without one": ({"$eq": "Running", "$in": ["a", None]}, {"$in": []}),
    "a built-in name in small letters": ("suspended", "Suspended"),
    "a built-in name in capitals": ("RUNNINGGROUP", "RunningGroup"),
    "built-in names of a list": (["running", "paused", "CREATEDGROUP"], {"$in": ["Running", "paused", *CREATED]}),
    "built-in names below operators": (
        {"$eq": "running", "$ne": "BROKEN", "$in": ["exception", "RUNNING"], "$nin": {"completed"}},
        {"$in": ["Running"], "$nin": ["Broken", "Completed"]},
    ),
    "a CustomStatus like a built-in name": (CustomStatus.stored("running", 7), "running"),
    "a name like a built-in one": ("Running ", "Running "),
}


@pytest.mark.parametrize(("asked", "given"), STATUSES.values(), ids=STATUSES)
def test_status(asked, given):
    """A status is translated to its name, in every form in which it can be given."""
    assert translated({"status": asked}) == {"status.name": given}


def test_status_names_are_matched_exactly():
    """Conditions on `status.name` are matched as they are."""
    assert translated({"status.name": "running"}) == {"status.name": "running"}


# Name of a case: a condition on a time, and its translation.
TIMES = {
    "a datetime": (NOON, MICROS),
    "a datetime of another zone": (NOON.astimezone(WEST), MICROS),
    "text in UTC": ("2026-01-02T12:00:00Z", MICROS),
    "text without a zone": ("2026-01-02 12:00", MICROS),
    "text of another zone": ("2026-01-02T11:00:00.000001-01:00", MICROS + 1),
    "text of a day": ("2026-01-02", MICROS - 12 * 3600 * 1_000_000),
    "a date": (date(2026, 1, 2), MICROS - 12 * 3600 * 1_000_000),
    "None": (None, None),
    "comparisons": ({"$gt": "2026-01-02T12:00Z", "$lte": NOON}, {"$gt": MICROS, "$lte": MICROS}),
    "equality by operator": ({"$eq": "2026-01-02T12", "$ne": None}, {"$eq": MICROS, "$ne": None}),
    "lists": (
        {"$in": [None, "2026-01-02T12"], "$nin": (NOON,), "$all": {NOON}},
        {"$in": [None, MICROS], "$nin": [MICROS], "$all": [MICROS]},
    ),
    "$not": ({"$not": {"$lt": "2026-01-02T12"}}, {"$not": {"$lt": MICROS}}),
    "$elemMatch": ({"$elemMatch": {"$lt": "2026-01-02T12"}}, {"$elemMatch": {"$lt": MICROS}}),
    "$exists": ({"$exists": True}, {"$exists": True}),
}
TIME_PATHS = ["created", "started", "finished", "last_seen", "errors.time", "errors.0.time"]


@pytest.mark.parametrize("field", TIME_PATHS)
@pytest.mark.parametrize(("asked", "given"), TIMES.values(), ids=TIMES)
def test_time(asked, given, field):
    """A time is a datetime, a date or ISO 8601 text, in every operator."""
    assert translated({field: asked}) == {field: given}
    assert translated({"$or": [{field: asked}]}) == {"$or": [{field: given}]}


@pytest.mark.parametrize(("asked", "given"), TIMES.values(), ids=TIMES)
def test_time_of_an_element(asked, given):
    """The time of an error is converted inside `$elemMatch` too."""
    nested = {"$elemMatch": {"type": "a", "$or": [{"time": asked}]}}

    assert translated({"errors": nested}) == {"errors": {"$elemMatch": {"type": "a", "$or": [{"time": given}]}}}
    for fields in (GROUP_FIELDS, PROJECT_FIELDS):
        assert translate({"created": asked}, fields) == {"created": given}


@pytest.mark.parametrize("field", TIME_PATHS)
@pytest.mark.parametrize(
    "given",
    [
        *("yesterday", "", "2026-13-01", "12:00", 1, 1.5, True, b"2026", [NOON], {"a": 1}, {}, np.datetime64(1, "s")),
        *(timedelta(1), re.compile("2026"), {"$regex": "2026"}, {"$not": re.compile("2026")}, {"$in": [1]}),
        *({"$not": {"$gt": 1}}, {"$elemMatch": {"$gt": 1.0}}, {"$gte": date}),
    ],
    ids=repr,
)
def test_what_is_no_time_is_refused(field, given):
    """A condition on a time that could match nothing is a QueryError that names the field."""
    with pytest.raises(QueryError, match=f"^{re.escape(field)}"):
        translated({field: given})


@pytest.mark.parametrize("given", ["0001-01-01T00:00+01:00", "9999-12-31T23:59-01:00"])
def test_a_time_outside_the_calendar_is_refused(given):
    """Text whose time in UTC is outside the years 1 to 9999 is a QueryError that names the field."""
    with pytest.raises(QueryError, match=r"created.* UTC"):
        translated({"created": given})


@pytest.mark.parametrize("field", ["parameters.created", "tags.errors.time", "metadata.started", "errors.message"])
def test_text_elsewhere_is_text(field):
    """Text in the condition of any other path stays text."""
    assert translated({field: "2026-01-02"}) == {field: "2026-01-02"}
    assert translated({"tags.l": {"$elemMatch": {"created": "2026-01-02"}}}) == {
        "tags.l": {"$elemMatch": {"created": "2026-01-02"}}
    }


def test_status_and_its_name_in_one_query():
    """Conditions on `status` and `status.name`, which are one path in the document, are both kept."""
    query = {"status": ["Running", "Broken"], "status.name": re.compile("^B"), "name": "a"}

    assert translated(query) == {
        "$and": [{"status.name": {"$in": ["Running", "Broken"]}}, {"status.name": re.compile("^B")}, {"name": "a"}]
    }


def nested(levels):
    """Return a query below that many others."""
    query = {"name": "a"}
    for _ in range(levels):
        query = {"$and": [query]}
    return query


def negated(levels):
    """Return a condition that is negated that many times."""
    condition = {"$gt": 1}
    for _ in range(levels):
        condition = {"$not": condition}
    return {"revision": condition}


def endless():
    """Return a query that contains itself."""
    query = {}
    query["$or"] = [query]
    return query


# Name of a case: a query, and the texts that its error contains.
REFUSED = {
    "a list": ([], ["query", "list"]),
    "None": (None, ["query", "NoneType"]),
    "a key that is not a str": ({1: 2}, ["1"]),
    "$where": ({"$where": "true"}, ["$where", "$elemMatch", "$nor"]),
    "$expr": ({"$expr": {}}, ["$expr"]),
    "$function": ({"parameters.x": {"$function": {}}}, ["parameters.x", "$function", "$eq"]),
    "$text": ({"$text": {"$search": "a"}}, ["$text"]),
    "$comment": ({"$comment": "a"}, ["$comment"]),
    "$jsonSchema": ({"$jsonSchema": {}}, ["$jsonSchema"]),
    "$options": ({"name": {"$regex": "a", "$options": "i"}}, ["name", "$options", "re.compile"]),
    "$type": ({"name": {"$type": "string"}}, ["name", "$type"]),
    "an unknown operator below $not": ({"name": {"$not": {"$mod": [1, 2]}}}, ["name", "$mod"]),
    "an unknown operator below $elemMatch": ({"errors": {"$elemMatch": {"$where": "1"}}}, ["$where"]),
    "an unknown operator below $or": ({"$or": [{"$where": "1"}]}, ["$where"]),
    "$gt without a path": ({"$gt": 1}, ["$gt", "path"]),
    "$not without a path": ({"$not": {"name": "a"}}, ["$not", "$nor"]),
    "$or below a path": ({"name": {"$or": ["a"]}}, ["name", "$or", "[{'name': ...}, ...]"]),
    "operators and keys mixed": ({"tags.a": {"$gt": 1, "b": 2}}, ["tags.a", "$gt", "'b'", "$eq"]),
    "operators and keys mixed below $elemMatch": ({"errors": {"$elemMatch": {"type": "a", "$gt": 1}}}, ["$gt", "type"]),
    "an unknown field": ({"metrcs.a": 1}, ["'metrcs'", "did you mean 'metrics'?", "parameters"]),
    "a field that resembles no other": ({"zzz": 1}, ["'zzz'", "uid"]),
    "the empty path": ({"": 1}, ["''"]),
    "the id in the document": ({"_id": 1}, ["'_id'", "'uid'"]),
    "trials of a project": ({"trials": "a"}, ["'trials'"]),
    "NUL in a path": ({"tags.a\0": 1}, ["NUL"]),
    "a lone surrogate in a path": ({"tags.\ud800": 1}, ["surrogate"]),
    "a lone backslash": ({"tags.a\\b": 1}, ["lone backslash at index 6", "trialstream.path"]),
    "a backslash at the end": ({"tags.a\\": 1}, ["lone backslash at index 6"]),
    "a path of too many keys": ({"tags" + ".a" * 100: 1}, ["at most 100 keys", "got 101"]),
    "$in with a text": ({"name": {"$in": "ab"}}, ["name $in", "list", "'ab'"]),
    "$nin with a dict": ({"name": {"$nin": {}}}, ["name $nin", "list"]),
    "$all with a number": ({"tags.l": {"$all": 1}}, ["tags.l $all", "list"]),
    "$all with $elemMatch": ({"tags.l": {"$all": [{"$elemMatch": {}}]}}, ["tags.l $all", "$elemMatch"]),
    "$gt with an operator": ({"rows": {"$gt": {"$lt": 1}}}, ["rows $gt", "$lt", "$eq"]),
    "$gt with a pattern": ({"name": {"$gt": PATTERN}}, ["name $gt", "Pattern"]),
    "$and with nothing": ({"$and": []}, ["$and", "at least one"]),
    "$or with a dict": ({"$or": {"name": "a"}}, ["$or", "list"]),
    "$nor with no queries": ({"$nor": ["a"]}, ["query", "str"]),
    "$not with a value": ({"name": {"$not": "a"}}, ["name $not", "'a'"]),
    "$not with a dict of keys": ({"tags.a": {"$not": {"b": 1}}}, ["tags.a $not", "operators"]),
    "$not with nothing": ({"name": {"$not": {}}}, ["name $not"]),
    "$exists with a number": ({"name": {"$exists": 1}}, ["name $exists", "True or False", "1"]),
    "$size negative": ({"errors": {"$size": -1}}, ["errors $size", "-1"]),
    "$size True": ({"errors": {"$size": True}}, ["errors $size", "True"]),
    "$size 1.0": ({"errors": {"$size": 1.0}}, ["errors $size", "1.0"]),
    "$exists with an integer of thousands of digits": ({"name": {"$exists": 10**5000}}, ["name $exists", "bits"]),
    "$size beyond 31 bits": ({"errors": {"$size": 2**31}}, ["errors $size"]),
    "$elemMatch with a list": ({"errors": {"$elemMatch": []}}, ["errors $elemMatch", "dict"]),
    "$regex with a number": ({"name": {"$regex": 1}}, ["name $regex", "str"]),
    "$regex with an invalid pattern": ({"name": {"$regex": "("}}, ["name $regex", "'('"]),
    "$regex with NUL": ({"name": {"$regex": "a\0"}}, ["name $regex", "NUL"]),
    "a pattern of bytes": ({"name": re.compile(b"a")}, ["name", "pattern of str"]),
    "an object of unknown type": ({"tags.a": object()}, ["tags.a", "object"]),
    "an object in $in": ({"tags.a": {"$in": [object()]}}, ["tags.a $in", "object"]),
    "an integer beyond 64 bits": ({"tags.a": {"$lt": 2**63}}, ["tags.a $lt", "64 bits"]),
    "a lone surrogate": ({"name": "\ud800"}, ["name", "surrogate"]),
    "a numpy.datetime64": ({"created": np.datetime64(1, "ns")}, ["created", "datetime64"]),
    "a time out of range in UTC": ({"created": datetime.max.replace(tzinfo=WEST)}, ["created", "UTC"]),
    "a code as status": ({"status": 101}, ["status", "101", "status.code"]),
    "an operator that is not allowed on status": ({"status": {"$gt": "A"}}, ["status", "$gt", "$nin", "status.name"]),
    "an empty dict as status": ({"status": {}}, ["status", "{}"]),
    "status $in with a name": ({"status": {"$in": "Running"}}, ["status $in", "list"]),
    "status $ne with a list": ({"status": {"$ne": ["Running"]}}, ["status $ne"]),
    "33 levels of queries": (nested(33), ["32 levels"]),
    "33 levels of $not": (negated(33), ["32 levels"]),
    "a query that contains itself": (endless(), ["32 levels"]),
}


@pytest.mark.parametrize(("query", "named"), REFUSED.values(), ids=REFUSED)
def test_unsupported_query_is_refused(query, named):
    """A query that is not supported is a QueryError at the call that names the unsupported part."""
    with pytest.raises(QueryError) as refused:
        translated(query)

    for each in named:
        assert each in str(refused.value)


def test_32_levels_are_accepted():
    """Queries and conditions may have 32 levels."""
    assert translated(nested(32)) == nested(32)
    assert translated(negated(32)) == negated(32)


def test_a_local_time_is_taken_as_local():
    """A datetime without a zone is local time, as in Python."""
    naive = NOON.astimezone().replace(tzinfo=None)

    assert translated({"created": naive}) == {"created": MICROS}


def test_fields_are_those_of_the_collection():
    """A field of another collection is an error: groups have no status, projects have no group."""
    for query, fields in [({"status": None}, GROUP_FIELDS), ({"group_id": "a"}, PROJECT_FIELDS)]:
        with pytest.raises(QueryError, match=f"no field '{next(iter(query))}'"):
            translate(query, fields)


SORTS = {
    "nothing": (None, [("created", 1), ("_id", 1)]),
    "an empty list": ([], [("created", 1), ("_id", 1)]),
    "a path": ("metrics.loss.last", [("metrics.loss.last", 1), ("_id", 1)]),
    "a descending path": ("-revision", [("revision", -1), ("_id", 1)]),
    "several": (["name", ("rows", -1), ["size", 1]], [("name", 1), ("rows", -1), ("size", 1), ("_id", 1)]),
    "the uid": ("-uid", [("_id", -1)]),
    "the uid between": (["-uid", "name"], [("_id", -1), ("name", 1)]),
    "the status": ("status", [("status.name", 1), ("_id", 1)]),
    "odd keys": ([path("tags", "-a.b"), "-tags."], [("tags.-a%2Eb", 1), ("tags.%", -1), ("_id", 1)]),
    "a path again": (["-name", "name"], [("name", -1), ("_id", 1)]),
    "a direction of numpy": ([("name", np.int64(-1))], [("name", -1), ("_id", 1)]),
}


@pytest.mark.parametrize(("sort", "keys"), SORTS.values(), ids=SORTS)
def test_sort(sort, keys):
    """A sort is a list of paths with directions, and the uid is added to make the order total."""
    assert sort_keys(sort, TRIAL_FIELDS) == keys


@pytest.mark.parametrize(
    ("sort", "named"),
    [
        pytest.param(1, "int", id="a number"),
        pytest.param({"name": 1}, "dict", id="a dict"),
        pytest.param([1], "1", id="a list of numbers"),
        pytest.param([("name", 2)], "2", id="another direction"),
        pytest.param([("name", True)], "True", id="True as a direction"),
        pytest.param(("name", -1), "-1", id="a pair outside a list"),
        pytest.param([("name", 10**5000)], "an int of", id="an integer of thousands of digits"),
        pytest.param("nme", "did you mean 'name'", id="an unknown field"),
        pytest.param("tags.a\0", "NUL", id="NUL"),
        pytest.param("tags.\ud800", "surrogate", id="a lone surrogate"),
        pytest.param([f"tags.{i}" for i in range(32)], "32 keys including the uid, got 33", id="too many keys"),
    ],
)
def test_invalid_sort_is_refused(sort, named):
    """An invalid sort is a QueryError that names the invalid part."""
    with pytest.raises(QueryError, match=re.escape(named)):
        sort_keys(sort, TRIAL_FIELDS)


@pytest.mark.parametrize(
    ("sort", "computed"),
    [
        *((None, 0), ("name", 0), ("-metrics.loss.last", 0), ("created", 0), (["-started", "rows"], 0)),
        *(("metrics.loss.last", 1), ("started", 1), ("status", 1), ("version", 1), ("parameters.lr", 1)),
        *((["metrics.a.avg", "-metrics.b.avg", "tags.c", "name"], 2),),
    ],
    ids=repr,
)
def test_only_ascending_keys_that_can_be_missing_are_computed(sort, computed):
    """An order by fields that always have a value, or descending, is that of `sort_keys`: an index can serve."""
    found = order(sort, TRIAL_FIELDS)

    assert len(found.computed) == computed
    assert [direction for _, direction in found.keys] == [direction for _, direction in sort_keys(sort, TRIAL_FIELDS)]
    assert set(found.computed) <= {key for key, _ in found.keys}
    if not computed:
        assert found.keys == sort_keys(sort, TRIAL_FIELDS)


def test_the_limit_is_applied_after_the_order():
    """An aggregation sorts all matching documents before it takes the first ones, with the uid as the last key."""
    stages = find({"name": "a"}, TRIAL_FIELDS, "metrics.loss.last", 3).stages()

    assert [next(iter(stage)) for stage in stages] == ["$match", "$addFields", "$sort", "$limit", "$unset"]
    assert list(stages[2]["$sort"])[-1] == "_id"
    assert stages[3] == {"$limit": 3}
    assert "$limit" not in str(find({}, TRIAL_FIELDS, "metrics.loss.last").stages())


def test_too_many_numbers_in_a_path_to_sort_by():
    """A path to sort by with more indexes than MongoDB could compute is a QueryError."""
    assert order("tags" + ".0" * 16, TRIAL_FIELDS).computed
    with pytest.raises(QueryError, match="sort: expected at most 16 numbers in a path"):
        order("tags" + ".0" * 17, TRIAL_FIELDS)


def test_limit():
    """No limit is 0 for MongoDB, and any other limit is passed on unchanged."""
    assert check_limit(None) == 0
    assert check_limit(5) == 5


@pytest.mark.parametrize("limit", [np.int64(3), np.uint8(3), np.array(3)])
def test_a_limit_of_any_type_of_integer(limit):
    """A limit may be an integer of numpy, and becomes an int."""
    assert (check_limit(limit), type(check_limit(limit))) == (3, int)


@pytest.mark.parametrize(
    "limit",
    [0, -1, True, 1.0, "1", 2**63, np.bool_(True), np.float64(3), np.int64(0), np.array([3, 4]), 10**5000],
    ids=lambda x: type(x).__name__,
)
def test_invalid_limit_is_refused(limit):
    """A limit that is not a positive int of 64 bits is a QueryError."""
    with pytest.raises(QueryError, match="limit"):
        check_limit(limit)


PATTERNS = [
    *(
        "[[:alpha:]]",
        "[[:^digit:]x]+",
        "^[[:alpha:][:digit:]]{3}$",
        "[^[:space:]]",
        "[[a]",
        "[^[a]",
        r"[\[[a]",
        "[]a[]",
    ),
    *(
        "[a--]",
        "[&&]",
        "[a||b]",
        "[~~]",
        "[a-z--]",
        r"\[[:alpha:]",
        r"\\[[:alpha:]]",
        "(?i)[[:upper:]]",
        "[[:alpha:]-z]",
    ),
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_causes_no_warning(pattern):
    """A set of characters that MongoDB accepts and of which Python warns is passed on, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        assert translated({"name": {"$regex": pattern}}) == {"name": {"$regex": pattern}}


@pytest.mark.parametrize("pattern", ["[z-a]", "[[:alpha:]", "[a", "[[:alpha:]](", "[]", r"[\]"])
def test_an_invalid_set_is_refused(pattern):
    """A set of characters that is malformed is a QueryError at the call."""
    with pytest.raises(QueryError, match="is not a regular expression"):
        translated({"name": {"$regex": pattern}})


# Name of a case: collection, fields, paths of the projection besides the identity, and members.
PARTIAL = {
    "none": ("trials", [], [], set()),
    "fields": ("trials", ["status", "started", "rows"], ["status", "started", "rows"], set()),
    "a tuple": ("trials", ("errors",), ["errors"], set()),
    "the identity": ("trials", ["uid", "hash", "name"], ["_id"], set()),
    "a metric": ("trials", ["metrics.loss"], ["metrics.loss"], set()),
    "a part of a metric": ("trials", ["metrics.loss.last", "metrics.loss.avg"], ["metrics.loss"], set()),
    "a metric with a dot": ("trials", [path("metrics", "val.loss", "last")], ["metrics.val%2Eloss"], set()),
    "a metric and all metrics": ("trials", ["metrics.loss", "metrics", "metrics.a"], ["metrics"], set()),
    "odd keys": ("trials", ["tags.", "tags.$a", "parameters.0.1"], ["tags.%", "tags.%24a", "parameters.0"], set()),
    "a part of a field": ("trials", ["status.name", "errors.0.type", "name.x"], ["status", "errors"], set()),
    "a writer": ("trials", ["writers.a", "open_chronos.b"], ["writers.a", "open_chronos.b"], set()),
    "a group": ("groups", ["metadata.a.b"], ["metadata.a"], set()),
    "a group with its trials": ("groups", ["trials"], [], {"trials"}),
    "a project with its members": ("projects", ["groups", "trials", "tags"], ["tags"], {"groups", "trials"}),
    "a project with its groups": ("projects", ["groups"], [], {"groups"}),
}
IDENTITY = {
    "trials": {"hash", "revision", "name", "created"},
    "groups": {"name", "project_id", "created"},
    "projects": {"name", "created"},
}


@pytest.mark.parametrize(("collection", "fields", "paths", "members"), PARTIAL.values(), ids=PARTIAL)
def test_partial_fields(collection, fields, paths, members):
    """Only the fields that are asked for are read, with those of the uid and the name; a value of a key as a whole."""
    found = partial_fields(fields, collection)

    assert found.projection == dict.fromkeys({*IDENTITY[collection], *paths}, 1)
    assert found.members == members


@pytest.mark.parametrize("collection", IDENTITY)
def test_all_fields(collection):
    """Without `fields`, whole documents are read, with all members."""
    assert partial_fields(None, collection).projection is None
    assert ("trials" in partial_fields(None, collection).members) == (collection != "trials")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        pytest.param("name", "fields: expected a list of paths, got 'name'", id="a text"),
        pytest.param({"name": 1}, "fields: expected a list", id="a dict"),
        pytest.param([1], "fields: expected paths of type str, got 1", id="a number"),
        pytest.param([("name", 1)], "fields: expected paths", id="a pair"),
        pytest.param(["name", "metrcs.loss"], "no field 'metrcs', did you mean 'metrics'?", id="an unknown field"),
        pytest.param(["trials"], "no field 'trials'", id="members of another collection"),
        pytest.param(["_id"], "no field '_id'", id="the id in the document"),
        pytest.param(["-name"], "no field '-name'", id="a sort key"),
        pytest.param([""], "no field ''", id="the empty path"),
        pytest.param(["tags.a\\b"], "lone backslash", id="a lone backslash"),
        pytest.param(["tags.\0"], "NUL", id="NUL"),
        pytest.param(["tags.\ud800"], "surrogate", id="a lone surrogate"),
    ],
)
def test_invalid_fields_are_refused(fields, named):
    """Fields that are no list of known paths are a QueryError that names the invalid part."""
    with pytest.raises(QueryError, match=re.escape(named)):
        partial_fields(fields, "trials")


def test_keys_of_a_path_are_text():
    """`path` accepts text only, also for an index."""
    with pytest.raises(QueryError, match="int"):
        path("errors", 0)
