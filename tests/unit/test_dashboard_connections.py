"""Connections to the dashboard's server that hold it up: slow clients, many of them, and those that go away."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager

import anyio
import pytest
import trialstream as ts
import uvicorn
from trialstream_console.dashboard import connections
from trialstream_console.dashboard.app import make_app
from trialstream_console.dashboard.connections import Connection
from trialstream_console.dashboard.settings import Settings

NOWHERE = ts.Config(kafka="127.0.0.1:1", mongo="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100")
GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
SIZE = 32 * 1024 * 1024


@pytest.fixture
async def server(monkeypatch, tmp_path):
    """A server with a large file and short waits."""
    monkeypatch.setattr(connections, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr("trialstream_console.dashboard.static.BUNDLE", tmp_path)
    (tmp_path / "index.html").write_text("<!doctype html>")
    (tmp_path / "large.bin").write_bytes(bytes(SIZE))
    options = {"http": Connection, "log_level": "error", "log_config": None, "timeout_graceful_shutdown": 1}
    server = uvicorn.Server(uvicorn.Config(make_app(Settings(), NOWHERE), port=0, **options))
    serving = asyncio.create_task(server._serve())
    with anyio.fail_after(20):
        while not server.started:  # noqa: ASYNC110 (uvicorn has no event)
            await asyncio.sleep(0.01)
    yield server
    server.should_exit = True
    await serving


@pytest.fixture
def port(server):
    """The port of the server."""
    return server.servers[0].sockets[0].getsockname()[1]


@asynccontextmanager
async def connected(port, sent=b"", **options):
    """Open a connection and send something; yields its reader and its writer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    try:
        writer.write(sent)
        await writer.drain()
        yield reader, writer
    finally:
        writer.close()


async def ended(reader):
    """Return what comes until the server ends the connection."""
    found = bytearray()
    with anyio.fail_after(20):
        try:
            while part := await reader.read(2**16):
                found += part
        except ConnectionError:
            pass
    return bytes(found)


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ", GET % b"/", POST % b"/nothing"],
    ids=["nothing", "half a line", "half of the headers", "nothing more", "half of a body that nothing reads"],
)
async def test_a_request_that_does_not_come(port, sent):
    """A connection is ended that sends no request, or goes on with none."""
    async with connected(port, sent) as (reader, _):
        answer = await ended(reader)

    assert answer.startswith(b"HTTP/1.1 ") == sent.endswith((b"\r\n\r\n", b"{"))


async def test_an_answer_that_nobody_takes(port):
    """A connection is ended whose client takes nothing of an answer; others get theirs meanwhile, slow ones too."""
    large = GET % b"/static/large.bin"
    async with connected(port, large, limit=1024) as (stalled, _), connected(port, large, limit=1024) as (slow, _):
        taken = 0
        with anyio.fail_after(60):
            while taken < SIZE:
                taken += len(await slow.read(2**20))
                if taken < 2**22:
                    await asyncio.sleep(0.01)
        rest = await ended(stalled)

    assert len(rest) < SIZE


async def test_live_connections_stay_open(port):
    """A client that waits for events is not ended, and neither is a request that takes long."""
    async with connected(port, GET % b"/api/v1/live") as (reader, _):
        await reader.readuntil(b"event: state")
        for _ in range(5):
            await asyncio.sleep(connections._LOOK_SECONDS)
        assert not reader.at_eof()


async def test_a_live_client_that_takes_nothing(server, port):
    """Its connection is ended, and nothing waits for it any more."""
    context = server.lifespan.state["context"]
    async with connected(port, GET % b"/api/v1/live", limit=1024) as (reader, _):
        await reader.readuntil(b"event: state")
        [subscriber] = context.feed._subscribers
        subscriber.put(bytes(SIZE))
        with anyio.fail_after(20):
            while context.feed._subscribers:  # noqa: ASYNC110 (the connection has no event)
                await asyncio.sleep(0.01)

    assert context.live._open == {}


async def test_one_client_leaves_connections_for_others(port, monkeypatch):
    """Beyond half of the connections, those of one client are refused, and beyond all of them, each."""
    monkeypatch.setattr(connections, "_MAX_CONNECTIONS", 6)
    monkeypatch.setattr(connections, "_LOOK_SECONDS", 60.0)
    request = GET % b"/"

    async def is_answered(sent, host):
        async with connected(port, sent, local_addr=(host, 0)) as (reader, _):
            return bool(await ended(reader))

    opened = [asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    first = await asyncio.gather(*opened)
    for reader, writer in first:
        writer.write(request)
        await reader.readuntil(b"html>")
    own, other = (
        await is_answered(request, "127.0.0.1"),
        await is_answered(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n", "127.0.0.2"),
    )
    for _, writer in first:
        writer.close()

    assert (own, other) == (False, True)


@pytest.mark.parametrize(
    "sent",
    [
        POST % b"/login",
        POST % b"/api/v1/series",
        POST % b"/nothing",
        GET % b"/api/v1/live",
        GET % b"/static/large.bin",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: \xff\r\n\r\n",
        GET % (b"/" + b"a" * 100_000),
        GET % b"/api/v1/trials" * 200,
        b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n" + b"x" * 10_000,
        b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    ],
    ids=lambda sent: repr(sent[:40]),
)
async def test_clients_that_go_away(port, sent, caplog):
    """A client that goes at any point of a request causes no line in the log, and the server goes on."""
    async with connected(port, sent):
        await asyncio.sleep(0.05)
    async with connected(port, b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n") as (reader, _):
        answer = await ended(reader)

    assert answer.startswith(b"HTTP/1.1 200")
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []
