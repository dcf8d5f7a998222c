"""Limits of what clients may send: sizes, rates, requests at once, live connections.

A client is a user or a login, or else an address. What is limited is shared between clients: one that sends much waits
behind its own requests, and others go on.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator

import anyio
from starlette.requests import ClientDisconnect, Request

from trialstream_console.dashboard.refusals import Refusal

__all__ = ["LiveConnections", "Places", "Rate", "network_of", "read_body"]

# A request for 200 curves, with names of 1 KB each.
_MAX_BODY_BYTES = 512 * 1024
# Most bodies come in one piece; a slow connection takes seconds for the largest.
_BODY_SECONDS = 30.0
_MAX_CLIENTS = 10_000
_IPV6_USER_BITS = 64


def network_of(host: str) -> str:
    """Return the address of a client as far as its owner cannot choose it: of IPv6, the network of 64 bits.

    Args:
        host: The address; a text that is none is returned as it is.
    """
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(found, ipaddress.IPv4Address):
        return host
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found), _IPV6_USER_BITS), strict=False))


async def read_body(request: Request, most: int = _MAX_BODY_BYTES) -> bytes:
    """Read the body of a request.

    Args:
        request: The request.
        most: Maximum size, bytes.

    Returns:
        The body.

    Raises:
        Refusal: The body is too large, comes too slowly, or ends too early, as the client has gone.
    """
    found = bytearray()
    try:
        with anyio.fail_after(_BODY_SECONDS):
            async for part in request.stream():
                found += part
                if len(found) > most:
                    raise Refusal("too_large", f"body: expected at most {most} bytes, got more")
    except TimeoutError:
        raise Refusal("query", f"body: expected all of it within {_BODY_SECONDS:g} s") from None
    except ClientDisconnect:
        raise _gone() from None
    return bytes(found)


def _gone() -> Refusal:
    """Return what ends a request whose client has gone; it is sent to nobody."""
    return Refusal("query", "the client has closed the connection")


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

    def check(self, client: str) -> None:
        """Check that a client may send a request, without counting it.

        Args:
            client: Text that identifies the client.

        Raises:
            Refusal: The client has sent too many.
        """
        left, _ = self._bucket(client)
        if left < 1:
            wait = (1 - left) / self._per_second
            raise Refusal("too_many", f"too many requests: expected a pause of {wait:.1f} s", retry_after=wait)

    def take(self, client: str) -> None:
        """Count a request.

        Args:
            client: Text that identifies the client.

        Raises:
            Refusal: The client has sent too many.
        """
        self.check(client)
        left, now = self._bucket(client)
        self._left[client] = (left - 1, now)
        self._left.move_to_end(client)
        if len(self._left) > _MAX_CLIENTS:
            self._left.popitem(last=False)

    def _bucket(self, client: str) -> tuple[float, float]:
        """Return what is left in the bucket of a client now, and the time."""
        now = self._clock()
        left, then = self._left.get(client, (self._burst, now))
        return min(self._burst, left + (now - then) * self._per_second), now


class Places:
    """Places for requests that run at once, shared between clients.

    A free place goes to the waiting client with the fewest running requests; of several, to the one whose turn was the
    longest ago. So requests wait behind those of their own client, and a client that has none running waits for one
    turn of each other client at most.

    Args:
        at_once: Number of requests that run at once.
        per_client: Number of those of one client.
        waiting: Number of requests that wait; a client of which none waits may always wait with one.
        waiting_per_client: Number of those of one client.
    """

    def __init__(self, at_once: int, per_client: int, waiting: int, waiting_per_client: int) -> None:
        self._at_once = at_once
        self._per_client = per_client
        self._max_waiting = waiting
        self._max_waiting_per_client = waiting_per_client
        self._running: Counter[str] = Counter()
        # By client, an event for each waiting request; the client whose turn was the longest ago first. While a place
        # is free, no client waits that has fewer than `per_client` running.
        self._waiting: OrderedDict[str, deque[anyio.Event]] = OrderedDict()

    @contextlib.asynccontextmanager
    async def one(self, request: Request) -> AsyncIterator[None]:
        """Wait for a place, and hold it while the block runs.

        Args:
            request: The request, whose body is read already.

        Raises:
            Refusal: Too many wait, or the client has gone.
        """
        client: str = request.state.client
        turn = self._queue(client)
        try:
            if not turn.is_set() and not await _comes(turn, request):
                raise _gone()
            yield
        finally:
            self._end(client, turn)

    def _queue(self, client: str) -> anyio.Event:
        """Return the turn of a request, an event that is set once it may run."""
        mine = len(self._waiting.get(client, ()))
        is_full = mine and sum(map(len, self._waiting.values())) >= self._max_waiting
        if mine >= self._max_waiting_per_client or is_full:
            raise Refusal("too_many", "the server is busy: expected a pause of 1 s", retry_after=1.0)
        turn = anyio.Event()
        self._waiting.setdefault(client, deque()).append(turn)
        self._fill()
        return turn

    def _end(self, client: str, turn: anyio.Event) -> None:
        """End a request that runs or waits."""
        if not turn.is_set():
            self._waiting[client].remove(turn)
            if not self._waiting[client]:
                del self._waiting[client]
            return
        self._running[client] -= 1
        if not self._running[client]:
            del self._running[client]
        self._fill()

    def _fill(self) -> None:
        """Give free places to waiting requests."""
        while self._running.total() < self._at_once:
            able = [client for client in self._waiting if self._running[client] < self._per_client]
            if not able:
                return
            client = min(able, key=self._running.__getitem__)
            self._running[client] += 1
            turns = self._waiting[client]
            turns.popleft().set()
            self._waiting.move_to_end(client)
            if not turns:
                del self._waiting[client]


async def _comes(turn: anyio.Event, request: Request) -> bool:
    """Wait for a turn; return whether it has come before the client has gone."""

    async def end_with_client() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end_with_client)
        await turn.wait()
        tasks.cancel_scope.cancel()
    return turn.is_set()


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
