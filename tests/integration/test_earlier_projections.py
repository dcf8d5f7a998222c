"""Deployments of versions that made a database for each projection are read, folded into, replaced and dropped."""

from __future__ import annotations

import json

import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from pymongo import MongoClient
from service_load import connected
from service_support import caught_up, cli, collections, differences, live, place, projections, snapshot
from trialstream_consumer.projection.catalog import ProjectionExists
from trialstream_consumer.replay.rebuild import rebuild, rebuild_until
from trialstream_consumer.replay.verify import verify
from trialstream_schemas.storage.collections import CATALOG, LIVE, Namespace


def ignore(*_):
    """Ignore progress and differences."""


def earlier(config, end):
    """Return the place of a projection of an earlier version."""
    return Namespace(f"{config.prefix}~{end}")


def described(client, namespace, kind, **fields):
    """Describe a projection as an earlier version did."""
    about = {"_id": "about", "kind": kind, "until": None, "ready": False, "version": "0.0.1", **fields}
    client[namespace.database][CATALOG].insert_one(about)


@pytest.fixture
async def deployed(config, consumer):
    """The log, and the projections of a version that has rebuilt three times and built `july`; the consumer folds on.

    A rebuild and a comparison were killed, and the second projection was not dropped.
    """
    service = consumer(config)
    async with connected(config) as protocol:
        trial = await protocol.new_trial(ts.Trial(name="old", parameters={"lr": 0.1}))
        await protocol.log_trial_metrics(trial, step=1, loss=0.5)
    await caught_up(config)
    await run_sync(service.stop)
    with MongoClient(config.mongo) as client:
        for name, each in collections(client, place(config)).items():
            documents = list(each.find())
            for end in ("2", "3", "4", "july", "verify"):
                copied = collections(client, earlier(config, end))[name]
                copied.create_index("_id")
                if documents:
                    copied.insert_many(documents)
            each.drop()
        client[config.prefix][CATALOG].update_one({"_id": LIVE}, {"$set": {"database": f"{config.prefix}~3"}})
        for end in ("2", "3", "4"):
            described(client, earlier(config, end), "rebuild")
        described(client, earlier(config, "july"), "until", until=2**42, ready=True)
        described(client, earlier(config, "verify"), "verify")
    service.start()
    yield config
    with MongoClient(config.mongo) as client:
        for each in {each.database for each in projections(config)}:
            client.drop_database(each)


async def test_an_earlier_deployment_works_as_it_is(deployed):
    """It is read, also by name, folded into, listed and verified; all of that is in its own databases."""
    config = deployed
    async with connected(config) as protocol:
        new = await protocol.new_trial(ts.Trial(name="new"))
        found = await protocol.fetch_trials({}, sort="created")
        history = await protocol.fetch_metrics(found[0], "loss")
    async with ts.connect(mongo=config.mongo, prefix=config.prefix, projection="july") as protocol:
        [july] = await protocol.fetch_trials({})
    listed = await run_sync(cli, config, "projections", "--json")
    states = {(each["database"], each["suffix"]): each["state"] for each in map(json.loads, listed.stdout.splitlines())}
    differing = []
    await verify(config, differing.append, ignore)

    assert [each.name for each in found] == ["old", "new"]
    assert list(history["loss"].values) == [0.5]
    assert (july.name, july.parameters) == ("old", {"lr": 0.1})
    assert live(config) == earlier(config, "3")
    assert new.uid in snapshot(config)["trials"]
    assert states == {
        earlier(config, "3"): "live",
        earlier(config, "2"): "left over",
        earlier(config, "4"): "unfinished",
        earlier(config, "july"): "ready",
        earlier(config, "verify"): "left over",
    }
    assert differing == []
    assert projections(config) == {earlier(config, each) for each in ("2", "3", "4", "july")}


async def test_an_earlier_deployment_is_rebuilt_into_one_database(deployed):
    """Readers and consumers switch; the old databases are dropped, that of a name by `projections --drop`."""
    config = deployed
    before = snapshot(config)
    with MongoClient(config.mongo) as client:
        client[earlier(config, "2").database].customers.insert_one({"_id": "theirs"})
    async with connected(config) as protocol:
        rebuilt = await rebuild(config, ignore)
        [old] = await protocol.fetch_trials({})
        await protocol.new_trial(ts.Trial(name="new"))

        assert {each.name for each in await protocol.fetch_trials({})} == {"old", "new"}

    assert rebuilt.namespace == live(config) == place(config, "5")
    assert old.name == "old"
    assert differences({name: before[name] for name in ("trials", "series", "outcomes")}, snapshot(config))
    assert projections(config) == {live(config), earlier(config, "july"), earlier(config, "verify")}

    with pytest.raises(ProjectionExists, match="projections --drop july"):
        await rebuild_until(config, "july", 2**42, ignore)
    dropped = await run_sync(cli, config, "projections", "--drop", "july")
    await rebuild_until(config, "july", 2**42, ignore)
    await verify(config, pytest.fail, ignore)
    async with ts.connect(mongo=config.mongo, prefix=config.prefix, projection="july") as protocol:
        assert len(await protocol.fetch_trials({})) == 2

    assert (dropped.returncode, dropped.stdout) == (0, "dropped july\n")
    assert projections(config) == {live(config), place(config, "july")}
    with MongoClient(config.mongo) as client:
        assert client[earlier(config, "2").database].list_collection_names() == ["customers"]
        assert {each for each in client.list_database_names() if each.startswith(config.prefix)} == {
            config.prefix,
            earlier(config, "2").database,
        }
        client.drop_database(earlier(config, "2").database)
