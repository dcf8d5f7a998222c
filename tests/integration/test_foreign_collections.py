"""Rebuilds and comparisons drop what they have made, and nothing that others keep beside it."""

from __future__ import annotations

import json
import time

import anyio
import pytest
import trialstream as ts
from anyio.to_thread import run_sync
from pymongo import MongoClient
from service_support import cli, collections, live, place, projections
from trialstream.event_log.topics import ensure_topics
from trialstream_consumer.projection.catalog import Catalog, ProjectionExists
from trialstream_consumer.replay.rebuild import rebuild, rebuild_until
from trialstream_consumer.replay.verify import verify
from trialstream_schemas.storage.collections import CATALOG, COLLECTIONS, LIVE


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
        (prefix, "customers~1"),
        (prefix, "trials~2"),
        (prefix, "series~backup"),
        (prefix, "series~01"),
        (prefix, "customers~verify"),
        (f"{prefix}~verify", "customers"),
        (f"{prefix}~3", "customers"),
        (f"{prefix}~july", "customers"),
        (f"{prefix}~backup", "trials"),
        (f"{prefix}x", "trials~4"),
    }
    for database, collection in foreign:
        client[database][collection].insert_one({"_id": "theirs"})
    for number in ("4", "5"):
        assert (await rebuild(config, ignore)).namespace == live(config) == place(config, number)
        client[prefix][f"customers~{number}"].insert_one({"_id": "theirs"})
        foreign.add((prefix, f"customers~{number}"))
    await verify(config, ignore, ignore)
    await rebuild_until(config, "july", int(1000 * time.time()) + 60_000, ignore)
    listed = await run_sync(lambda: cli(config, "projections", "--json").stdout)
    assert (await run_sync(lambda: cli(config, "projections", "--drop", "july"))).returncode == 0
    with pytest.raises(ts.ItemNotFound, match="there is no projection 'backup'"):
        async with Catalog(config) as catalog:
            await catalog.drop("backup")

    for database, collection in foreign:
        assert client[database][collection].find_one() == {"_id": "theirs"}
    theirs = {collection for database, collection in foreign if database == prefix}
    assert names(client, prefix) == {*theirs, CATALOG, *map(live(config).collection, COLLECTIONS)}
    assert {each["_id"] for each in client[prefix][CATALOG].find()} == {LIVE, "about~5"}
    assert [json.loads(each)["suffix"] for each in listed.splitlines()] == ["~5", "~july"]
    client.drop_database(f"{prefix}x")


@pytest.mark.parametrize("name", ["verify", "july"])
@pytest.mark.parametrize("collection", ["trials", "checkpoints"])
async def test_no_projection_begins_among_foreign_documents(log, name, collection):
    """A collection of others that has the name of one of ours is refused, and keeps its documents."""
    config, client = log
    before = names(client, config.prefix)
    client[config.prefix][f"{collection}~{name}"].insert_one({"_id": "theirs"})
    with pytest.raises(ts.ConfigError, match=rf"{config.prefix}: expected no documents in {collection}~{name}"):
        await (verify(config, ignore, ignore) if name == "verify" else rebuild_until(config, name, 1, ignore))

    assert names(client, config.prefix) - before <= {CATALOG, f"{collection}~{name}", *COLLECTIONS}
    assert client[config.prefix][f"{collection}~{name}"].find_one() == {"_id": "theirs"}


async def test_a_drop_that_was_killed_is_repeated(log):
    """The description is dropped last, so the next rebuild finds the rest of the projection, wherever a drop ended."""
    config, client = log
    await rebuild(config, ignore)
    first, catalog_of = live(config), client[config.prefix][CATALOG]
    kept, about = names(client, config.prefix), catalog_of.find_one({"_id": first.about})
    await rebuild(config, ignore)
    async with Catalog(config) as catalog:
        for dropped in range(len(COLLECTIONS) + 1):
            for each in COLLECTIONS[dropped:]:
                client[config.prefix][first.collection(each)].insert_one({"_id": "x"})
            catalog_of.insert_one(about)
            await catalog.clean()

            assert names(client, config.prefix) == {CATALOG, *map(live(config).collection, COLLECTIONS)}
            assert catalog_of.find_one({"_id": first.about}) is None
    assert kept == {CATALOG, *map(first.collection, COLLECTIONS)}


async def test_what_fenced_processes_make_anew_is_dropped(log):
    """A consumer or a rebuild that finds its projection dropped leaves checkpoints and empty collections there."""
    config, client = log
    await rebuild(config, ignore)
    first = live(config)
    await rebuild(config, ignore)
    found = collections(client, first)
    ours = [{"_id": f"{config.trials_topic}/0", "epoch": 1}, {"_id": "log", "log": "x", "partitions": 4}]
    theirs = {"_id": f"{config.prefix}x.trials/0", "epoch": 1}
    for made, is_ours in ((ours[:1], True), (ours[1:], True), (ours, True), ([*ours, theirs], False)):
        found["trials"].create_index("hash")
        found["checkpoints"].insert_many(made)
        async with Catalog(config) as catalog:
            await catalog.clean()

        assert projections(config) == {live(config), *([] if is_ours else [first])}


async def test_verify_begins_where_a_fenced_one_has_left_checkpoints(log):
    """The second of two concurrent comparisons drops what the first one has; what that writes then is in no way."""
    config, client = log
    found = collections(client, place(config, "verify"))
    found["series"].create_index("trial")
    found["checkpoints"].insert_one({"_id": f"{config.trials_topic}/1", "epoch": 1, "offset": 0})
    await verify(config, ignore, ignore)

    assert projections(config) == {live(config)}
    assert client[config.prefix][CATALOG].find_one({"_id": "about~verify"}) is None


async def test_concurrent_beginnings_are_one(log):
    """Rebuilds that begin at once are one projection, and of two projections until other times only one begins."""
    config, _ = log
    begun = []
    refused = []

    async def begin(catalog, until):
        try:
            begun.append(await catalog.begin_named("july", until))
        except ProjectionExists as error:
            refused.append(error)

    async with Catalog(config) as one, Catalog(config) as other:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(begin, one, 1)
            tasks.start_soon(begin, other, 2)
        rebuilds = []

        async def begin_rebuild(catalog):
            rebuilds.append(await catalog.begin_rebuild())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(begin_rebuild, one)
            tasks.start_soon(begin_rebuild, other)

    assert (begun, len(refused)) == ([place(config, "july")], 1)
    assert set(rebuilds) == {place(config, "1")}
