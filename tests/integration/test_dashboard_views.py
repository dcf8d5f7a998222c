"""The dashboard's endpoints beyond the tables, on the real servers: one log, one consumer and one application."""

from __future__ import annotations

import json
import threading
import time
import uuid
from dataclasses import replace

import anyio
import pytest
import trialstream as ts
from dashboard_client import client_of, get, until
from service_support import cli, send
from trialstream import sync
from trialstream.event_log.topics import partition_of
from trialstream.reading.mongo_feed import parts_of
from trialstream_console.dashboard import (
    answers,
    app,
    columns,
    dead_letters,
    importance,
    increments,
    output,
    pasts,
    selection,
    timeline,
    travel,
    writes,
)
from trialstream_console.dashboard import trials as trial_views
from trialstream_console.dashboard.feed import Subscriber
from trialstream_console.dashboard.settings import Settings
from trialstream_console.local.consumer import ConsumerService
from trialstream_schemas.wire.codec import encode

WRITE = {"X-Trialstream": "1"}


@pytest.fixture(scope="module")
def log(stack, tmp_path_factory):
    """A configuration whose log a consumer folds while the tests run."""
    prefix = f"views-{uuid.uuid4().hex[:8]}"
    config = ts.Config(
        kafka=stack.kafka.address,
        mongo=stack.mongo.uri,
        prefix=prefix,
        partitions=2,
        spool_dir=str(tmp_path_factory.mktemp("spool")),
    )
    service = ConsumerService(tmp_path_factory.mktemp("consumer"), config)
    service.start()
    yield config
    service.stop()


@pytest.fixture(scope="module")
def trials(log):
    """Ten trials of a group, of which the first has a bit of everything."""
    with sync.connect(kafka=log.kafka, mongo=log.mongo, prefix=log.prefix) as protocol:
        made = []
        for i in range(10):
            parameters = {"lr": 10.0**-i, "opt": "adam" if i % 2 else "sgd", "model": {"width": i % 3}, "same": 1}
            trial = protocol.new_trial(ts.Trial(name=f"views {i}", parameters=parameters))
            protocol.log_trial_metrics(trial, step=1, loss=float(i))
            made.append(trial)
        first = made[0]
        protocol.log_trial_start(first)
        protocol.add_trial_tags(first, {"best so far": True})
        time.sleep(0.05)  # the log counts milliseconds
        for step in range(2, 102):
            protocol.log_trial_metrics(first, step=step, loss=1 / step)
        protocol.log_trial_chrono_start(first, "epoch")
        protocol.log_trial_chrono_finish(first, "epoch")
        for key, pieces in {"output/stdout": ["one\n", "two\n"], "rank1/output/stderr": ["<b>"]}.items():
            for piece in pieces:
                protocol.log_trial_metadata(first, {key: piece}, aggregator=ts.RingAggregator.lazy(2))
        protocol.log_trial_finish(first)
        protocol.commit("folded", 30.0)
    anyio.run(_spoil, log)
    return made


async def _spoil(log: ts.Config) -> None:
    """Write records that cannot be folded: no event, and an event of a trial that does not exist."""
    stray = encode(ts.events.Heartbeat(time=1, trial="0" * 32 + "_0", writer="w" * 32, seq=1))
    await send(log, [b"\xffno event", stray], partition=partition_of(b"0" * 32, 2))


@pytest.fixture(scope="module")
def client(log, trials):
    """A client of the application, which may write."""
    with client_of(Settings(writes=True), log) as client:
        yield client


def test_columns(client):
    """The columns have all paths of the trials, with their types, and the query language reads each."""
    found = get(client, "/columns")
    by_path = {each["path"]: each for each in found["columns"]}

    assert found["sampled"] == 10
    assert {key: by_path["parameters.lr"][key] for key in ("kind", "type", "count")} == {
        "kind": "parameter",
        "type": "number",
        "count": 10,
    }
    assert by_path["parameters.model.width"]["type"] == "number"
    assert by_path["metrics.loss.last"]["kind"] == "metric"
    assert by_path["tags.best so far"]["count"] == 1
    assert by_path["created"]["type"] == "time"
    assert by_path["status"]["operators"] == ["=", "!=", "in", "not in", "~", "!~"]
    assert get(client, "/columns", where="name = 'views 1'")["sampled"] == 1


