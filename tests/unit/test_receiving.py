"""Reception in place: each byte is read once and in its order, in whatever pieces it comes, and ends are noticed."""

from __future__ import annotations

import asyncio
import gc
import random
import resource
import socket
import ssl
import struct
import time
import tracemalloc
from contextlib import asynccontextmanager, suppress

import pytest
from trialstream.event_log.receiving import read_in_place
from trialstream_console.local.security import Security

SIZES = [1, 5, 65_535, 65_536, 65_537, 200_000, 1_000_003]


@asynccontextmanager
async def connection(serve, tls=None):
    """Connect to a server, a function that gets a blocking socket; yields the reader and the writer of the client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def served():
            with suppress(OSError), listener.accept()[0] as plain:
                if tls is None:
                    serve(plain)
                else:
                    with tls[0].wrap_socket(plain, server_side=True) as wrapped:
                        serve(wrapped)

        serving = asyncio.ensure_future(asyncio.to_thread(served))
        options = {} if tls is None else {"ssl": tls[1], "server_hostname": "127.0.0.1"}
        reader, writer = await asyncio.open_connection(*listener.getsockname(), **options)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            await serving


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """TLS settings of a server, and of its client."""
    security = Security(tmp_path_factory.mktemp("secure"))
    security.create()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(security.folder / "server.pem")
    return server, security.context()


def framed(responses):
    """Return responses as a broker sends them, with their lengths."""
    return b"".join(struct.pack(">i", len(each)) + each for each in responses)


async def responses_of(reader, count):
    """Read responses as aiokafka does."""
    found = []
    for _ in range(count):
        [size] = struct.unpack(">i", await reader.readexactly(4))
        found.append(await reader.readexactly(size))
    return found


def in_pieces(data, chance):
    """Return a server that sends data in pieces of random sizes, with a pause after some, and waits for the end."""

    def serve(peer):
        at = 0
        while at < len(data):
            size = chance.choice([1, 3, 100, 70_000, 500_000])
            peer.sendall(data[at : at + size])
            at += size
            if chance.random() < 0.5:
                time.sleep(0.0002)
        peer.recv(1)

    return serve


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("secured", [False, True], ids=["plain", "TLS"])
async def test_responses_of_any_size_are_read_in_any_pieces(seed, secured, tls):
    """Large ones between small ones, of sizes that grow and shrink; all are kept while the next ones are read."""
    chance = random.Random(seed)
    sent = [chance.randbytes(chance.choice(SIZES)) for _ in range(40)]
    async with connection(in_pieces(framed(sent), random.Random(seed)), tls if secured else None) as (reader, writer):
        found = await responses_of(reader, chance.randrange(5))
        waiting = asyncio.ensure_future(reader.readexactly(4))
        await asyncio.sleep(0)
        read_in_place(reader, writer)
        receiver = writer.transport.get_protocol()
        read_in_place(reader, writer)  # without effect
        [size] = struct.unpack(">i", await waiting)
        found.append(await reader.readexactly(size))
        found += await responses_of(reader, 40 - len(found))
        assert writer.transport.get_protocol() is receiver

    assert found == sent
    assert {type(each) for each in found} == {bytes}


async def test_a_response_that_is_no_longer_used_lends_its_memory_to_the_next_one():
    """Python has allocated one response and a part of another at most; by `StreamReader` it is two and more."""
    size = 8_000_000
    sent = framed([bytes([n]) * (size + n) for n in range(4)])

    async with connection(lambda peer: peer.sendall(sent)) as (reader, writer):
        read_in_place(reader, writer)
        tracemalloc.start()
        for n in range(4):
            await reader.readexactly(4)
            found = await reader.readexactly(size + n)
            assert found[0] == found[-1] == n
            del found
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert peak < 1.5 * size


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "TLS"])
async def test_the_memory_of_a_response_is_free_when_its_connection_ends(secured, tls):
    """Not only when Python collects garbage, which it may not do for long."""

    async def receive():
        async with connection(lambda peer: peer.sendall(sent) or peer.recv(1), tls if secured else None) as both:
            read_in_place(*both)
            await responses_of(both[0], 1)

    sent = framed([bytes(4_000_000)])
    await receive()
    gc.collect()
    gc.disable()
    try:
        tracemalloc.start()
        for _ in range(3):
            await receive()
        left = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        gc.enable()

    assert left < 2_000_000


@pytest.mark.parametrize("count", [1, 8, 40])
async def test_what_came_before_the_end_of_a_secured_connection_is_read(count, tls):
    """Also what TLS has not decrypted when the end comes, as the reader is slow."""
    sent = [bytes([n]) * (1_000_000 // count) for n in range(count)]

    async with connection(lambda peer: peer.sendall(framed(sent)), tls) as (reader, writer):
        read_in_place(reader, writer)
        found = []
        for _ in sent:
            time.sleep(0.005)  # noqa: ASYNC251 (a loop that is busy: meanwhile the rest and the end come)
            await asyncio.sleep(0)
            found += await responses_of(reader, 1)

    assert found == sent


async def test_a_response_of_the_size_of_another_has_its_own_hash():
    """Python keeps the hash of bytes, and their memory is used again."""
    sent = [b"a" * 100_000, b"b" * 100_000]
    async with connection(lambda peer: peer.sendall(framed(sent))) as (reader, writer):
        read_in_place(reader, writer)
        hash((await responses_of(reader, 1))[0])
        [second] = await responses_of(reader, 1)

    assert {second, sent[1]} == {sent[1]}


async def test_a_connection_that_is_lost_is_left_alone():
    """Nothing can be received by it, and its protocol is gone."""
    async with connection(lambda peer: peer.recv(1)) as (reader, writer):
        writer.transport.abort()
        await asyncio.sleep(0)
        read_in_place(reader, writer)
        assert writer.transport.get_protocol() is None


def reset(peer):
    """End a connection at once, as the system does for a process that is killed."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("received", [0, 1, 65_535, 70_000, 999_999])
