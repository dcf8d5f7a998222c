"""The dashboard's server as users run it: `trialstream dashboard` over HTTP, on the real servers."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import struct
import subprocess
import sys
import time
import uuid
from contextlib import asynccontextmanager, contextmanager

import anyio
import httpx
import jsonschema
import numpy as np
import pytest
import trialstream as ts
from contract import connected
from service_support import until
from trialstream_console.dashboard.app import API, ENDPOINTS
from trialstream_console.local.consumer import environment
from trialstream_console.local.ports import Ports

TOKEN = "a token of thirty-two characters"
_START_SECONDS = 30


@contextmanager
def dashboard(config, *options, **variables):
    """Run the command; yields the address of the API."""
    port = Ports.free().mongo
    command = [sys.executable, "-m", "trialstream_console.cli", "dashboard", "--port", str(port), *options]
    variables = {"TRIALSTREAM_DASHBOARD_TOKEN": "", **variables}
    with subprocess.Popen(command, env={**os.environ, **environment(config), **variables}) as process:
        try:
            deadline = time.monotonic() + _START_SECONDS
            while True:
                try:
                    httpx.get(f"http://127.0.0.1:{port}/login")
                    break
                except httpx.TransportError:
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}{API}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


@pytest.fixture(scope="module")
def address(served):
    """The API of a dashboard on the shared log."""
    with dashboard(served) as found:
        yield found


@pytest.fixture
async def api(address):
    """A client of that API."""
    async with httpx.AsyncClient(base_url=address, timeout=30) as client:
        yield client


async def series(api, **body):
    """Return the header of `/series`, and the points of its curves."""
    answer = await api.post("/series", json={"x": "step", "width": 1000, **body})
    assert answer.status_code == 200, answer.text
    [length] = struct.unpack_from("<I", answer.content)
    header = json.loads(answer.content[4 : 4 + length])
    doubles = np.frombuffer(answer.content, offset=4 + length + -(4 + length) % 8)
    points = {}
    for each in header["curves"]:
        at, count = each["offset"], each["points"]
        points[each["name"], each.get("group")] = doubles[at : at + count], doubles[at + count : at + 2 * count]
    return header, points


@asynccontextmanager
async def events(api, **parameters):
    """Open `/live`; yields a function that returns the next event as its name and its data."""
    async with api.stream("GET", "/live", params=parameters) as answer:
        assert answer.status_code == 200
        lines = answer.aiter_lines()

        async def following():
            found = {}
            async for line in lines:
                if not line and "data" in found:
                    return found["event"], json.loads(found["data"]), found.get("id")
                key, _, value = line.partition(": ")
                found[key] = value
            raise AssertionError("the stream has ended")

        yield following


async def test_projects_groups_and_tables(protocol, api, name):
    """Projects and groups have the counts of their trials, and a table has its rows by column, in pages."""
    project = await protocol.new_project(ts.Project(name=name, description="About."))
    group = await protocol.new_trial_group(ts.TrialGroup(name="g", project_id=project.uid))
    made = []
    for i in range(5):
        trial = await protocol.new_trial(
            ts.Trial(name=f"t{i}", parameters={"i": i, "nan": math.nan}, project_id=project.uid, group_id=group.uid)
        )
        await protocol.log_trial_start(trial)
        await protocol.log_trial_metrics(trial, step=1, loss=float(i))
        if i == 0:
            await protocol.log_trial_finish(trial, ValueError, ValueError("no"), None)
        made.append(trial)
    await protocol.commit("folded")

    async def is_counted():
        found = (await api.get("/projects")).json()
        return [each["trials"] for each in found if each["uid"] == project.uid] == [5]

    await until(is_counted)
    [row] = [each for each in (await api.get("/projects")).json() if each["uid"] == project.uid]
    [group_row] = (await api.get("/groups", params={"project": project.uid})).json()
    columns = ["parameters.i", "parameters.nan", "metrics.loss.last", "tags.none", "status", "created"]
    whole = (await api.get("/trials", params={"project": name, "columns": columns, "sort": "parameters.i"})).json()
    page = await api.get("/trials", params={"group": group.uid, "sort": "-parameters.i", "limit": 2, "offset": 2})
    where = await api.get("/trials", params={"where": f'project_id = "{name}" and metrics.loss.last > 2'})
    unchanged = await api.get("/projects", headers={"If-None-Match": (await api.get("/projects")).headers["etag"]})

    assert (row["trials"], row["running"], row["failed"], row["description"]) == (5, 4, 1, "About.")
    assert group_row["project"] == project.uid
    assert whole["uids"] == [each.uid for each in made]
    assert whole["values"][:4] == [[0, 1, 2, 3, 4], [{"$float": "NaN"}] * 5, [0.0, 1.0, 2.0, 3.0, 4.0], [None] * 5]
    assert whole["values"][4] == ["Exception"] + ["Running"] * 4
    assert whole["statuses"][0] == {"name": "Exception", "code": 202, "lost": False}
    assert (page.json()["names"], page.json()["total"]) == (["t2", "t1"], 5)
    assert where.json()["total"] == 2
    assert unchanged.status_code == 304


async def test_series(protocol, api, trial):
    """Curves have all rows as points if these are few; later rows come by `since`, and NaN is counted and marked."""
    for step in range(100):
        value = {7: math.nan, 8: math.inf}.get(step, float(step))
        await protocol.log_trial_metrics(trial, step=2 * step, loss=value, lr=100.0 - step)
    await protocol.commit("folded")
    curves = [{"trial": trial.uid, "name": name} for name in ("loss", "lr", "none")]

    header, points = await series(api, curves=curves)
    _, ranged = await series(api, curves=curves, **{"from": 20, "to": 24})
    _, over_lr = await series(api, curves=curves[:1], x={"metric": "lr"}, width=1000)
    coarse, few = await series(api, curves=curves[1:2], width=5)
    await protocol.log_trial_metrics(trial, step=1000, loss=1.5, lr=0.0)
    await protocol.commit("folded")
    later_header, later = await series(api, curves=curves, since=header["rows_seen"])

    assert set(points) == {("loss", None), ("lr", None)}
    assert points["lr", None][0].tolist() == list(range(0, 200, 2))
    info = header["curves"][0]
    assert (info["total"], info["points"], info["exact"]) == (100, 98, True)
    assert {**info["specials"], "offset": 0} == {"nan": 1, "inf": 1, "neginf": 0, "marks": 2, "offset": 0}
    assert ranged["loss", None][1].tolist() == [10.0, 11.0, 12.0]
    assert over_lr["loss", None][0].tolist() == sorted(100.0 - step for step in range(100) if step not in (7, 8))
    assert not coarse["curves"][0]["exact"]
    assert {100.0, 1.0} <= set(few["lr", None][1].tolist())
    assert later["loss", None][1].tolist() == [1.5]
    assert later_header["rows_seen"] == {trial.uid: 101}


async def test_series_of_ranks_and_of_superseded_rows(served, protocol, api, trial):
    """Superseded rows are left out, also those of an earlier answer, and each rank has a curve of its own."""
    curves = [{"trial": trial.uid, "name": "loss"}]
    await protocol.log_trial_start(trial, attempt=ts.Attempt("first", rank=0))
    for step in range(10):
        await protocol.log_trial_metrics(trial, step=step, loss=float(step))
    await protocol.commit("folded")
    before, _ = await series(api, curves=curves)
    async with connected(served) as second:
        await second.log_trial_start(trial, attempt=ts.Attempt("second", rank=1, resume_step=4, resumes="first"))
        await second.log_trial_metrics(trial, step=5, loss=50.0)
        await second.commit("folded")

    after, points = await series(api, curves=curves, since=before["rows_seen"])
    _, with_attempts = await series(api, curves=curves, attempts=True)
    _, by_rank = await series(api, curves=[{**curves[0], "by": "rank"}])

    assert after["reset"] == [trial.uid]
    assert points["loss", None][1].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 50.0]
    assert len(with_attempts["loss", None][0]) == 11
    assert [by_rank["loss", rank][1].tolist() for rank in ("0", "1")] == [[0.0, 1.0, 2.0, 3.0, 4.0], [50.0]]


async def test_bands(protocol, api, name):
    """The trials of a query are banded by the value of a parameter."""
    for seed in range(4):
        trial = await protocol.new_trial(ts.Trial(name=name, parameters={"seed": seed, "lr": seed % 2}))
        for step in range(5):
            await protocol.log_trial_metrics(trial, step=step, loss=float(seed))
    await protocol.commit("folded")

    body = {"where": f'name = "{name}"', "name": "loss", "group_by": "parameters.lr", "points": 100}
    answer = await api.post("/bands", json=body)

    [length] = struct.unpack_from("<I", answer.content)
    bands = json.loads(answer.content[4 : 4 + length])["bands"]
    assert sorted((each["key"], each["trials"], each["points"]) for each in bands) == [(0, 2, 5), (1, 2, 5)]


async def test_bands_are_those_of_the_protocol(protocol, api, name):
    """Bands from histories in memory are those that the protocol reads, and grow with later rows."""
    trials = [await protocol.new_trial(ts.Trial(name=name, parameters={"seed": seed})) for seed in range(3)]

    async def both(section, metric):
        await protocol.commit("folded")
        body = {"where": f'name = "{name}"', "name": metric, "section": section, "points": 100, "quantiles": [0.5]}
        content = (await api.post("/bands", json=body)).content
        [length] = struct.unpack_from("<I", content)
        [band] = json.loads(content[4 : 4 + length])["bands"]
        table = np.frombuffer(content, offset=4 + length + -(4 + length) % 8).reshape(len(band["columns"]), -1)
        found = await protocol.fetch_bands({"name": name}, metric, section=section, points=100, quantiles=[0.5])
        wanted = [found.steps, found.count, found.mean, found.std, found.min, found.max, found.quantiles[0.5]]
        assert band["trials"] == len(found.trials)
        assert np.array_equal(table, np.array(wanted, np.float64), equal_nan=True)
        return len(found)

    lengths = []
    for steps in ([0, 1, 2, 2, 5], [7, 6.5], ["text", 9]):
        for seed, trial in enumerate(trials):
            for step in steps[seed:]:
                await protocol.log_trial_metrics(trial, step=step, loss=seed / 7 if step != 1 else math.nan)
            await protocol.log_trial_metadata(trial, note=seed, aggregator=ts.timeseries_aggregator)
        lengths.append(await both("metrics", "loss"))
        await both("metadata", "note")
        await both("metrics", "none")
    assert lengths == [3, 5, 6]


async def test_live_rows_and_cursors(protocol, api, trial):
    """New rows and changes come at once, and a client goes on after the event that it saw last."""
    table = (await api.get("/trials", params={"where": f'uid = "{trial.uid}"'})).json()
    with anyio.fail_after(30):
        async with events(api, trial=trial.uid, curves=["loss"], since=table["cursor"]) as following:
            assert (await following())[0] == "state"
            await protocol.log_trial_metrics(trial, step=1, loss=0.5, other=1.0)
            while (found := await following())[0] != "rows":
                assert found[0] == "trials"
            seen = found[2]
        await protocol.log_trial_metrics(trial, step=2, loss=math.nan)
        await protocol.commit("folded")
        async with events(api, since=seen) as following:
            await following()
            while trial.uid not in (later := await following())[1]["uids"]:
                pass
        async with events(api, since="nobody's/cursor") as following:
            await following()
            assert (await following())[0] == "reset"

    assert found[1]["from"] == 0
    assert found[1]["names"]["loss"]["steps"] == [1]
    assert found[1]["names"]["loss"]["values"] == [0.5]
    assert set(found[1]["names"]) == {"loss"}
    assert later[0] == "trials"


async def test_live_events_of_many_rows_have_what_a_plot_needs(protocol, api, trial):
    """Events of many rows that come at once have their extremes, the last one, and the counts of all."""
    count = 9000
    values = {7: math.nan, 2500: 1e6, 6000: -1e6, count - 1: 2.0}
    got = []
    with anyio.fail_after(30):
        async with events(api, trial=trial.uid, curves=["loss", "other"]) as following:
            await following()
            for step in range(count):
                await protocol.log_trial_metrics(trial, step=step, loss=values.get(step, 0.5), other=1.0)
            while not got or got[-1]["rows_seen"] < count:
                name, data, _ = await following()
                if name == "rows":
                    got.append(data)

    assert [each["from"] for each in got] == [0, *(each["rows_seen"] for each in got[:-1])]
    assert not any(each["more"] for each in got)
    rows = [each["names"]["loss"] for each in got]
    assert sum(each["counts"]["total"] if "counts" in each else len(each["values"]) for each in rows) == count
    found = {step: value for each in rows for step, value in zip(each["steps"], each["values"], strict=True)}
    assert list(found) == sorted(found)
    assert {step: found[step] for step in values} == {**values, 7: {"$float": "NaN"}}


async def test_counts_follow_live_changes(protocol, api, name):
    """Requests share the counts of trials, but a page that was told of a change gets the counts with it."""
    project = await protocol.new_project(ts.Project(name=name))
    with anyio.fail_after(30):
        async with events(api, project=project.uid) as following:
            await following()
            for count in range(1, 5):
                trial = await protocol.new_trial(ts.Trial(name=name, parameters={"n": count}, project_id=project.uid))
                while trial.uid not in (await following())[1].get("uids", ()):
                    pass
                for _ in range(2):
                    found = (await api.get("/projects")).json()
                    assert [each["trials"] for each in found if each["uid"] == project.uid] == [count]


async def test_two_hundred_pages_watch_one_trial(protocol, address, trial):
    """All rows of a trial reach each of 200 pages of one process, in order and once."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as api:
        got = {}

        async def watch(number, ready):
            async with events(api, trial=trial.uid) as following:
                await following()
                ready.set()
                steps = got[number] = []
                while len(steps) < 30:
                    name, data, _ = await following()
                    if name == "rows":
                        steps += data["names"]["loss"]["steps"]

        with anyio.fail_after(90):
            async with anyio.create_task_group() as tasks:
                waiting = [asyncio.Event() for _ in range(200)]
                for number, ready in enumerate(waiting):
                    tasks.start_soon(watch, number, ready)
                for each in waiting:
                    await each.wait()
                for step in range(30):
                    await protocol.log_trial_metrics(trial, step=step, loss=float(step))
                    await asyncio.sleep(0.02)

    assert list(got.values()) == [list(range(30))] * 200


