"""The connections of clients: those that hold the server up are ended, and one client gets no more than half of them.

uvicorn waits without end for a client that begins a request and does not go on with it, and for one that takes nothing
of an answer. Each such connection is a file of the process, and has a buffer.
"""

from __future__ import annotations

import asyncio
import math
import resource
from collections import Counter
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from trialstream_console.dashboard.limits import network_of

__all__ = ["Connection", "raise_file_limit"]

# A connection is ended if nothing has moved between two looks. uvicorn itself ends idle ones after 5 s.
_LOOK_SECONDS = 30.0
_MAX_CONNECTIONS = 4096
# Files that are no connections of clients: those to MongoDB and Kafka, threads, logs.
_OTHER_FILES = 256


def raise_file_limit() -> None:
    """Allow this process and its children as many files as the connections need, as far as the system lets them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_CONNECTIONS + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


class Connection(H11Protocol):
    """A connection of a client."""

    _of_client: ClassVar[Counter[str]] = Counter()  # connections of the process by address of the client

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin, unless there are too many."""
        super().connection_made(transport)
        self._answers = 0
        # What the look before has seen: the number of answers while a request is waited for, and the bytes that the
        # client has not taken while nothing is added to them.
        self._seen = (-1, math.inf)
        self._looking = self.loop.call_later(_LOOK_SECONDS, self._look)
        self._address = network_of(self.client[0]) if self.client else ""
        self._of_client[self._address] += 1
        if self._are_too_many():
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._looking.cancel()
        self._of_client[self._address] -= 1
        if not self._of_client[self._address]:
            del self._of_client[self._address]
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Go on with the next request."""
        self._answers += 1
        super().on_response_complete()

    def resume_writing(self) -> None:
        """Go on with an answer, as the client has taken enough of it."""
        self._seen = (self._seen[0], math.inf)
        super().resume_writing()

    def _look(self) -> None:
        """End the connection if the client has done nothing since the look before."""
        is_waiting = self.cycle is None or self.cycle.response_complete
        is_full = self.flow.write_paused or self.transport.is_closing()
        answers, unsent = self._seen
        left = self.transport.get_write_buffer_size() if is_full else 0
        if (is_waiting and not left and answers == self._answers) or 0 < unsent <= left:
            self.transport.abort()
            return
        self._seen = (self._answers if is_waiting else -1, left or math.inf)
        self._looking = self.loop.call_later(_LOOK_SECONDS, self._look)

    def _are_too_many(self) -> bool:
        most = min(_MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_FILES)
        return self._of_client.total() > most or self._of_client[self._address] > most // 2
