"""Limits of what clients may send: sizes, rates, expensive requests at once, live connections."""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator

import anyio
from starlette.requests import Request

from trialstream_console.dashboard.refusals import Refusal

__all__ = ["Expensive", "LiveConnections", "Rate", "read_body"]

# A request for 200 curves, with names of 1 KB each.
_MAX_BODY_BYTES = 512 * 1024

_MAX_CLIENTS = 10_000


async def read_body(request: Request) -> bytes:
    """Read the body of a request.

    Args:
        request: The request.

    Returns:
        The body.

    Raises:
        ClientDisconnect: The client has gone.
        Refusal: The body is too large.
    """
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > _MAX_BODY_BYTES:
            raise Refusal("too_large", f"body: expected at most {_MAX_BODY_BYTES} bytes, got more")
    return bytes(found)


class Rate:
    """Requests per client: a bucket of `burst` requests, to which `per_second` are added.

    Args:
        per_second: Requests per second of a client in the long run.
        burst: Requests that a client may send at once.
        clock: Returns seconds.
    """

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        # By client, what is left in its bucket and when that was so; the longest unseen client first.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Count a request.

        Args:
            client: Text that identifies the client.

        Raises:
            Refusal: The client has sent too many.
        """
        now = self._clock()
        left, then = self._left.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._per_second)
        if left < 1:
            self._left[client] = (left, now)
            wait = (1 - left) / self._per_second
            raise Refusal("too_many", f"too many requests: expected a pause of {wait:.1f} s", retry_after=wait)
        self._left[client] = (left - 1, now)
        if len(self._left) > _MAX_CLIENTS:
            self._left.popitem(last=False)


class Expensive:
    """Expensive requests: few run at once, and few wait.

    Args:
        at_once: Number that runs at once.
        waiting: Number that may wait.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._limiter = anyio.CapacityLimiter(at_once)
        self._waiting = waiting

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Wait for a place, and hold it while the block runs.

        Raises:
            Refusal: Too many wait.
        """
        if self._limiter.statistics().tasks_waiting >= self._waiting:
            raise Refusal("too_many", "the server is busy: expected a pause of 1 s", retry_after=1.0)
        async with self._limiter:
            yield


class LiveConnections:
    """Live connections: in all, and per client.

    Args:
        most: Maximum number in all.
        per_client: Maximum number of one client.
    """

    def __init__(self, most: int, per_client: int) -> None:
        self._most = most
        self._per_client = per_client
        self._open: dict[str, int] = {}

    def check(self, client: str) -> None:
        """Check that a client may open another connection.

        Args:
            client: Text that identifies the client.

        Raises:
            Refusal: Too many are open.
        """
        if self._open.get(client, 0) >= self._per_client or sum(self._open.values()) >= self._most:
            raise Refusal("too_many", "too many live connections: close other pages of the dashboard", retry_after=10.0)

    @contextlib.contextmanager
    def one(self, client: str) -> Iterator[None]:
        """Count a connection while the block runs.

        Args:
            client: Text that identifies the client.

        Raises:
            Refusal: Too many are open.
        """
        self.check(client)
        self._open[client] = self._open.get(client, 0) + 1
        try:
            yield
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]