@pytest.mark.parametrize(
    ("path", "place", "message"),
    [
        ("/trials?limit=0", "limit", "at least 1"),
        ("/trials?limit=many", "limit", "a whole number"),
        ("/trials?colour=red", "colour", "expected one of"),
        ("/trials?columns=nmae", None, "there is no field 'nmae'"),
        ("/trials?where=status+%3D", "where", "column 8"),
        ("/trials/nobody", "uid", "there is no trial"),
        ("/nothing", "path", "no such path"),
    ],
)
async def test_wrong_requests(api, path, place, message):
    """An error names its parameter, in the one form of all errors."""
    answer = await api.get(path)

    assert answer.status_code in (400, 404)
    error = answer.json()["error"]
    assert message in error["message"]
    assert error.get("place") == place


async def test_the_address_of_a_tracker(protocol, address, name):
    """The page of a trial whose revision was not decided when it was created leads to the page of the trial."""
    trial = await protocol.new_trial(ts.Trial(name=name), auto_increment=True, wait=False)
    await protocol.commit("folded")
    [decided] = await protocol.get_trial(trial)
    async with httpx.AsyncClient(base_url=address.removesuffix(API)) as client:
        answer = await client.get(f"/trials/{trial.uid}?tab=log")
        unknown = await client.get(f"/trials/{trial.hash}~{'0' * 16}")

    assert (answer.status_code, answer.headers["location"]) == (307, f"/trials/{decided.uid}?tab=log")
    assert unknown.status_code == 200  # the page says that there is no such trial


