"""The bounds of the dashboard's answers in bytes, on trials with huge values, on a real MongoDB."""

from __future__ import annotations

import json
import uuid

import anyio
import anyio.to_thread
import pytest
import trialstream as ts
from dashboard_client import client_of, get, until
from pymongo import MongoClient
from service_support import paused
from trialstream import sync
from trialstream_console.dashboard import answers, bands, context, increments
from trialstream_console.dashboard import trials as trial_views
from trialstream_console.dashboard.feed import Subscriber
from trialstream_console.dashboard.settings import Settings
from trialstream_schemas.model.aggregators import TimeSeriesAggregator
from trialstream_schemas.storage.documents import group_to_document, project_to_document, trial_to_document

LONG = 500_000
TRIALS = 30


def group(n):
    """The group of a trial."""
    return ts.TrialGroup(name=f"g{n}", project_id=f"p{n % 3}")


def trial(n):
    """A trial with a parameter of each kind that is huge."""
    huge = {
        "prompt": f"{n:02}" + "ü" * (LONG // 2),
        "config": {f"key {i}": i for i in range(20_000)},
        "list": [0] * 30_000,
        "bytes": bytes(LONG),
        "short": "x" * 4000,
    }
    place = {"project_id": f"p{n % 3}", "group_id": group(n).uid}
    found = ts.Trial(name=f"trial {n}", parameters={"lr": float(n), **huge}, **place)
    found.size = 2_000_000
    found.metrics["loss"] = aggregator = TimeSeriesAggregator()
    aggregator.extend([float(n)], 1)
    found.status = [ts.Status.Running, ts.Status.Exception, ts.Status.Completed][n % 3]
    return found


@pytest.fixture(scope="module")
def config(stack):
    """A projection with these trials."""
    config = ts.Config(mongo=stack.mongo.uri, prefix=f"bounds-{uuid.uuid4().hex[:8]}", read_only=True)
    with MongoClient(config.mongo) as mongo:
        database = mongo[config.database]
        for n in range(TRIALS):
            database.trials.insert_one(trial_to_document(trial(n)))
        projects = [ts.Project(name=f"p{n}", description="ö" * 30_000) for n in range(4)]
        database.projects.insert_many(map(project_to_document, projects))
        database.groups.insert_many(group_to_document(group(n)) for n in range(TRIALS))
        yield config
        mongo.drop_database(config.database)


@pytest.fixture(scope="module")
def client(config):
    """A client of a dashboard of this projection."""
    with client_of(Settings(), config) as client:
        yield client


def test_long_values_of_a_table_are_cut(client):
    """A table has the beginning and the size of a long value; the page of the trial has all of it."""
    names = ["lr", "prompt", "config", "list", "bytes", "short"]
    answer = client.get("/trials", {"columns": [f"parameters.{each}" for each in names], "sort": "parameters.lr"})
    lr, prompt, config, items, content, short = answer.json()["values"]
    [uid, *_] = answer.json()["uids"]
    whole = get(client, f"/trials/{uid}")["parameters"]

    assert len(answer.content) < 1_000_000
    assert lr == [float(n) for n in range(TRIALS)]
    assert short == ["x" * 4000] * TRIALS
    assert prompt[1] == {"$long": "string", "start": "01" + "ü" * 1022, "size": LONG + 2 + 13}
    assert [each[0]["$long"] for each in (config, items, content)] == ["object", "array", "binData"]
    assert content[0]["size"] == LONG + 13
    assert whole["prompt"] == "00" + "ü" * (LONG // 2)
    assert len(whole["config"]) == 20_000


def test_the_more_values_the_less_each_may_take(client):
    """The values of an answer are bounded together, and so is their number."""
    columns = ["parameters.short"] * 100
    some = get(client, "/trials", columns=columns, limit=10_000)["values"]

    assert some[0][0]["$long"] == "string"
    assert len(some[0][0]["start"]) <= 64 * 1024 * 1024 / 1_000_000
    error = get(client, "/trials", 413, columns=[*columns, "uid"], limit=10_000)["error"]
    assert (error["code"], error["place"]) == ("too_large", "limit")


@pytest.mark.parametrize("column", ["metrics", "parameters", "errors", "status", "attempts", "participants"])
def test_a_whole_field_is_a_column(client, column):
    """A field with all of its values is a column too, cut like any other."""
    [values] = get(client, "/trials", columns=[column])["values"]

    assert len(values) == TRIALS
    assert ("$long" in values[0]) == (column == "parameters")


def test_an_answer_that_would_be_too_large_is_an_error(client, monkeypatch):
    """An answer beyond the bound of all answers is refused, with what to do."""
    monkeypatch.setattr(answers, "_MAX_BYTES", 100_000)
    [uid] = get(client, "/trials", limit=1)["uids"]
    error = get(client, f"/trials/{uid}", 413)["error"]

    assert error["code"] == "too_large"
    assert "fetch_" in error["message"]


def test_importance_beside_huge_parameters(client):
    """Huge parameters of all trials do not hide the others."""
    found = get(client, "/importance", target="metrics.loss.last")

    assert found["trials"] == TRIALS
    assert {"parameters.lr", "parameters.prompt"} <= {each["path"] for each in found["parameters"]}


def test_lists_of_projects_and_groups(client, monkeypatch):
    """Lists have the numbers of their trials, the beginnings of descriptions, and the latest ones if they are many."""
    rows = get(client, "/projects")
    [fourth] = [each for each in get(client, "/groups", project="p1") if each["name"] == "g4"]

    assert [each["name"] for each in rows] == ["p0", "p1", "p2", "p3"]
    assert [(each["trials"], each["running"], each["failed"]) for each in rows] == [
        *((10, 10, 0), (10, 0, 10), (10, 0, 0), (0, 0, 0))
    ]
    assert {each["description"] for each in rows} == {"ö" * 1000}
    assert (fourth["trials"], fourth["failed"], fourth["project"]) == (1, 1, "p1")
    assert len(get(client, "/groups")) == TRIALS
    monkeypatch.setattr(trial_views, "_MAX_LISTED", 7)
    assert len(get(client, "/groups")) == 7


@pytest.mark.parametrize(
    ("changed", "body", "place"),
    [
        ({}, {"group_by": "parameters.prompt"}, "group_by"),
        ({"_MAX_BYTES": 100_000}, {"group_by": "parameters.lr", "points": 1000}, "group_by"),
        ({"_MAX_ROWS": 20}, {}, None),
        ({"_MAX_TRIALS": 3}, {}, "where"),
    ],
    ids=["large keys", "many keys", "many rows", "many trials"],
)
def test_bands_are_bounded(client, monkeypatch, changed, body, place):
    """Bands of too many trials or rows, or of too many or too large values, are refused before any row is read."""
    for name, value in changed.items():
        monkeypatch.setattr(bands, name, value)
    answer = client.post("/bands", json={"name": "loss", "points": 10, **body}, headers={})

    assert answer.status_code == 413
    assert answer.json()["error"].get("place") == place


def test_bands_of_fewer_points_fit(client, monkeypatch):
    """The bound counts the points that are asked for: with fewer of them, the bands of all values are there."""
    monkeypatch.setattr(bands, "_MAX_BYTES", 100_000)
    body = {"name": "loss", "group_by": "parameters.lr"}
    answers = [client.post("/bands", json={**body, "points": points}, headers={}) for points in (1000, 10)]

    assert [each.status_code for each in answers] == [413, 200]


@pytest.mark.parametrize("where", ["name = a", " or ".join(f"parameters.p{n} > {n}" for n in range(100))], ids=len)
def test_bands_of_a_query(client, where):
    """A query without trials has bands without trials."""
    answer = client.post("/bands", json={"name": "loss", "points": 10, "where": where}, headers={})

    assert answer.status_code == 200


def test_a_read_that_takes_too_long(config, monkeypatch):
    """It is an error of its own, with what to do: MongoDB is there, and other requests are answered."""
    monkeypatch.setattr(context, "_TIMEOUT", 0.5)
    slow = trial_to_document(ts.Trial(name="slow", description="a" * 20 + "b"))
    with MongoClient(config.mongo) as mongo, client_of(Settings(), config) as client:
        trials = mongo[config.database].trials
        trials.insert_many(slow | {"_id": f"slow {i}"} for i in range(20_000))
        try:
            error = get(client, "/trials", 504, where='description ~ "^(a|aa)+$"')["error"]
            about, found = get(client, "/about"), get(client, "/trials", where='name = "trial 1"')
        finally:
            trials.delete_many({"name": "slow"})

    assert (error["code"], about["mongo"], found["total"]) == ("too_slow", "ok", 1)
    assert "the query took longer than 0.5 s and was ended" in error["message"]


def test_mongodb_that_hangs(config, stack, monkeypatch):
    """The first reads take too long; then the server says that MongoDB does not answer, until it does."""
    monkeypatch.setattr(context, "_TIMEOUT", 0.5)

    with client_of(Settings(), config) as client:
        assert get(client, "/trials")["total"] == TRIALS
        with paused(stack.mongo):
            slow = get(client, "/trials", 504)
            until(lambda: get(client, "/about")["mongo"] != "ok")
            away = get(client, "/trials", 503)
        until(lambda: get(client, "/about")["mongo"] == "ok")
        assert get(client, "/trials")["total"] == TRIALS

    assert slow["error"]["code"] == "too_slow"
    assert away["error"] == {"code": "mongo_away", "message": "MongoDB has not answered for 0.5 s"}


def test_after_missed_changes_a_watch_begins_anew(stack):
    """Clients are told to load anew, and the server does not read all trials for that."""
    config = ts.Config(mongo=stack.mongo.uri, prefix=f"missed-{uuid.uuid4().hex[:8]}", read_only=True)
    documents = [trial_to_document(ts.Trial(name=f"trial {n}")) for n in range(3)]

    async def follow(feed, trials):
        subscriber = Subscriber(None, None, None, ())
        with feed.subscribed(subscriber, await feed.cursor()), anyio.fail_after(30):
            found = await subscriber.take(1.0)
            await anyio.to_thread.run_sync(trials.rename, "others")
            while b"event: reset" not in found:
                found += await subscriber.take(1.0)
            await feed.cursor()
            await anyio.to_thread.run_sync(trials.insert_one, documents[2])
            while documents[2]["_id"].encode() not in found:
                found += await subscriber.take(1.0)
        return found

    with MongoClient(config.mongo) as mongo:
        trials = mongo[config.database].trials
        trials.insert_many(documents[:2])
        with client_of(Settings(), config) as client:
            found = client.call(follow, client.context.feed, trials)
        mongo.drop_database(config.database)

    assert found.count(b"event: reset") == 1
    assert found.count(b"event: trials") == 1
    assert not any(each["_id"].encode() in found for each in documents[:2])


def test_rows_of_live_events_are_bounded(config, monkeypatch):
    """An event of too many rows, values or bytes has none of them, and says that there are more."""
    with sync.connect(mongo=config.mongo, prefix=config.prefix, read_only=True) as protocol:
        [uid] = [each.uid for each in protocol.fetch_trials({"name": "trial 0"}, fields=["name"])]

        def event(end, *names):
            [found] = increments.rows_events(protocol, uid, 0, end, [frozenset(names)], "c").values()
            head, _, data = found.partition(b"data: ")
            assert head == b"event: rows\nid: c\n"
            return json.loads(data)

        expected = {"trial": uid, "from": 0, "rows_seen": 1, "more": False, "names": {}}
        assert event(1, "loss") == expected
        assert event(100_001, "loss") == {**expected, "rows_seen": 100_001, "more": True}
        assert event(1000)["more"]  # of all metrics, of which a document of that size may have many
        monkeypatch.setattr(increments, "_MAX_READ", 1)
        assert event(2, "loss")["more"]
