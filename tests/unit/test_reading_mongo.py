"""Checks of the MongoDB reader at the call, before a request is sent."""

from __future__ import annotations

import pytest
import trialstream as ts
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import ExecutionTimeout
from trialstream.reading.live import LiveProjection
from trialstream.reading.mongo import MongoReader


@pytest.fixture
async def reader():
    """A reader of a MongoDB that cannot be reached."""
    reader = MongoReader(ts.Config(mongo="mongodb://127.0.0.1:1/"), 0.1)
    yield reader
    reader.close()


async def test_candidates_of_different_queries_have_different_keys(reader):
    """Keys of queries differ by type (1, True and 1.0) and by collection, and are the same for the same query."""
    queries = [
        ("trials", {"tags.x": 1}),
        ("trials", {"tags.x": True}),
        ("trials", {"tags.x": 1.0}),
        ("groups", {"tags.x": 1}),
    ]

    keys = [reader.candidates(*each).key for each in queries]

    assert len(set(keys)) == 4
    assert keys[0] == reader.candidates(*queries[0]).key


@pytest.mark.parametrize("read", ["trials", "groups", "projects"])
async def test_a_wrong_query_is_an_error_at_the_call(reader, read):
    """A wrong query is an error at the call, without an await and without a response of the server."""
    with pytest.raises(ts.QueryError, match="there is no field 'nmae', did you mean 'name'"):
        getattr(reader, read)({"nmae": 1})
    with pytest.raises(ts.QueryError, match="sort: expected a path or a list of paths, got int"):
        getattr(reader, read)({}, sort=1)
    with pytest.raises(ts.QueryError, match="there is no field 'metrcs'"):
        getattr(reader, read)(fields=["metrcs"])
    with pytest.raises(ts.QueryError, match="limit: expected a positive int, got 0"):
        getattr(reader, read)({}, limit=0)
    with pytest.raises(ts.QueryError, match="there is no field 'nmae'"):
        reader.candidates("trials", {"nmae": 1})


async def test_a_query_that_mongodb_ended():
    """A query that took longer than its time limit is an error that names the limit."""
    client = AsyncIOMotorClient("mongodb://127.0.0.1:1/", connect=False)
    with pytest.raises(ts.QueryTimeout, match=r"the query took longer than 1\.5 s"):
        async with LiveProjection(client, ts.Config(), 1.5).errors():
            raise ExecutionTimeout("operation exceeded time limit", 50)
    client.close()


@pytest.mark.parametrize(
    ("timeout", "limit"), [(30.0, 30_000), (1, 1000), (0.0005, 1), (0, 1), (float("inf"), 2**31 - 1), (1e9, 2**31 - 1)]
)
async def test_the_time_limit_of_a_request(timeout, limit):
    """The time limit is the timeout in milliseconds, at least one and at most what MongoDB accepts."""
    client = AsyncIOMotorClient("mongodb://127.0.0.1:1/", connect=False)

    assert LiveProjection(client, ts.Config(), timeout).max_time_ms == limit
    client.close()
