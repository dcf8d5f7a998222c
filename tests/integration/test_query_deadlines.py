"""The time limit of queries in MongoDB."""

from __future__ import annotations

import functools
import time

import anyio
import pytest
import trialstream as ts
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import MongoClient
from pymongo.monitoring import CommandListener
from service_support import paused
from trialstream.reading import mongo
from trialstream.reading.query import MAX_PATTERNS
from trialstream_schemas.storage.documents import trial_to_document

READS = ("find", "aggregate")


class Commands(CommandListener):
    """Records the commands that a client sends."""

    def __init__(self):
        self.sent = []

    def started(self, event):
        """Record the command."""
        self.sent.append((event.command_name, event.command))

    def succeeded(self, event):
        """Record nothing."""

    def failed(self, event):
        """Record nothing."""


@pytest.fixture
def commands(monkeypatch):
    """The commands that readers send that are made after this."""
    listener = Commands()
    client = functools.partial(AsyncIOMotorClient, event_listeners=[listener])
    monkeypatch.setattr(mongo, "AsyncIOMotorClient", client)
    return listener.sent


# Collections that name the log; they are read at connect too, with a shorter time limit.
CHECKED_AT_CONNECT = ("projection", "checkpoints")


@pytest.fixture
def slow(config):
    """A query that takes MongoDB many seconds: a pattern that needs exponential time, over many trials."""
    trial = trial_to_document(ts.Trial(name="a", description="a" * 20 + "b"))
    with MongoClient(config.mongo) as client:
        client[config.database].trials.insert_many(trial | {"_id": str(i)} for i in range(20_000))
        yield {"description": {"$regex": "^(a|aa)+$"}}
        client.drop_database(config.database)


async def test_every_read_has_a_time_limit(served, name, commands):
    """Every find and every aggregation of a call carries what is left of its timeout."""
    async with ts.connect(kafka=served.kafka, mongo=served.mongo, prefix=served.prefix, timeout=20.5) as protocol:
        project = await protocol.new_project(ts.Project(name=name))
        group = await protocol.new_trial_group(ts.TrialGroup(name=name, project_id=project.uid))
        trial = await protocol.new_trial(ts.Trial(name=name, project_id=project.uid, group_id=group.uid))
        await protocol.log_trial_metrics(trial, step=1, loss=0.5)
        for sort in (None, "metrics.loss.last"):
            assert await protocol.fetch_trials({"name": name}, sort=sort)
        assert await protocol.fetch_groups({"name": name})
        assert await protocol.fetch_projects({"name": name})
        assert await protocol.fetch_metrics(trial, "loss")
        await protocol.fetch_and_update_trial({"name": name}, "add_trial_tags", a=1)
    async with ts.connect(mongo=served.mongo, prefix=served.prefix, read_only=True, timeout=20.5) as protocol:
        assert await protocol.fetch_metrics(trial, "loss")

    reads = [(kind, command) for kind, command in commands if kind in READS]
    assert {kind for kind, _ in reads} == set(READS)
    assert {command.get(kind) for kind, command in reads} >= {"trials", "groups", "projects", "series", "outcomes"}
    limits = [(command[kind] in CHECKED_AT_CONNECT, command.get("maxTimeMS")) for kind, command in reads]
    assert all(0 < limit <= 20_500 for _, limit in limits)
    assert max(limit for is_check, limit in limits if not is_check) > 20_000


async def test_the_queries_of_a_call_share_its_timeout(served, name, commands):
    """A call of several queries gives each what the earlier ones have left; the next call has the whole time again."""
    async with ts.connect(kafka=served.kafka, mongo=served.mongo, prefix=served.prefix, timeout=20.5) as protocol:
        trial = await protocol.new_trial(ts.Trial(name=name))
        await protocol.log_trial_metrics(trial, step=1, loss=0.5)
        await protocol.commit("folded")
        ends = []
        for call in (lambda: protocol.fetch_bands({"name": name}, "loss"), lambda: protocol.fetch_metrics(trial)):
            commands.clear()
            await call()
            found = [(command[kind], command["maxTimeMS"]) for kind, command in commands if kind in READS]
            [series] = [limit for collection, limit in found if collection == "series"]
            ends.append((max(limit for _, limit in found), series))

    (first, series), (again, _) = ends
    assert series < first <= 20_500
    assert again > series


async def test_a_read_ends_although_mongodb_hangs(stack, config, consumer):
    """A server that takes no requests, and so ends none, holds a reader for the timeout and half a second."""
    consumer(config)
    async with ts.connect(mongo=config.mongo, prefix=config.prefix, read_only=True, timeout=1.0) as protocol:
        assert await protocol.fetch_trials() == []
        for read in (protocol.fetch_trials, lambda: protocol.fetch_groups({"name": "x"})):
            with paused(stack.mongo):
                began = time.monotonic()
                with pytest.raises(ts.QueryTimeout, match=r"took longer than 1 s"):
                    await read()
                elapsed = time.monotonic() - began

            assert 0.9 < elapsed < 10  # not the minute of the driver
        assert await protocol.fetch_trials() == []


@pytest.mark.parametrize("sort", [None, "metrics.loss.last"], ids=["a find", "an aggregation"])
async def test_a_slow_query_is_ended(config, slow, sort):
    """A query that takes longer than the timeout is ended in MongoDB, with an error that says so."""
    mongo = f"{config.mongo}&serverSelectionTimeoutMS=5000"  # to find the server may take longer than the query's limit
    async with ts.connect(mongo=mongo, prefix=config.prefix, read_only=True, timeout=0.3) as protocol:
        began = time.monotonic()
        with pytest.raises(ts.QueryTimeout, match=r"the query took longer than 0\.3 s and was ended"):
            await protocol.fetch_trials(slow, sort=sort)
        elapsed = time.monotonic() - began

    assert elapsed < 5


# As many patterns as a query can have: each takes up to 50 ms for one text, and MongoDB ends a query between documents.
MANY = {"$nor": [{"description": {"$regex": f"^(a|aa)+{i}$"}} for i in range(MAX_PATTERNS)]}


@pytest.mark.parametrize("query", [None, MANY], ids=["one pattern", "many patterns"])
async def test_a_cancelled_query_is_ended(config, slow, query):
    """A query whose caller has stopped waiting ends within the timeout, too, and so does the largest one."""
    async with ts.connect(mongo=config.mongo, prefix=config.prefix, read_only=True, timeout=1.0) as protocol:
        with anyio.move_on_after(0.2) as scope:
            await protocol.fetch_trials(query or slow)
    assert scope.cancelled_caught
    with MongoClient(config.mongo) as client:
        deadline = time.monotonic() + 10
        while running := _running(client, config.database):
            assert time.monotonic() < deadline, running
            await anyio.sleep(0.1)


async def test_more_patterns_are_refused(config):
    """900 patterns took MongoDB 41 s for one document: they are refused before anything is sent."""
    query = {"$nor": [{"description": {"$regex": "^(a|aa)+$"}}] * 900}
    async with ts.connect(mongo=config.mongo, prefix=config.prefix, read_only=True) as protocol:
        for read in (protocol.fetch_trials, protocol.fetch_groups, protocol.fetch_projects):
            with pytest.raises(ts.QueryError, match="expected at most 16 patterns, got more at description"):
                await read(query)


def _running(client, database):
    """Return the finds that MongoDB runs in a database."""
    found = client.admin.command("currentOp", ns=f"{database}.trials")["inprog"]
    return [each for each in found if "find" in each.get("command", {})]