def test_queries(client, trials):
    """A text selects trials, is checked, and is completed with the paths that trials have."""
    table = get(client, "/trials", where='"views" and parameters.lr >= 0.01 and parameters.opt = sgd', sort="name")
    assert table["names"] == ["views 0", "views 2"]
    assert get(client, "/where/check", text="lost or rows > 3") == {"ok": True}
    error = get(client, "/where/check", 400, text="rows >")["error"]
    assert (error["code"], error["column"], error["place"]) == ("query", 6, "where")
    assert get(client, "/trials", 400, where="(((")["error"]["column"] == 3
    assert get(client, "/trials", 400, where="(" * 10_000)["error"]["code"] == "query"
    completed = get(client, "/where/complete", text="rows > 3 and tags.b", at=19)
    assert completed == {"from": 13, "items": [{"text": 'tags."best so far"', "kind": "tag"}]}
    values = get(client, "/where/complete", text="parameters.opt = ", at=17)["items"]
    assert [each["text"] for each in values] == ['"adam"', '"sgd"']


async def follow(feed, uid):
    """Let a client of a feed take all rows of a trial as new ones."""
    subscriber = Subscriber(None, None, uid, [])
    feed._subscribers.add(subscriber)
    feed._sent[uid] = 0
    [trial] = await (await feed._protocol()).fetch_trials({"uid": uid})
    await feed._send_trial(trial, {})
    feed._subscribers.discard(subscriber)
    return subscriber


def test_nothing_is_computed_in_the_event_loop(client, trials, monkeypatch):
    """Work that takes long for a large trial runs in a thread: parsing, conversion, encoding, rows of `/live`."""
    threads = {}

    def watch(module, name):
        function = getattr(module, name)

        def watched(*args, **kwargs):
            threads.setdefault(name, set()).add(threading.get_ident())
            return function(*args, **kwargs)

        monkeypatch.setattr(module, name, watched)

    for module, *names in (
        *(
            (answers, "dumps", "content"),
            (app, "content"),
            (selection, "parse_where"),
            (trial_views, "_table", "_project_rows", "_group_rows"),
        ),
        *((trial_views, "detail_of"), (columns, "complete", "_columns", "parse_where"), (importance, "weighed")),
        *((dead_letters, "_infos"), (travel, "_times"), (timeline, "_timeline"), (output, "_output")),
        *((increments, "_encoded"), (writes, "_tags")),
    ):
        for name in names:
            watch(module, name)
    path = f"/trials/{trials[0].uid}"
    parts = [f"{path}/{each}" for each in ("output", "times", "timeline", "events")]
    for each in ("/projects", "/groups", "/columns", "/dead-letters", path, *parts):
        get(client, each)
    get(client, "/trials", where="rows > 0", columns=["parameters.lr"])
    get(client, "/where/check", text="rows > 3")
    get(client, "/where/complete", text="rows", at=4)
    get(client, "/importance", target="metrics.loss.last")
    assert client.post("/bands", json={"trials": [], "name": "loss", "points": 9}, headers={}).status_code == 200
    assert client.post(f"/trials/{trials[2].uid}/tags", json={"tags": {"a": 1}}, headers=WRITE).status_code == 204
    subscriber = client.call(follow, client.context.feed, trials[0].uid)

    assert b'"loss"' in client.call(subscriber.take, 1.0)
    loop = client.call(threading.get_ident)
    assert {name for name, found in threads.items() if loop in found} == set()
    assert len(threads) == 16


def test_columns_are_compressed(client, trials):
    """Answers of doubles are the same, whichever compression the client takes."""
    curves = [{"trial": trials[0].uid, "name": "loss"}]
    for path, body in (
        ("/series", {"curves": curves, "x": "step", "width": 100}),
        ("/bands", {"trials": [trials[0].uid], "name": "loss", "points": 100}),
    ):
        plain, packed = (client.post(path, body, {"accept-encoding": each}) for each in ("identity", "gzip"))

        assert "content-encoding" not in plain.headers
        assert packed.headers["content-encoding"] == "gzip"
        assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
        assert packed.content == plain.content


async def first_event(context, since, uid):
    """The first event that a client gets after the states, if it goes on after a cursor."""
    subscriber = Subscriber(None, None, None, ())
    await context.feed.cursor()
    with context.feed.subscribed(subscriber, since), anyio.fail_after(20):
        found = b""
        while uid.encode() not in found and b"event: reset" not in found:
            found += await subscriber.take(1.0)
    return found


