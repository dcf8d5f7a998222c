"""Limits of what a client of the dashboard may send, and the places that clients share."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import AsyncExitStack

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from trialstream_console.dashboard import limits
from trialstream_console.dashboard.limits import LiveConnections, Places, Rate, network_of, read_body
from trialstream_console.dashboard.refusals import Refusal


def test_the_rate_of_a_client():
    """A client may send some requests at once, then as many as are added; others are not concerned."""
    now = 0.0
    rate = Rate(2, 3, lambda: now)
    for _ in range(3):
        rate.take("a")
    with pytest.raises(Refusal) as caught:
        rate.take("a")
    rate.take("b")
    now = 0.5

    rate.take("a")

    assert caught.value.retry_after == 0.5
    with pytest.raises(Refusal):
        rate.take("a")


def test_wrong_tries_can_be_counted_alone():
    """A check counts nothing, and fails when nothing is left."""
    rate = Rate(1, 1, lambda: 0.0)
    for _ in range(3):
        rate.check("a")
    rate.take("a")

    with pytest.raises(Refusal):
        rate.check("a")
    rate.check("b")


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("testclient", "local", False),
    ],
)
def test_networks_of_clients(first, second, is_same):
    """Addresses that the owner of a network can choose between are one client."""
    assert (network_of(first) == network_of(second)) == is_same


def request_of(client, receive=anyio.sleep_forever):
    """Return a request of a client."""
    return Request({"type": "http", "state": {"client": client}}, receive)


async def test_one_client_leaves_a_place_for_others():
    """Its requests wait behind its own; another client runs at once, and is the next of those that wait."""
    places, running = Places(3, 2, 10, 4), []

    async def send(client, number):
        async with places.one(request_of(client)):
            running.append(f"{client}{number}")
            await ends[f"{client}{number}"].wait()

    ends = {f"{client}{i}": anyio.Event() for client in "abc" for i in range(5)}
    async with anyio.create_task_group() as tasks:
        for client, number in (("a", 0), ("a", 1), ("a", 2), ("a", 3), ("b", 0), ("b", 1), ("c", 0)):
            tasks.start_soon(send, client, number)
        await anyio.wait_all_tasks_blocked()
        assert running == ["a0", "a1", "b0"]

        ends["a0"].set()
        await anyio.wait_all_tasks_blocked()
        assert running[3:] == ["c0"]

        ends["c0"].set()
        await anyio.wait_all_tasks_blocked()
        assert running[4:] == ["a2"]  # each has one running, and the turn of `a` was before that of `b`

        for _ in range(2):
            tasks.start_soon(send, "a", 4)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(Refusal, match="busy"):
            for _ in range(3):
                places._queue("a")
        tasks.cancel_scope.cancel()


async def test_a_client_that_has_none_waiting_may_wait():
    """Those of others fill what may wait in all; a client that comes then waits with one request."""
    places = Places(1, 1, 3, 3)
    for client in "aaaab":
        places._queue(client)

    with pytest.raises(Refusal, match="busy"):
        places._queue("b")
    places._queue("c")


async def test_a_client_that_has_gone_leaves_the_queue():
    """Its request does not run when its turn comes."""
    places, gone = Places(1, 1, 9, 9), anyio.Event()

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    async def wait():
        with pytest.raises(Refusal, match="closed"):
            async with places.one(request_of("a", receive)):
                raise AssertionError

    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        await stack.enter_async_context(places.one(request_of("a")))
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        gone.set()

    assert (places._waiting, places._running) == ({}, {})


@given(st.data())
@settings(deadline=None)
def test_places_are_shared(data):
    """In any order of requests, ends and departures: the bounds hold, and no place is free that a client may have.

    A client without a running request is never behind one that has some.
    """
    at_once, per_client = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))

    places = Places(at_once, per_client, 1000, 1000)
    turns = []
    for _ in range(data.draw(st.integers(0, 40))):
        waited = {client for client, turn in turns if not turn.is_set()}
        before = Counter(client for client, turn in turns if turn.is_set())
        if turns and data.draw(st.booleans()):
            client, turn = turns.pop(data.draw(st.integers(0, len(turns) - 1)))
            places._end(client, turn)
            before -= Counter([client] if turn.is_set() else [])
        else:
            client = data.draw(st.sampled_from("abc"))
            turns.append((client, places._queue(client)))
        running = Counter(client for client, turn in turns if turn.is_set())
        waiting = Counter(client for client, turn in turns if not turn.is_set())

        assert running == places._running
        assert running.total() <= at_once
        assert all(count <= per_client for count in running.values())
        assert running.total() == at_once or all(running[client] == per_client for client in waiting)
        for chosen in running - before:
            assert all(before[chosen] <= before[other] for other in waited - {chosen} if before[other] < per_client)
    for client, turn in turns:
        places._end(client, turn)

    assert (places._waiting, places._running) == ({}, {})


@pytest.mark.parametrize("ends", [True, False], ids=["gone", "slow"])
async def test_bodies_that_do_not_come(ends, monkeypatch):
    """A client that leaves in the middle of a body, or sends it too slowly, ends its request."""
    monkeypatch.setattr(limits, "_BODY_SECONDS", 0.05 if not ends else math.inf)
    parts = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive():
        if parts:
            return parts.pop()
        return {"type": "http.disconnect"} if ends else await anyio.sleep_forever()

    with pytest.raises(Refusal, match="closed the connection" if ends else "all of it within"):
        await read_body(request_of("a", receive))


def test_live_connections():
    """They are bounded in all and per client, and counted down at their end."""
    live = LiveConnections(3, 2)
    with live.one("a"), live.one("a"):
        with pytest.raises(Refusal), live.one("a"):
            pass
        with live.one("b"), pytest.raises(Refusal), live.one("c"):
            pass
    with live.one("c"), live.one("b"), live.one("a"):
        pass
