"""The dashboard on secured servers: it works with the rights of its role, and says which one is missing."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import httpx
import pytest
import trialstream as ts
import uvicorn
from anyio.to_thread import run_sync
from service_support import until
from test_dashboard import events
from trialstream_console.dashboard.app import API, make_app
from trialstream_console.dashboard.settings import Settings
from trialstream_console.rights import ROLES, KafkaRight

from secured.roles import config_of, connected, first_of_each, without, without_action

LACKS = "lacks the right "
WRITE = {"X-Trialstream": "1"}
SECONDS = 30.0


@contextmanager
def served(config: ts.Config, **settings) -> Iterator[str]:
    """Serve a dashboard from a thread; yields the address of its API."""
    app = make_app(Settings(**settings), config)
    server = uvicorn.Server(uvicorn.Config(app, port=0, ws="none", log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + SECONDS
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}{API}"
    finally:
        server.should_exit = True
        thread.join(SECONDS)


def client_of(address: str) -> httpx.AsyncClient:
    """Return a client of an API."""
    return httpx.AsyncClient(base_url=address, timeout=SECONDS)


@pytest.fixture(scope="module")
def address(secured) -> Iterator[str]:
    """The API of a dashboard with the role `dashboard`."""
    with served(config_of(secured, "dashboard")) as found:
        yield found


@pytest.fixture
async def api(address):
    """A client of that API."""
    async with client_of(address) as client:
        yield client


@pytest.fixture(scope="module")
async def trial(secured) -> str:
    """Uid of a trial that runs."""
    async with connected(config_of(secured, "protocol")) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="shown"), auto_increment=True)
        await protocol.log_trial_start(trial)
        await protocol.log_trial_metrics(trial, step=1, loss=0.5)
        await protocol.commit("folded")
        return trial.uid


async def log_row(secured, uid: str) -> None:
    """Log another row of the trial."""
    async with connected(config_of(secured, "protocol")) as protocol:
        [trial] = await protocol.fetch_trials({"uid": uid})
        await protocol.log_trial_metrics(trial, step=trial.rows + 1, loss=0.25)
        await protocol.commit("folded")


async def get(api: httpx.AsyncClient, path: str, **parameters):
    """Return the JSON of an answer."""
    answer = await api.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def said(api: httpx.AsyncClient, uid: str) -> list[str]:
    """Return what the dashboard says of all that it cannot show. Each answer is what was asked for, or an error."""
    about = await get(api, "/about")
    found = [about[each] for each in ("mongo", "kafka", "live") if about[each] != "ok"]
    found += (await get(api, "/operations"))["troubles"]
    for path in ("/trials", f"/trials/{uid}", f"/trials/{uid}/events", f"/trials/{uid}/times", "/dead-letters"):
        answer = await api.get(path)
        if answer.status_code != 200:
            assert answer.status_code == 503, answer.text
            found.append(answer.json()["error"]["message"])
    return found


async def test_least_rights(secured, api, trial):
    """With the rights of its role, a dashboard shows trials, live changes, the log and the service."""
    assert await said(api, trial) == []
    events_of_trial = (await get(api, f"/trials/{trial}/events"))["events"]
    assert {"TrialCreated", "TrialStarted", "MetricsLogged"} <= {each["kind"] for each in events_of_trial}
    found = await get(api, "/operations")
    assert all(each["bytes"] is not None and each["retention"] != "unknown" for each in found["topics"])
    assert len(found["topics"]) == 3
    assert found["consumers"]
    assert found["projections"][0]["size"] > 0
    assert all(each["lag"] is not None and each["owner"] for each in found["partitions"][-2:])

    cursor = (await get(api, "/trials"))["cursor"]
    async with events(api, since=cursor) as following:
        assert (await following())[:2] == ("state", {"mongo": "ok", "kafka": "ok", "live": "ok"})
        await log_row(secured, trial)
        with anyio.fail_after(SECONDS):
            while (found := await following())[0] != "trials" or trial not in found[1]["uids"]:
                pass


KAFKA_RIGHTS = ROLES["dashboard"].kafka


@pytest.mark.parametrize(
    "right",
    first_of_each(lambda right: (right.operation, right.kind), ((each,) for each in KAFKA_RIGHTS)),
    ids=lambda each: f"{each.operation} {each.resource}",
)
async def test_missing_right_in_kafka(secured, trial, right):
    """Without any one of its rights in Kafka, a dashboard names the right, and shows all else."""
    # A right to read includes that to describe, which is missed first.
    operation = r"\w+" if right.operation == "Read" else right.operation
    place = "the cluster" if right.kind == "cluster" else f"{right.kind} {re.escape(right.name(secured.config))}"
    wanted = re.compile(f"{LACKS}{operation} on {place}: `trialstream rights`")
    async with without(secured, "dashboard", right):
        with served(config_of(secured, "dashboard")) as address:
            async with client_of(address) as api:
                await until(lambda: has(api, trial, wanted), SECONDS)
                assert trial in (await get(api, "/trials"))["uids"]
                if right.operation == "Read":
                    answer = await api.get(f"/trials/{trial}/events")
                    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "kafka_away")
                    assert wanted.search(answer.json()["error"]["message"])


@pytest.mark.parametrize("action", ROLES["dashboard"].mongo)
async def test_missing_right_in_mongodb(secured, trial, action):
    """Without any one of its actions in MongoDB, a dashboard names the action, and shows what does not need it."""
    wanted = re.compile(rf"{LACKS}{action}\b")
    async with without_action(secured, "dashboard", action):
        with served(config_of(secured, "dashboard")) as address:
            async with client_of(address) as api:
                await until(lambda: has(api, trial, wanted), SECONDS)
                assert [each["name"] for each in (await get(api, "/operations"))["topics"]]
                if action != "find":
                    assert trial in (await get(api, "/trials"))["uids"]


async def has(api: httpx.AsyncClient, uid: str, wanted: re.Pattern[str]) -> bool:
    """Whether the dashboard says something."""
    return any(map(wanted.search, await said(api, uid)))


async def test_a_right_that_comes_back(secured, api, trial):
    """A dashboard that loses rights while it runs says so to open pages, and goes on when they are granted again."""
    read = KafkaRight("Read", "trials")
    async with events(api) as following:

        async def state(name: str, wanted: str) -> None:
            with anyio.fail_after(SECONDS):
                while (found := await following())[0] != "state" or wanted not in found[1][name]:
                    pass

        await state("live", "ok")
        async with without_action(secured, "dashboard", "changeStream"):
            await log_row(secured, trial)
            await state("live", f"{LACKS}changeStream")
        await state("live", "ok")
        async with without(secured, "dashboard", read):
            await until(lambda: has(api, trial, re.compile(rf"{LACKS}\w+ on topic .*trials: ")), SECONDS)

    async def is_quiet() -> bool:
        return not await said(api, trial)

    await until(is_quiet, SECONDS)


async def test_writes(secured, trial, tmp_path):
    """With `--allow-writes` and its role, a dashboard writes tags; without Write on the trials, it names that right."""
    config = config_of(secured, "dashboard-writes", spool_dir=str(tmp_path))
    right = KafkaRight("Write", "trials")
    with served(config, writes=True) as address:
        async with client_of(address) as api:
            assert await said(api, trial) == []
            async with without(secured, "dashboard-writes", right):
                answer = await api.post(f"/trials/{trial}/tags", json={"tags": {"late": 1}}, headers=WRITE)
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "kafka_away")
                assert f"{LACKS}Write on topic {right.name(config)}: " in answer.json()["error"]["message"]

            async def is_written() -> bool:
                answer = await api.post(f"/trials/{trial}/tags", json={"tags": {"soon": 2}}, headers=WRITE)
                return answer.status_code == 204

            await until(is_written, SECONDS)

            async def has_both() -> bool:
                return (await get(api, f"/trials/{trial}"))["tags"].items() >= {"late": 1, "soon": 2}.items()

            await until(has_both, SECONDS)


async def test_dashboard_of_the_stack(secured):
    """The dashboard that `trialstream up --secure` starts has the role `dashboard`."""
    await run_sync(secured.dashboard.start)
    try:
        assert "dashboard:" in secured.dashboard.config.mongo
        async with client_of(f"http://{secured.dashboard.address}{API}") as api:
            about = await get(api, "/about")
            assert (about["mongo"], about["kafka"], about["writes"]) == ("ok", "ok", False)
    finally:
        await run_sync(secured.dashboard.stop)
