"""Reads while another projection becomes the live one, and the old one is dropped."""

from __future__ import annotations

import threading

import pytest
import trialstream as ts
from contract import connected
from pymongo import MongoClient
from service_support import collections, place
from trialstream.reading import live
from trialstream.reading.live import run_driver
from trialstream_schemas.storage.collections import CATALOG, LIVE
from trialstream_schemas.storage.documents import trial_to_document


@pytest.fixture
def switch(config):
    """A function that makes another projection live, whose trial has one more update, and drops the old one."""
    trial = ts.Trial(name="t", revision=0)
    with MongoClient(config.mongo) as client:
        catalog = client[config.database][CATALOG]
        old, new = (collections(client, each)["trials"] for each in (place(config), place(config, "1")))
        for version, trials in enumerate((old, new)):
            trials.insert_one({**trial_to_document(trial), "state_version": version})
        catalog.insert_one({"_id": LIVE, "database": str(place(config))})

        def switched():
            catalog.update_one({"_id": LIVE}, {"$set": {"database": str(place(config, "1"))}})
            old.drop()

        yield switched


async def found(protocol, method):
    """Return the state versions of the trials that a method finds."""
    if method == "fetch_values":
        return await protocol.fetch_values(["state_version"])
    return [(each.state_version,) for each in await protocol.fetch_trials()]


@pytest.mark.parametrize("method", ["fetch_trials", "fetch_values"])
async def test_a_projection_is_dropped_between_its_look_up_and_the_query(config, switch, monkeypatch, method):
    """The query runs beside the look-up; if it finds nothing any more, the new projection is read."""
    looked_up = threading.Event()
    calls = []

    def look_up(function):
        pointer = function()
        switch()
        looked_up.set()
        return pointer

    def in_order(function):
        calls.append(function)
        match len(calls):
            case 1:
                return run_driver(lambda: looked_up.wait(30) and function())
            case 2:
                return run_driver(lambda: look_up(function))
        return run_driver(function)

    async with connected(config, read_only=True) as protocol:
        before = await found(protocol, method)
        monkeypatch.setattr(live, "run_driver", in_order)
        after = await found(protocol, method)

    assert before == [(0,)]
    assert after == [(1,)]
    assert len(calls) == 2 + 1 + 2  # the query and its look-up, another look-up, and both again


@pytest.mark.parametrize("method", ["fetch_trials", "fetch_values"])
async def test_a_projection_is_switched_before_the_query(config, switch, method):
    """The look-up beside the query finds another projection than the query reads: that one is read."""
    async with connected(config, read_only=True) as protocol:
        before = await found(protocol, method)
        switch()

        assert (before, await found(protocol, method)) == ([(0,)], [(1,)])
