"""The dashboard's limits and extreme curves on the real servers: `trialstream dashboard` over HTTP."""

from __future__ import annotations

import math

import anyio
import httpx
import pytest
from service_support import send, until
from test_dashboard import TOKEN, dashboard, series
from trialstream.event_log.topics import partition_of
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.wire.codec import encode
from trialstream_schemas.wire.events import MetricsLogged

STEPS = {
    "huge": [-1e308, 0.0, 1e308],
    "subnormal": [-5e-324, 0.0, 5e-324],
    "equal": [7, 7, 7],
    "descending": [3.5, 2.5, 1.5],
    "whole": [-(2**63), 2**53 + 1, 2**63 - 1],
    "text": ["a", "b", "c"],
}
# Steps that no call takes: only a foreign writer logs them.
FOREIGN_STEPS = {"nan": [1.0, math.nan, 3.0], "inf": [1.0, math.inf, 3.0], "-inf": [-math.inf, 2.0, 3.0]}


@pytest.fixture(scope="module")
def address(served):
    """The API of a dashboard that demands the token."""
    with dashboard(served, TRIALSTREAM_DASHBOARD_TOKEN=TOKEN) as found:
        yield found


@pytest.fixture
async def api(address):
    """A client of that API that has logged in."""
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        answer = await client.post(address.replace("/api/v1", "/login"), data={"token": TOKEN})
        assert answer.status_code == 303
        yield client


async def test_curves_of_extreme_steps(served, protocol, api, trial):
    """All rows are points; steps without a place on an axis are replaced by the numbers of the rows."""
    for name, steps in STEPS.items():
        for i, step in enumerate(steps):
            await protocol.log_trial_metrics(trial, step=step, **{name: 1e308 * (1 - i)})
    await protocol.commit("folded")
    events = [
        MetricsLogged(
            trial=trial.uid, writer=f"foreign-{name}", seq=1, time=1_800_000_000_000_000, names=(name,),
            aggregator=AggregatorSpec("timeseries"), times=(0, 1, 2), columns=[(1e308, 0.0, -1e308)], float_steps=steps,
        )
        for name, steps in FOREIGN_STEPS.items()
    ]  # fmt: skip
    key = trial.hash.encode()
    await send(served, map(encode, events), key=key, partition=partition_of(key, served.partitions))

    async def curve(name, x="step"):
        header, points = await series(api, curves=[{"trial": trial.uid, "name": name}], x=x)
        return [(each["total"], each["points"], each["text_steps"]) for each in header["curves"]], points

    async def is_folded():
        return len((await curve("-inf"))[0]) == 1

    await until(is_folded)
    for name, steps in (STEPS | FOREIGN_STEPS).items():
        is_ordered = name in STEPS and name != "text"
        for x in ("step", "relative"):
            found, points = await curve(name, x)
            assert found == [(3, 3, not is_ordered)]
            assert sorted(points[name, None][1].tolist()) == [-1e308, 0.0, 1e308]
            if x == "step":
                assert points[name, None][0].tolist() == (sorted(map(float, steps)) if is_ordered else [0.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/series", {"x": "step", "width": 10, "curves": [], "until": 10**30}, "until"),
        ("/series", {"x": "step", "width": 10, "curves": [], "since": {str(i): 1 for i in range(201)}}, "since"),
        ("/series", {"x": "step", "width": 10, "curves": [], "since": {"a": 10**30}, "until": -1}, "until"),
        ("/bands", {"name": "loss", "points": 10**30}, "points"),
    ],
    ids=["until", "many trials", "a negative time", "points"],
)
async def test_numbers_beyond_all_limits(api, path, body, place):
    """Bodies are checked by their shape before anything is read."""
    body = {**body, "curves": [{"trial": "t_0", "name": "loss"}]} if "curves" in body else body
    answer = await api.post(path, json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["place"] == place


async def test_one_user_does_not_hold_up_another(address, api, protocol, trial):
    """While a user has more expensive requests than may run and wait, another one gets his answers."""
    await protocol.log_trial_metrics(trial, step=1, loss=0.5)
    await protocol.commit("folded")
    statuses = []

    async def flood(i):
        answer = await greedy.get("/columns", params={"where": f"rows >= {i}"})
        statuses.append(answer.status_code)

    body = {"curves": [{"trial": trial.uid, "name": "loss"}], "x": "step", "width": 100}
    pool = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=pool) as greedy:
        await greedy.post(address.replace("/api/v1", "/login"), data={"token": TOKEN})
        async with anyio.create_task_group() as tasks:
            for i in range(150):
                tasks.start_soon(flood, i)
            found = [(await api.post("/series", json=body)).status_code for _ in range(10)]

    assert found == [200] * 10
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) >= 67