async def test_answers_have_the_shapes_of_the_document(protocol, api, trial):
    """Each route is in the OpenAPI document with its answer, and answers are valid by its schemas."""
    await protocol.log_trial_metrics(trial, step=1, loss=0.5)
    await protocol.log_trial_metadata(trial, deep={"a": [1, None, b"x"], "$key": math.inf})
    await protocol.commit("folded")
    document = (await api.get("/openapi.json")).json()

    for path in ("/about", "/projects", "/groups", "/trials?columns=metadata", f"/trials/{trial.uid}"):
        answer = await api.get(path)
        template = f"{API}/trials/{{uid}}" if trial.uid in path else API + path.partition("?")[0]
        schema = document["paths"][template]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(answer.json(), {**schema, "components": document["components"]})

    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == {
        (API + each.path, each.method.lower()) for each in ENDPOINTS
    }


async def test_the_token(served):
    """With a token, an answer needs it in the header or in the cookie of a login; several workers share both."""
    with dashboard(served, "--workers", "2", TRIALSTREAM_DASHBOARD_TOKEN=TOKEN) as address:
        page = address.removesuffix(API)
        async with httpx.AsyncClient() as client:
            refused = await client.get(f"{address}/about")
            wrong = await client.get(f"{address}/about", headers={"Authorization": "Bearer nonsense"})
            allowed = await client.get(f"{address}/about", headers={"Authorization": f"Bearer {TOKEN}"})
            to_login = await client.get(f"{page}/trials?where=x")
            failed = await client.post(f"{page}/login", data={"token": "nonsense", "next": "/"})
            logged_in = await client.post(f"{page}/login", data={"token": TOKEN, "next": "/trials?where=x"})
            by_cookie = [(await client.get(f"{address}/about")).status_code for _ in range(6)]

    assert [each.status_code for each in (refused, wrong, allowed, failed)] == [401, 401, 200, 403]
    assert refused.json()["error"]["code"] == "unauthorized"
    assert to_login.headers["location"] == "/login?next=%2Ftrials%3Fwhere%3Dx"
    assert (logged_in.status_code, logged_in.headers["location"]) == (303, "/trials?where=x")
    assert {"HttpOnly", "SameSite=strict"} <= set(logged_in.headers["set-cookie"].split("; "))
    assert by_cookie == [200] * 6


