"""A TCP proxy whose faults can be switched while connections run through it.

    with Proxy(27017) as proxy:
        client = MongoClient(f"mongodb://{proxy.address}/?directConnection=true")
        proxy.latency = 0.1

The proxy has a thread and an event loop of its own, so its methods can be called from any thread, and a test that
blocks does not stop it. Kafka advertises its own address to clients: for Kafka, see `injectors.ProxiedKafka`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
import threading

from trialstream_console.local.ports import HOST, Ports

CHUNK = 64 * 1024


class Proxy:
    """A proxy between clients and one server on this machine.

    Args:
        target: Port of the server.
        port: Port to listen on, by default a free one.

    Attributes:
        latency: Delay of every chunk, in both directions, seconds.
        rate: Bytes per second of each connection and direction.
        connections: Number of connections accepted so far.
    """

    def __init__(self, target, port=None):
        self.target = target
        self.port = port or Ports.free().kafka
        self.latency = 0.0
        self.rate = math.inf
        self.connections = 0
        self.cuts = 0
        self._pattern = b""
        self._cuts_left = 0
        self._links = set()
        self._swallowing = False

    @property
    def address(self):
        """`host:port` on which the proxy listens."""
        return f"{HOST}:{self.port}"

    def __enter__(self):
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._server = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._do(self._listen)
        return self

    def __exit__(self, *_):
        self._do(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- Faults

    def reset(self):
        """Break every open connection with a RST."""
        self._do(self._reset)

    def freeze(self):
        """Hold back all data without closing anything; new connections are accepted and get no answer."""
        self._do(self._freeze)

    def thaw(self):
        """Pass on all data that `freeze` has held back."""
        self._do(self._thaw)

    def half_open(self):
        """Discard all data, as if the server's machine had vanished: connections stay open and get no answer."""
        self._swallowing = True

    def refuse(self):
        """Break every open connection and refuse new ones."""
        self._do(self._unlisten)
        self.reset()

    def cut_after(self, pattern, times=1):
        """Break the connection after a request with these bytes was passed on and before its answer is."""
        self._pattern, self._cuts_left = pattern, times

    def heal(self):
        """End all faults; connections with discarded data are broken, since they cannot continue."""
        self.latency, self.rate, self._pattern = 0.0, math.inf, b""
        if self._swallowing:
            self._swallowing = False
            self.reset()
        self.thaw()
        self._do(self._listen)

    # --- In the proxy's loop

    def _do(self, function):
        return asyncio.run_coroutine_threadsafe(function(), self._loop).result(10)

    async def _listen(self):
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, HOST, self.port)

    async def _unlisten(self):
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _reset(self):
        for link in list(self._links):
            link.reset()

    async def _freeze(self):
        self._open.clear()

    async def _thaw(self):
        self._open.set()

    async def _close(self):
        await self._unlisten()
        await self._reset()
        tasks = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader, writer):
        self.connections += 1
        try:
            behind = await asyncio.open_connection(HOST, self.target)
        except OSError:
            _abort(writer)
            return
        link = _Link(writer, behind[1])
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(link, reader, behind[1], requests=True))
                tasks.create_task(self._pump(link, behind[0], writer, requests=False))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._links.discard(link)
            link.reset() if link.broken else link.close()

    async def _pump(self, link, reader, writer, *, requests):
        while data := await reader.read(CHUNK):
            await self._open.wait()
            if self._swallowing:
                continue
            if self.latency:
                await asyncio.sleep(self.latency)
            cut = requests and self._cuts_left > 0 and self._pattern and self._pattern in data
            if cut:
                self._cuts_left -= 1
                link.mute = True
            if not requests and link.mute:
                # The server has answered, so the request was carried out: break the connection before the answer.
                self.cuts += 1
                link.reset()
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
            if self.rate < math.inf:
                await asyncio.sleep(len(data) / self.rate)
        with contextlib.suppress(OSError):
            writer.write_eof()


class _Link:
    """The two connections of a client: its own and the one to the server."""

    def __init__(self, *writers):
        self.writers = writers
        self.mute = False
        self.broken = False

    def reset(self):
        self.broken = True
        for each in self.writers:
            _abort(each)

    def close(self):
        for each in self.writers:
            each.close()


def _abort(writer):
    """Close with a RST."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