def test_cursors_of_another_process(client, log, trials):
    """A client may go on at another worker of the server: changes after its cursor come, and nothing is loaded anew."""
    with (
        client_of(Settings(), log) as other,
        sync.connect(kafka=log.kafka, mongo=log.mongo, prefix=log.prefix) as protocol,
    ):
        begin = other.call(other.context.feed.cursor)
        protocol.add_trial_tags(trials[3], {"seen": 0})
        until(lambda: parts_of(client.call(client.context.feed.cursor)) > parts_of(begin))
        for first, second in ((client, other), (other, client)):
            cursor = get(first, "/trials", where=f'uid = "{trials[3].uid}"')["cursor"]
            protocol.add_trial_tags(trials[3], {"seen": time.time()})
            protocol.commit("folded", 30.0)
            found = second.call(first_event, second.context, cursor, trials[3].uid)

            assert b"event: trials" in found
            assert b"event: reset" not in found


def test_output(client, trials):
    """The captured output is that of a stream and a rank."""
    path = f"/trials/{trials[0].uid}/output"

    assert get(client, path) == {
        "stream": "stdout",
        "rank": None,
        "streams": ["stdout"],
        "ranks": [None, 1],
        "text": "one\ntwo\n",
        "truncated": True,
    }
    of_rank = get(client, path, rank=1)
    assert of_rank["stream"] == "stderr"
    assert (of_rank["streams"], of_rank["text"], of_rank["truncated"]) == (["stderr"], "<b>", False)
    assert get(client, path, stream="stderr")["text"] == ""
    assert get(client, "/trials/nope/output", 404)["error"]["place"] == "uid"


def test_output_of_ranks_alone():
    """Of a trial whose processes all have ranks, the first rank's output is there without being asked for."""
    printed = ts.RingAggregator(2)
    printed.extend(["by rank 10\n"])
    quiet = ts.RingAggregator(2)
    found = output._output({"rank10/output/stdout": printed, "rank2/output/stderr": quiet}, "", None)

    assert (found["ranks"], found["rank"], found["stream"], found["text"]) == ([2, 10], 2, "stderr", "")
    assert output._output({"rank10/output/stdout": printed}, "", None)["text"] == "by rank 10\n"
    assert output._output({}, "", None)["ranks"] == []


def test_importance(client):
    """The learning rate, on which the loss depends, matters most; what never differs is left out."""
    found = get(client, "/importance", target="metrics.loss.last", where="rows = 1")
    paths = [each["path"] for each in found["parameters"]]

    assert found["trials"] == 9
    assert found["method"] in ("forest", "correlation")
    assert paths[0] == "parameters.lr"
    assert {*paths} == {"parameters.lr", "parameters.opt", "parameters.model.width"}
    assert found["parameters"][0]["correlation"] == -1
    assert next(each for each in found["parameters"] if each["path"] == "parameters.opt")["correlation"] is None
    assert get(client, "/importance", target="metrics.no such.last")["parameters"] == []
    assert get(client, "/importance", 400, target="nope")["error"]["code"] == "query"


def test_operations(client, log):
    """The operations have the partitions with their lag, topics with settings and sizes, and the projections."""
    found = until(lambda: (each := get(client, "/operations"))["dead_letters"] == 2 and each)

    assert found["troubles"] == []
    trial_partitions = [each for each in found["partitions"] if each["topic"] == log.trials_topic]
    assert [each["partition"] for each in trial_partitions] == [0, 1]
    assert sum(each["end"] for each in trial_partitions) >= 20
    for each in found["partitions"]:
        assert (each["lag"], each["lag_seconds"]) == (0, 0)
    assert [each["name"] for each in found["topics"]] == [log.trials_topic, log.registry_topic, log.schemas_topic]
    topics = {each["name"]: each for each in found["topics"]}
    assert (topics[log.trials_topic]["retention"], topics[log.trials_topic]["cleanup"]) == ("forever", "delete")
    assert topics[log.trials_topic]["bytes"] > 1000
    assert topics[log.schemas_topic]["cleanup"] == "compact"
    assert [(each["live"], each["state"], each["trials"]) for each in found["projections"]] == [(True, "live", 10)]
    [consumer] = found["consumers"]
    assert {each["owner"] for each in trial_partitions} == {consumer["id"]}
    assert found["spool"] == []


def test_dead_letters(client, log):
    """Dead letters come page by page, with their reason, their bytes, and the event if they are one."""
    until(lambda: get(client, "/operations")["dead_letters"] == 2)
    first = get(client, "/dead-letters", limit=1)
    second = get(client, "/dead-letters", limit=1, cursor=first["cursor"])
    letters = {each["bytes"][:4]: each for page in (first, second) for each in page["letters"]}

    assert second["cursor"] is None
    assert len(letters) == 2
    broken = letters.pop(".no ")
    assert (broken["hex"], broken["decoded"]) == (b"\xffno event".hex(), None)
    [stray] = letters.values()
    assert "no such trial" in stray["reason"] or "trial" in stray["reason"]
    assert (stray["decoded"]["kind"], stray["decoded"]["seq"]) == ("Heartbeat", 1)
    for cursor in ("x", "e30=", "WzEsMl0="):
        assert get(client, "/dead-letters", 400, cursor=cursor)["error"]["place"] == "cursor"


