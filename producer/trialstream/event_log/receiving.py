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
    if not isinstance(protocol, _Receiver):
        receiver = _Receiver(cast("asyncio.Protocol", protocol), reader)
        writer.transport.set_protocol(receiver)
        vars(reader)["readexactly"] = receiver.read


class _Receiver(asyncio.BufferedProtocol):
    """Puts the bytes that come into the response that is read if it is large, and else into the reader.

    The invariant: while the reader has bytes, `_missing` is empty; else it is what is missing of the response that is
    read. So each byte is read once, in its order.

    Memory: that of the last large response is used for the next one.

    Args:
        protocol: The protocol of the reader, for all events but data.
        reader: The reader of the connection.
    """

    def __init__(self, protocol: asyncio.Protocol, reader: asyncio.StreamReader) -> None:
        self._protocol = protocol
        self._reader = reader
        self._read_small: Callable[[int], Awaitable[bytes]] = reader.readexactly
        self._small = memoryview(bytearray(_LARGE_BYTES))
        # Its value and its buffer are the same memory, unless an earlier value is still in use: then it makes a copy.
        self._response = BytesIO()
        self._missing = _NOTHING
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
        with self._memory(size) as memory:
            memory[: len(begin)] = begin
            self._missing = memory[len(begin) :]
            try:
                if self._missing and not self._reader.at_eof():
                    self._ended = asyncio.get_running_loop().create_future()
                    await self._ended
                if self._missing:
                    await self._read_small(1)  # raises the error by which the connection ended
            finally:
                self._missing = _NOTHING
        return self._response.getvalue()

    def _memory(self, size: int) -> memoryview:
        """Return memory for a response. A size alone takes none that the broker does not fill, whatever it claims."""
        held = self._response.seek(0, SEEK_END)
        if size > 2 * held:
            self._response = BytesIO(bytes(size))  # pages of zeros, which the system provides when they are written
        elif size > held:
            self._response.seek(size - 1)
            self._response.write(b"\0")
        else:
            self._response.truncate(size)
        return self._response.getbuffer()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (all that there is memory for)
        """Return the memory into which the next bytes are to be written."""
        return self._missing or self._small

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes that were written."""
        if self._missing:
            self._missing = self._missing[nbytes:]
            if not self._missing:
                self._end()
        else:
            self._reader.feed_data(self._small[:nbytes])

    def eof_received(self) -> bool | None:
        """Handle the end of the broker's bytes."""
        self._end()
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of the connection."""
        self._end()
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
