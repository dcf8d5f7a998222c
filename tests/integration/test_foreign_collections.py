"""Rebuilds and comparisons drop what they have made, and nothing that others keep beside it."""

from __future__ import annotations

import time

import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from pymongo import MongoClient
from service_support import cli, databases, live
from trialstream.event_log.topics import ensure_topics
from trialstream_consumer.projection.catalog import Catalog
from trialstream_consumer.replay.rebuild import rebuild, rebuild_until
from trialstream_consumer.replay.verify import verify
from trialstream_schemas.storage.collections import CATALOG, COLLECTIONS


def ignore(*_):
    """Ignore progress and differences."""


@pytest.fixture
async def log(config):
    """A log without trials, and a client of its MongoDB."""
    await ensure_topics(config)
    with MongoClient(config.mongo) as client:
        yield config, client


def names(client, database):
    """Return the collections of a database."""
    return set(client[database].list_collection_names())


async def test_foreign_collections_and_databases_stay(log):
    """All documents of others are kept by `rebuild`, `rebuild --until`, `verify` and `projections --drop`."""
    config, client = log
    prefix = config.prefix
    foreign = {
        (prefix, "customers"),
        (prefix, "trials.old"),
        (f"{prefix}~verify", "customers"),
        (f"{prefix}~1", "customers"),
        (f"{prefix}~2", "trials"),
        (f"{prefix}~july", "customers"),
        (f"{prefix}~backup", "trials"),
        (f"{prefix}~01", "series"),
    }
    for database, collection in foreign:
        client[database][collection].insert_one({"_id": "theirs"})
    for number in (3, 4):
        assert (await rebuild(config, ignore)).database == live(config) == f"{prefix}~{number}"
        client[live(config)].customers.insert_one({"_id": "theirs"})
        foreign.add((live(config), "customers"))
    await verify(config, ignore, ignore)
    await rebuild_until(config, "july", int(1000 * time.time()) + 60_000, ignore)
    listed = await run_sync(lambda: cli(config, "projections", "--json").stdout)
    assert (await run_sync(lambda: cli(config, "projections", "--drop", "july"))).returncode == 0
    with pytest.raises(ts.ItemNotFound, match="there is no projection 'backup'"):
        async with Catalog(config) as catalog:
            await catalog.drop("backup")

    for database, collection in foreign:
        assert client[database][collection].find_one() == {"_id": "theirs"}
    assert names(client, f"{prefix}~verify") == names(client, f"{prefix}~3") == {"customers"}
    assert names(client, f"{prefix}~july") == {"customers"}
    assert names(client, prefix) == {CATALOG, "customers", "trials.old"}
    assert names(client, live(config)) == {*COLLECTIONS, CATALOG, "customers"}
    assert [prefix + each in listed for each in ("~4", "~july", "~backup", "~1", "~01")] == [True, True, *[False] * 3]


@pytest.mark.parametrize("name", ["verify", "july"])
@pytest.mark.parametrize("collection", ["trials", "checkpoints", CATALOG])
async def test_no_projection_begins_among_foreign_collections(log, name, collection):
    """A database of others that has a collection of our names is refused, and keeps its documents and nothing else."""
    config, client = log
    database = f"{config.prefix}~{name}"
    client[database][collection].insert_one({"_id": "theirs"})
    with pytest.raises(ts.ConfigError, match=rf"database {database}: expected no collection {collection}"):
        await (verify(config, ignore, ignore) if name == "verify" else rebuild_until(config, name, 1, ignore))

    assert names(client, database) == {collection}
    assert client[database][collection].find_one() == {"_id": "theirs"}


async def test_a_drop_that_was_killed_is_repeated(log):
    """The description is dropped last, so the next rebuild finds the rest of the projection, wherever a drop ended."""
    config, client = log
    await rebuild(config, ignore)
    first = live(config)
    kept, about = names(client, first), client[first][CATALOG].find_one()
    await rebuild(config, ignore)
    async with Catalog(config) as catalog:
        for dropped in range(len(COLLECTIONS) + 1):
            for each in COLLECTIONS[dropped:]:
                client[first][each].insert_one({"_id": "x"})
            client[first][CATALOG].insert_one(about)
            await catalog.clean()

            assert names(client, first) == set()
    assert kept == {*COLLECTIONS, CATALOG}


async def test_checkpoints_that_a_fenced_consumer_makes_anew_are_dropped(log):
    """A consumer that takes a partition over in a dropped projection leaves checkpoints: ours go, others' stay."""
    config, client = log
    await rebuild(config, ignore)
    first = live(config)
    await rebuild(config, ignore)
    for topic, is_ours in ((config.trials_topic, True), (f"{config.prefix}x.trials", False)):
        client[first].checkpoints.insert_one({"_id": f"{topic}/0", "epoch": 1})
        async with Catalog(config) as catalog:
            await catalog.clean()

        assert names(client, first) == (set() if is_ours else {"checkpoints"})
    assert databases(config) == {live(config), first}