def test_events(client, trials):
    """The events of a trial come page by page in either order, filtered by kind, and are of no other trial."""
    path = f"/trials/{trials[0].uid}/events"
    everything = get(client, path, limit=1000, order="oldest")["events"]
    kinds = [each["kind"] for each in everything]

    assert kinds[0] == "TrialCreated"
    assert {"TrialStarted", "MetricsLogged", "TagsAdded", "ChronosFinished", "TrialFinished"} <= {*kinds}
    assert [each["offset"] for each in everything] == sorted(each["offset"] for each in everything)
    started = get(client, path, kinds="TrialStarted,TrialFinished")["events"]
    assert [each["kind"] for each in started] == ["TrialFinished", "TrialStarted"]
    paged, cursor = [], None
    while cursor or not paged:
        page = get(client, path, limit=3, **({"cursor": cursor} if cursor else {}))
        paged, cursor = paged + page["events"], page["cursor"]
        assert page["kinds"] == sorted({*kinds})
    assert paged == everything[::-1]
    assert get(client, path, kinds="TagsAdded", limit=1)["kinds"] == sorted({*kinds})
    rows = [each for each in everything if each["kind"] == "MetricsLogged"]
    assert sum(len(each["fields"]["times"]) for each in rows) >= 100
    assert rows[-1]["summary"].startswith("loss: ")
    assert get(client, path, 400, kinds="Nope")["error"]["place"] == "kinds"
    assert get(client, "/trials/nope/events", 404)["error"]["code"] == "not_found"


def test_the_timeline(client, trials):
    """The chronos of a trial are intervals that lie within its run."""
    found = get(client, f"/trials/{trials[0].uid}/timeline")
    trial = get(client, f"/trials/{trials[0].uid}")
    spans = {each["name"]: each for each in found["spans"]}

    assert found["total"] == len(found["spans"])
    assert "epoch" in spans
    assert trial["started"] - 1_000_000 <= spans["epoch"]["start"] <= trial["finished"]
    assert (spans["epoch"]["failed"], spans["epoch"]["rank"]) == (False, None)


def without_lost(trial):
    """Return a trial without what depends on the present time."""
    return {**trial, "status": trial["status"]["name"]}


def test_time_travel(client, trials):
    """At its last event a trial is what it is now, at its first it has just been created, and between it grows."""
    path = f"/trials/{trials[0].uid}"
    times = get(client, f"{path}/times")
    now, first = get(client, path), get(client, f"{path}/at", time=times["first"])

    assert without_lost(get(client, f"{path}/at", time=times["last"])) == without_lost(now)
    assert first["name"] == "views 0"
    assert (first["finished"], first["status"]["name"]) == (None, "CreatedGroup")
    kinds = [each["kind"] for each in times["marks"]]
    assert kinds[0] == "TrialCreated"
    assert "TrialFinished" in kinds
    rows = [get(client, f"{path}/at", time=each["time"])["rows"] for each in times["marks"]]
    assert rows == sorted(rows)
    tagged, ended = (
        next(each["time"] for each in times["marks"] if each["kind"] == kind) for kind in ("TagsAdded", "TrialFinished")
    )
    back = get(client, f"{path}/at", time=tagged)
    assert list(back["tags"]) == ["best so far"]
    assert (back["finished"] is None) == (tagged < ended)  # events of one batch have one time
    assert get(client, f"{path}/at", 404, time=times["first"] - 10_000_000)["error"]["place"] == "time"
    assert get(client, f"{path}/at", 400, time="soon")["error"]["place"] == "time"


