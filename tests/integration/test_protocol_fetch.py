"""Lists of trials, groups and projects; the translation of queries is tested in tests/unit/test_query.py."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
import trialstream as ts

FETCHES = ["fetch_trials", "fetch_groups", "fetch_projects"]


@pytest.fixture
async def trials(protocol, name):
    """Five trials with a loss each; the third and the last are finished."""
    project = await protocol.new_project(ts.Project(name=name))
    group = await protocol.new_trial_group(ts.TrialGroup(name=name, project_id=project.uid))
    made = []
    for i, loss in enumerate([3.0, 1.0, 2.0, 1.0, 5.0]):
        trial = await protocol.new_trial(
            ts.Trial(name=name, parameters={"i": i, "a.b": i % 2}, project_id=project.uid, group_id=group.uid)
        )
        await protocol.log_trial_metrics(trial, step=i, loss=loss)
        if i in (2, 4):
            await protocol.log_trial_finish(trial)
        made.append(trial)
    return made


async def found(protocol, query, **pages):
    """Return the parameter `i` of the matching trials."""
    return [each.parameters["i"] for each in await protocol.fetch_trials(query, **pages)]


async def test_all_operators(protocol, name, trials):
    """Every documented operator works, also over dotted paths."""
    queries = {
        "$eq": ({"parameters.i": {"$eq": 1}}, [1]),
        "$ne": ({"parameters.i": {"$ne": 1}}, [0, 2, 3, 4]),
        "$gt": ({"metrics.loss.last": {"$gt": 2}}, [0, 4]),
        "$gte": ({"metrics.loss.last": {"$gte": 2}}, [0, 2, 4]),
        "$lt": ({"metrics.loss.last": {"$lt": 2}}, [1, 3]),
        "$lte": ({"metrics.loss.last": {"$lte": 2}}, [1, 2, 3]),
        "$in": ({"parameters.i": {"$in": [0, 4, 9]}}, [0, 4]),
        "$nin": ({"parameters.i": {"$nin": [0, 4, 9]}}, [1, 2, 3]),
        "$and": ({"$and": [{"parameters.i": {"$gt": 0}}, {"parameters.i": {"$lt": 2}}]}, [1]),
        "$or": ({"$or": [{"parameters.i": 0}, {"parameters.i": 3}]}, [0, 3]),
        "$nor": ({"$nor": [{"parameters.i": 0}, {"parameters.i": 3}]}, [1, 2, 4]),
        "$not": ({"parameters.i": {"$not": {"$gt": 1}}}, [0, 1]),
        "$exists": ({"chronos.runtime": {"$exists": False}}, [0, 1, 2, 3, 4]),
        "$regex": ({"hash": {"$regex": "^[0-9a-f]{32}$"}}, [0, 1, 2, 3, 4]),
        "$size": ({"errors": {"$size": 0}}, [0, 1, 2, 3, 4]),
        "$all": ({"parameters.i": {"$all": [2]}}, [2]),
        "$elemMatch": ({"errors": {"$elemMatch": {"type": "ValueError"}}}, []),
    }

    for query, wanted in queries.values():
        assert await found(protocol, {"name": name} | query) == wanted


async def test_a_status_a_time_and_a_key_with_a_dot(protocol, name, trials):
    """Queries take a status, its name or a list of these, times as datetimes, and keys with a dot by `ts.path`."""
    noon = trials[2].created

    assert await found(protocol, {"name": name, "status": ts.Status.Completed}) == [2, 4]
    assert await found(protocol, {"name": name, "status": "Completed"}) == [2, 4]
    assert await found(protocol, {"name": name, "status": [None, ts.Status.Running]}) == [0, 1, 3]
    assert await found(protocol, {"name": name, "created": {"$gt": noon}}) == [3, 4]
    assert await found(protocol, {"name": name, "created": {"$lt": noon - timedelta(days=1)}}) == []
    assert await found(protocol, {"name": name, ts.path("parameters", "a.b"): 1}) == [1, 3]


@pytest.mark.parametrize(
    ("pages", "wanted"),
    [
        pytest.param({}, [0, 1, 2, 3, 4], id="by creation"),
        pytest.param({"sort": "-created"}, [4, 3, 2, 1, 0], id="the latest first"),
        pytest.param({"sort": "metrics.loss.last", "limit": 3}, [1, 3, 2], id="the best three"),
        pytest.param({"sort": ["metrics.loss.last", "-parameters.i"]}, [3, 1, 2, 0, 4], id="by two paths"),
        pytest.param({"sort": [("parameters.i", -1)], "limit": 2}, [4, 3], id="by path and direction"),
        pytest.param({"limit": 1}, [0], id="a limit of one"),
        pytest.param({"limit": 100}, [0, 1, 2, 3, 4], id="a limit above the number of trials"),
    ],
)
async def test_sort_and_limit(protocol, name, trials, pages, wanted):
    """Results are sorted by any paths in both directions, by creation as a default, and limited."""
    if "metrics.loss.last" in str(pages) and "limit" in pages:
        got = await found(protocol, {"name": name}, **pages)
        assert sorted(got[:2]) == wanted[:2]
        assert got[2:] == wanted[2:]
    else:
        assert await found(protocol, {"name": name}, **pages) == wanted


@pytest.mark.parametrize("method", ["fetch_groups", "fetch_projects"])
async def test_sort_and_limit_of_groups_and_projects(protocol, name, method):
    """Groups and projects are sorted and limited like trials."""
    make = protocol.new_project if method == "fetch_projects" else protocol.new_trial_group
    kind = ts.Project if method == "fetch_projects" else ts.TrialGroup
    for i in range(3):
        await make(kind(name=f"{name} {i}", tags={"of": name, "i": -i}))
    fetch = getattr(protocol, method)

    assert [each.tags["i"] for each in await fetch({"tags.of": name})] == [0, -1, -2]
    assert [each.tags["i"] for each in await fetch({"tags.of": name}, sort="tags.i", limit=2)] == [-2, -1]
    assert [each.tags["i"] for each in await fetch({"name": {"$regex": f"^{name}"}}, sort="-name")] == [-2, -1, 0]
    assert await fetch({"name": name}) == []


async def test_groups_and_projects_show_their_trials(protocol, name, trials):
    """Groups and projects list their own trials, in the order of their creation."""
    other = await protocol.new_project(ts.Project(name=name + "2"))
    projects = await protocol.fetch_projects({"name": {"$in": [name, other.name]}})
    [group] = await protocol.fetch_groups({"name": name})

    assert [each.trials for each in projects] == [[trial.uid for trial in trials], []]
    assert [each.groups for each in projects] == [[group.uid], []]
    assert group.trials == [trial.uid for trial in trials]


@pytest.mark.parametrize("method", FETCHES)
@pytest.mark.parametrize(
    ("query", "pages", "named"),
    [
        pytest.param({"$where": "true"}, {}, "$where", id="code"),
        pytest.param({"$expr": {}}, {}, "$expr", id="expressions"),
        pytest.param({"name": {"$function": {}}}, {}, "$function", id="functions"),
        pytest.param({"name": {"$mod": [2, 0]}}, {}, "$mod", id="an unsupported operator"),
        pytest.param({"colour": 1}, {}, "colour", id="an unknown field"),
        pytest.param({"name": object()}, {}, "name", id="an unsupported value"),
        pytest.param([], {}, "query", id="a list"),
        pytest.param({}, {"sort": "colour"}, "colour", id="an unknown field to sort by"),
        pytest.param({}, {"sort": 1}, "sort", id="a number to sort by"),
        pytest.param({}, {"limit": 0}, "limit", id="a limit of zero"),
        pytest.param({}, {"limit": -1}, "limit", id="a negative limit"),
        pytest.param({}, {"limit": "1"}, "limit", id="a text for a limit"),
        pytest.param({}, {"fields": ["colour"]}, "colour", id="an unknown field to read"),
        pytest.param({}, {"fields": "name"}, "fields", id="a text for fields"),
    ],
)
async def test_an_invalid_query(protocol, method, query, pages, named):
    """An invalid query, sort or limit raises a QueryError that names it."""
    with pytest.raises(ts.QueryError) as caught:
        await getattr(protocol, method)(query, **pages)

    assert named in str(caught.value)


@pytest.mark.parametrize(
    "sort",
    [
        pytest.param(["-tags.a", "-tags.b"], id="two lists"),
        pytest.param(["tags.a", "-tags.b"], id="two lists in two directions"),
        pytest.param("-tags.b.0", id="an index of a list that is a key of a dict in it"),
    ],
)
async def test_sorts_without_an_order(protocol, name, sort):
    """A sort for which a document has no single value raises an error."""
    await protocol.new_trial(ts.Trial(name=name, tags={"a": [1, 2], "b": [{"0": 1}, 2]}))

    with pytest.raises(ts.QueryError):
        await protocol.fetch_trials({"name": name}, sort=sort)


async def test_an_empty_query_finds_everything(protocol, trial):
    """An empty query finds everything, including the trials that were just created; so does no query."""
    assert trial.uid in {each.uid for each in await protocol.fetch_trials({})}
    assert trial.uid in {each.uid for each in await protocol.fetch_trials()}


@pytest.mark.parametrize("method", FETCHES)
async def test_no_query_finds_everything(protocol, trials, method):
    """Without a query, all objects are returned, sorted and limited like those of a query."""

    async def uids(*given, **settings):
        return [each.uid for each in await getattr(protocol, method)(*given, **settings)]

    found = await uids({})

    assert found
    assert await uids() == found
    assert await uids(limit=1) == found[:1]
    assert await uids(sort="-created") == await uids({}, sort="-created")


async def test_reads_see_own_writes(protocol, trial):
    """Each read shows all that this protocol logged before it, without a commit."""
    for i in range(50):
        await protocol.log_trial_metrics(trial, step=i, loss=i)
        await protocol.add_trial_tags(trial, i=i)
        [each] = await protocol.fetch_trials({"uid": trial.uid, "tags.i": i})

        assert each.metrics["loss"].last == i


# --- Fields


@pytest.fixture
async def rich(protocol, name):
    """A trial with values in many fields, as it is read."""
    trial = await protocol.new_trial(ts.Trial(name=name, parameters={"lr": 0.1, "o.p": {"b1": 0.9, "b2": 0.99}}))
    await protocol.log_trial_start(trial)
    await protocol.log_trial_metadata(trial, plain={"a": {"b": 1}})
    await protocol.log_trial_metadata(trial, ts.RingAggregator.lazy(2), values="x")
    await protocol.log_trial_metrics(trial, 1, **{"loss": 0.5, "val.loss": 0.25, "other": 1.0})
    await protocol.add_trial_tags(trial, a=1, b=[{"n": 1}])
    await protocol.set_trial_status(trial, ts.CustomStatus("Paused", 7), "no power")
    [found] = await protocol.fetch_trials({"uid": trial.uid})
    return found


@pytest.mark.parametrize("sort", [None, "metrics.loss.last"], ids=["a find", "an aggregation"])
async def test_only_some_fields(protocol, rich, sort):
    """Only the fields that are asked for are read; the others have their defaults, and the uid is right."""
    everything = {each.name for each in dataclasses.fields(ts.Trial)} - {"name", "hash", "revision", "request"}
    for fields in ([], ["status", "errors"], ["created", "rows", "writers"], sorted(everything)):
        [found] = await protocol.fetch_trials({"uid": rich.uid}, fields=fields, sort=sort)
        assert found == dataclasses.replace(
            ts.Trial(name=rich.name, hash=rich.hash, revision=rich.revision, created=rich.created),
            **{each: getattr(rich, each) for each in fields},
        )
        assert found.uid == rich.uid


@pytest.mark.parametrize(
    ("field", "kept"),
    [
        pytest.param("metrics.loss", {"metrics": ["loss"]}, id="a metric"),
        pytest.param("metrics.loss.last", {"metrics": ["loss"]}, id="a part of a metric"),
        pytest.param(ts.path("metrics", "val.loss"), {"metrics": ["val.loss"]}, id="a metric with a dot"),
        pytest.param("metrics.nothing", {"metrics": []}, id="a metric that the trial does not have"),
        pytest.param(ts.path("parameters", "o.p", "b1"), {"parameters": ["o.p"]}, id="a part of a parameter"),
        pytest.param("metadata.values.values", {"metadata": ["values"]}, id="accumulated metadata"),
        pytest.param("metadata.plain.a", {"metadata": ["plain"]}, id="a part of metadata"),
        pytest.param("tags.b.0.n", {"tags": ["b"]}, id="an element of a tag"),
    ],
)
async def test_only_one_key_of_a_field(protocol, rich, field, kept):
    """A path reads the value of its key as a whole, and no other key."""
    [found] = await protocol.fetch_trials({"uid": rich.uid}, fields=[field])
    [(name, keys)] = kept.items()

    assert getattr(found, name) == {key: getattr(rich, name)[key] for key in keys}
    assert dataclasses.replace(found, **{name: {}}) == ts.Trial(
        name=rich.name, hash=rich.hash, revision=rich.revision, created=rich.created
    )


async def test_a_partial_trial_can_be_used(protocol, rich):
    """Trials that were read in part can be logged to, and their history can be read."""
    [found] = await protocol.fetch_trials({"uid": rich.uid}, fields=["tags"])
    await protocol.log_trial_metrics(found, 2, loss=0.25)

    assert (await protocol.fetch_metrics(found, "loss"))["loss"].values.tolist() == [0.5, 0.25]
    assert [each.uid for each in await protocol.get_trial(found)] == [rich.uid]
    assert (await protocol.fetch_trials({"uid": rich.uid}, fields=["metrics.loss"]))[0].metrics["loss"].last == 0.25


async def test_some_fields_of_groups_and_projects(protocol, name, trials):
    """Groups and projects have the fields that are asked for, with their members only if these are."""
    uids = [trial.uid for trial in trials]
    [group] = await protocol.fetch_groups({"name": name})
    [project] = await protocol.fetch_projects({"name": name})

    plain = ts.TrialGroup(name=name, project_id=project.uid, created=group.created)
    bare = ts.Project(name=name, created=project.created)
    assert await protocol.fetch_groups({"name": name}, fields=[]) == [plain]
    assert await protocol.fetch_groups({"name": name}, fields=["writers"]) == [
        dataclasses.replace(plain, writers=group.writers)
    ]
    assert await protocol.fetch_groups({"name": name}, fields=["trials"]) == [dataclasses.replace(plain, trials=uids)]
    assert (await protocol.fetch_groups({"name": name}, fields=[]))[0].uid == group.uid
    assert await protocol.fetch_projects({"name": name}, fields=[]) == [bare]
    assert await protocol.fetch_projects({"name": name}, fields=["groups"]) == [
        dataclasses.replace(bare, groups=[group.uid])
    ]
    everything = ["description", "metadata", "tags", "created", "groups", "trials"]
    assert await protocol.fetch_projects({"name": name}, fields=everything) == [project]


# --- Values


async def test_values_are_those_of_the_fetched_trials(protocol, rich):
    """Of every field, also of one that sorts by a computed key, the value is that of the trial."""
    fields = sorted({each.name for each in dataclasses.fields(ts.Trial)} - {"request"})
    for sort in (None, "metrics.loss.last"):
        [row] = await protocol.fetch_values(["uid", *fields], {"uid": rich.uid}, sort=sort)

        assert row == (rich.uid, *(getattr(rich, each) for each in fields))


async def test_values_of_single_keys(protocol, rich):
    """A path reads one value at any depth; what a trial does not have is None, and a list gives a list."""
    ring, loss = rich.metadata["values"], rich.metrics["loss"]
    wanted = {
        "parameters.lr": 0.1,
        ts.path("parameters", "o.p", "b1"): 0.9,
        ts.path("parameters", "o.p"): {"b1": 0.9, "b2": 0.99},
        "metrics.loss": loss,
        "metrics.loss.last": 0.5,
        ts.path("metrics", "val.loss", "last_step"): 1,
        "metadata.plain.a": {"b": 1},
        "metadata.values": ring,
        "metadata.values.values": ["x"],
        "tags.b": [{"n": 1}],
        "tags.b.n": [1],
        "status.code": 7,
        "errors.message": ["no power"],
        "errors.time": [rich.errors[0].time],
        "finished": None,
        "metrics.nothing.last": None,
    }

    [row] = await protocol.fetch_values([*wanted], {"uid": rich.uid})

    assert dict(zip(wanted, row, strict=True)) == wanted


async def test_values_of_many_trials(protocol, name, trials):
    """There is a row for each trial, in the order of the sort, up to the limit; no trials are no rows."""
    assert await protocol.fetch_values(["parameters.i"], {"name": name}) == [(i,) for i in range(5)]
    assert await protocol.fetch_values(
        ["metrics.loss.last", "parameters.i"], {"name": name}, sort="-metrics.loss.last", limit=2
    ) == [(5.0, 4), (3.0, 0)]
    assert await protocol.fetch_values(["uid"], {"name": "nobody"}) == []


@pytest.mark.parametrize("sort", ["parameters.i", "-metrics.loss.last"], ids=["a stored key", "computed keys"])
async def test_pages(protocol, name, trials, sort):
    """The pages of a table are its rows in their order, and `count_trials` is their number."""
    query, order = {"name": name}, [sort, "uid"]
    whole = await protocol.fetch_values(["uid"], query, sort=order)

    pages = [await protocol.fetch_values(["uid"], query, sort=order, limit=2, offset=at) for at in (0, 2, 4, 6)]
    trials_of_page = await protocol.fetch_trials(query, sort=order, offset=3)

    assert [row for page in pages for row in page] == whole
    assert [(each.uid,) for each in trials_of_page] == whole[3:]
    assert await protocol.count_trials(query) == len(whole) == 5
    assert await protocol.count_trials({**query, "status": "Completed"}) == 2
    assert await protocol.count_trials({"name": "nobody"}) == 0


@pytest.mark.parametrize("offset", [-1, 1.5, "1", None, 2**63])
async def test_invalid_offsets(protocol, offset):
    """An offset that is no number of trials raises a QueryError that names it."""
    with pytest.raises(ts.QueryError, match=r"^offset: expected 0 or a positive int, got "):
        await protocol.fetch_values(["uid"], offset=offset)


async def test_values_show_own_writes(protocol, trial):
    """Each call shows all that this protocol logged before it, without a commit."""
    for i in range(20):
        await protocol.log_trial_metrics(trial, step=i, loss=i)

        assert await protocol.fetch_values(["metrics.loss.last"], {"uid": trial.uid}) == [(i,)]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        pytest.param([], "at least one path", id="no field"),
        pytest.param("name", "'name'", id="a text"),
        pytest.param([1], "paths of type str, got 1", id="a number"),
        pytest.param(["colour"], "there is no field 'colour'", id="an unknown field"),
        pytest.param(["request"], "there is no field 'request'", id="a field that is not stored"),
    ],
)
async def test_invalid_fields_of_values(protocol, fields, named):
    """Fields that cannot be read raise a QueryError that names them."""
    with pytest.raises(ts.QueryError) as caught:
        await protocol.fetch_values(fields)

    assert named in str(caught.value)