@pytest.mark.parametrize("ending", [None, reset], ids=["closed", "reset"])
async def test_an_end_before_the_last_byte_is_the_error_of_the_stream(received, ending):
    """Whether it comes between two responses, before the first byte of a large one, or within it."""

    def serve(peer):
        peer.sendall(framed([b"a" * 100_000]) + framed([bytes(1_000_000)])[: 4 + received])
        peer.recv(1)
        if ending is not None:
            ending(peer)

    async with connection(serve) as (reader, writer):
        read_in_place(reader, writer)
        assert await responses_of(reader, 1) == [b"a" * 100_000]
        waiting = asyncio.ensure_future(responses_of(reader, 1))
        await asyncio.sleep(0.02)
        writer.write(b"e")
        with pytest.raises(asyncio.IncompleteReadError if ending is None else ConnectionResetError) as raised:
            await asyncio.wait_for(waiting, 5)
    if ending is None:
        assert (len(raised.value.partial), raised.value.expected) == (received, 1_000_000)


@pytest.mark.parametrize("received", [0, 70_000])
async def test_a_connection_can_be_closed_while_a_response_is_read(received):
    """The call that waits is cancelled, as aiokafka does it, or finds the end; what comes later is nothing to it."""
    for cancels in True, False:
        async with connection(lambda peer: peer.sendall(bytes(received)) or peer.recv(1)) as (reader, writer):
            read_in_place(reader, writer)
            waiting = asyncio.ensure_future(reader.readexactly(1_000_000))
            await asyncio.sleep(0.02)
            if cancels:
                waiting.cancel()
            writer.close()
            with pytest.raises(asyncio.CancelledError if cancels else asyncio.IncompleteReadError):
                await asyncio.wait_for(waiting, 5)
            await asyncio.wait_for(writer.wait_closed(), 5)


async def test_a_size_alone_takes_no_memory():
    """A server that is no broker may claim anything."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with connection(lambda peer: peer.sendall(framed([bytes(100_000)]) + b"\x40\0\0\0x") or peer.recv(1)) as both:
        reader, writer = both
        read_in_place(reader, writer)
        await responses_of(reader, 1)
        waiting = asyncio.ensure_future(responses_of(reader, 1))
        await asyncio.sleep(0.02)
        waiting.cancel()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