async def test_mongodb_goes_away_and_comes_back(config, consumer, stack):
    """While MongoDB is away, requests get an error at once, and live clients the state; then all works again."""
    consumer(config)
    async with ts.connect(kafka=config.kafka, mongo=config.mongo, prefix=config.prefix) as protocol:
        trial = await protocol.new_trial(ts.Trial(name=uuid.uuid4().hex))
        await protocol.commit("folded")
    with dashboard(config) as address:
        async with httpx.AsyncClient(base_url=address, timeout=30) as api, events(api) as following:
            assert (await following())[1] == {"mongo": "ok", "kafka": "ok", "live": "ok"}
            assert (await api.get(f"/trials/{trial.uid}")).status_code == 200
            stack.mongo.kill()
            try:
                with anyio.fail_after(30):
                    while (found := await following())[0] != "state" or found[1]["mongo"] == "ok":
                        pass
                about, away = await api.get("/about"), await api.get("/trials")
            finally:
                stack.mongo.start()
            with anyio.fail_after(60):
                while (found := await following())[0] != "state" or found[1]["mongo"] != "ok":
                    pass

            async def answers():
                return (await api.get(f"/trials/{trial.uid}")).status_code == 200

            await until(answers)

    assert about.json()["mongo"] != "ok"
    assert (away.status_code, away.json()["error"]["code"]) == (503, "mongo_away")