def test_events_are_kept_within_a_bound(client, trials, monkeypatch):
    """The events of trials that were looked at are kept, up to a bound; those that are looked at now always are."""
    kept = pasts._PASTS.of(client.context)
    for each in (*trials[1:], trials[0]):
        get(client, f"/trials/{each.uid}/at", time=time.time_ns() // 1000)
    known = dict(kept._pasts)
    size = sum(each.nbytes for each in known.values())
    monkeypatch.setattr(pasts, "_MAX_BYTES", size - 1)
    first = get(client, f"/trials/{trials[5].uid}/times")
    some = list(kept._pasts)
    monkeypatch.setattr(pasts, "_MAX_BYTES", 1)
    again = get(client, f"/trials/{trials[5].uid}/times")

    assert set(known) == {each.uid for each in trials}
    assert size > sum(len(record.value) for each in known.values() for record in each.log.records) > 0
    assert some == [each.uid for each in (*trials[2:5], *trials[6:], trials[0], trials[5])]
    assert list(kept._pasts) == [trials[5].uid]
    assert first == again


def test_writes(client, trials):
    """Tags and notes are written through the Protocol; requests of other pages, and bad values, are refused."""
    path = f"/trials/{trials[1].uid}"
    tags = {"a.b": {"$float": "NaN"}, "n": {"$int": str(2**60)}, "$x": {"$dict": {"$y": [1, None]}}}
    assert client.post(f"{path}/tags", json={"tags": tags}, headers=WRITE).status_code == 204
    assert client.post(f"{path}/notes", json={"text": "better\nthan"}, headers=WRITE).status_code == 204
    found = until(lambda: (each := get(client, path))["notes"] and each)

    assert found["tags"] == tags
    assert found["notes"] == [{"text": "better\nthan"}]
    for headers in ({}, {**WRITE, "Origin": "http://evil.example"}, {"X-Trialstream": "0"}):
        assert client.post(f"{path}/notes", json={"text": "x"}, headers=headers).status_code == 401
    for body in ({"text": ""}, {"text": "x" * 10_001}, {"text": 1}, {}):
        assert client.post(f"{path}/notes", json=body, headers=WRITE).status_code == 400
    deep = 0
    for _ in range(600):
        deep = [deep]
    for value in ({"$float": "1"}, {"$bytes": "?"}, {"$other": 1}, {"$int": "--5"}, deep):
        assert client.post(f"{path}/tags", json={"tags": {"x": value}}, headers=WRITE).status_code == 400
    assert client.post(f"{path}/tags", json={"tags": {"x": [0] * 10_000}}, headers=WRITE).status_code == 413
    assert client.post("/trials/nope/tags", json={"tags": {"x": 1}}, headers=WRITE).status_code == 404


def test_without_kafka_and_without_writes(log, trials):
    """A dashboard that may not write refuses it; one without Kafka says so, and shows what MongoDB has."""
    with client_of(Settings(), replace(log, read_only=True)) as client:
        operations = get(client, "/operations")
        assert operations["troubles"] == ["Kafka is not used"]
        assert (operations["partitions"], operations["projections"][0]["state"]) == ([], "live")
        assert get(client, f"/trials/{trials[0].uid}/events", 503)["error"]["code"] == "kafka_away"
        assert get(client, f"/trials/{trials[0].uid}/timeline")["spans"] == []
        assert len(get(client, "/dead-letters")["letters"]) == 2
        refused = client.post(f"/trials/{trials[0].uid}/notes", json={"text": "x"}, headers=WRITE)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "read_only")


def test_all_endpoints_are_described(client):
    """The OpenAPI document has the endpoints with their parameters."""
    paths = get(client, "/openapi.json")["paths"]

    for path in ("columns", "where/check", "operations", "dead-letters", "trials/{uid}/at", "trials/{uid}/timeline"):
        assert paths[f"/api/v1/{path}"]["get"]["summary"]
    assert "requestBody" in paths["/api/v1/trials/{uid}/tags"]["post"]


def test_the_command_has_the_query_language(log, trials, tmp_path):
    """`trials` and `export-to` take texts of the query language; a fault is one line with its column."""
    where = "name contains views and parameters.lr > 1e-3 and not (status = Completed)"
    found = cli(log, "trials", "--where", where, "--sort", "-name", "--columns", "name,parameters.lr", "--json")
    table = cli(log, "trials", "--where", "rows > 1", "--columns", "parameters.model.width,finished")
    bad = cli(log, "trials", "--where", "rows >")
    exported = cli(log, "export-to", "csv", str(tmp_path / "out"), "--where", "rows > 1")

    assert found.returncode == 0, found.stderr
    assert [json.loads(line)["name"] for line in found.stdout.splitlines()] == ["views 2", "views 1"]
    assert json.loads(found.stdout.splitlines()[0])["parameters.lr"] == 0.01
    assert table.stdout.split()[:4] == ["uid", "parameters.model.width", "finished", trials[0].uid]
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr == "error: where, column 6: expected a word or a quoted text, got the end of the text\n"
    assert exported.stdout.startswith("exported 1 trial with 101 values"), exported.stderr
