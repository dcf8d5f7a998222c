"""Reception of large responses of a broker: the socket writes into the memory from which they are parsed.

`asyncio.StreamReader`, by which aiokafka reads its connections, copies each part of a response when it comes and all of
it when it is complete, into new memory each time, and stops and resumes the transport every 128 KiB. For fetches of
megabytes this takes three times as long (docs/streaming.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from io import SEEK_END, BytesIO
from typing import Any, cast

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection

__all__ = ["read_in_place", "receive_in_place"]

# Size of a response from which on it is received in place.
_LARGE_BYTES = 64 * 1024
# Maximum size of a record of TLS.
_RECORD_BYTES = 16 * 1024
_NOTHING = memoryview(b"")


def receive_in_place(client: AIOKafkaClient) -> None:
    """Receive large responses in place, by all connections of a client.

    aiokafka offers no place for this, so the method of the client is replaced that returns a connection.

    Args:
        client: A client, started or not.
    """
    get: Callable[..., Awaitable[AIOKafkaConnection | None]] = client._get_conn  # noqa: SLF001

    async def get_receiving(*args: Any, **settings: Any) -> AIOKafkaConnection | None:
        connection = await get(*args, **settings)
        if connection is not None and (reader := connection._reader) is not None:  # noqa: SLF001
            read_in_place(reader, cast("asyncio.StreamWriter", connection._writer))  # noqa: SLF001
        return connection

    vars(client)["_get_conn"] = get_receiving


def read_in_place(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read in place from now on what `reader.readexactly` is called for; without effect the second time.

    A call that waits already goes on as it began.

    Args:
        reader: The reader of a connection.
        writer: Its writer.
    """
    protocol = writer.transport.get_protocol()
    if protocol is not None and not isinstance(protocol, _Receiver):  # None: the connection is lost
        receiver = _Receiver(cast("asyncio.Protocol", protocol), reader)
        writer.transport.set_protocol(receiver)
        vars(reader)["readexactly"] = receiver.read


class _Receiver(asyncio.BufferedProtocol):
    """Puts the bytes that come into the response that is read if it is large, and else into the reader.

    The invariant: while the reader has bytes, `_missing` is empty; else it is what is missing of the response that is
    read. So each byte is read once, in its order.

    Memory: that of the last large response is used for the next one, until the connection ends.

    Args:
        protocol: The protocol of the reader, for all events but data.
        reader: The reader of the connection.
    """

    def __init__(self, protocol: asyncio.Protocol, reader: asyncio.StreamReader) -> None:
        self._protocol = protocol
        self._reader = reader
        self._read_small: Callable[[int], Awaitable[bytes]] = reader.readexactly
        # Its value and its buffer are the same memory, unless an earlier value is still in use: then it makes a copy.
        self._response = BytesIO()
        self._missing = _NOTHING
        self._small = memoryview(bytearray(_LARGE_BYTES))
        self._into = _NOTHING  # what `get_buffer` has returned
        self._ended: asyncio.Future[None] | None = None

    async def read(self, size: int) -> bytes:
        """Return the next bytes, as `StreamReader.readexactly` does. A connection whose call was cancelled is unusable.

        Args:
            size: Their number.

        Raises:
            IncompleteReadError: The connection ended before the last one.
            OSError: The connection broke.
        """
        if size < _LARGE_BYTES:
            return await self._read_small(size)
        begin = await self._reader.read(size)
        response = self._response = _resized(self._response, size)
        with response.getbuffer() as memory:
            memory[: len(begin)] = begin
            self._missing = memory[len(begin) :]
            try:
                if self._missing and not self._reader.at_eof():
                    self._ended = asyncio.get_running_loop().create_future()
                    await self._ended
                if self._missing:
                    received = bytes(memory[: -len(self._missing)])
                    raise self._reader.exception() or asyncio.IncompleteReadError(received, size)
            finally:
                # The traceback of a connection that broke has it, and a buffer that is in use cannot be freed.
                self._missing.release()
                self._missing = _NOTHING
        return response.getvalue()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the memory into which the next bytes are to be written.

        Args:
            sizehint: Number of bytes that TLS has and that are encrypted; -1 without TLS. It asks only once before it
                ends a connection, and then drops what it has besides.
        """
        least = sizehint + _RECORD_BYTES
        large = [each for each in (self._missing, self._small) if len(each) > least]
        self._into = large[0] if large else memoryview(bytearray(least + 1))
        return self._into

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes that were written."""
        into, self._into = self._into, _NOTHING  # a view that is kept would make the value of the response a copy
        taken = min(nbytes, len(self._missing))
        if taken:
            if into is not self._missing:
                self._missing[:taken] = into[:taken]
            self._missing = self._missing[taken:]
            if not self._missing:
                self._end()
        if taken < nbytes:
            self._reader.feed_data(into[taken:nbytes])

    def eof_received(self) -> bool | None:
        """Handle the end of the broker's bytes."""
        self._end()
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of the connection: the memory is free at once, not when Python collects garbage."""
        self._end()
        self._response = BytesIO()
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """Handle a full buffer of the transport."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Handle room in the buffer of the transport."""
        self._protocol.resume_writing()

    def _end(self) -> None:
        """Let `read` go on."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


def _resized(memory: BytesIO, size: int) -> BytesIO:
    """Return memory of a size. A size alone takes none that the broker does not fill, whatever it claims."""
    held = memory.seek(0, SEEK_END)
    if size > 2 * held:
        return BytesIO(bytes(size))  # pages of zeros, which the system provides when they are written
    if size >= held:
        memory.seek(size)
        memory.write(b"\0")
    memory.truncate(size)  # always from another size: Python then forgets the hash of the value before
    return memory
