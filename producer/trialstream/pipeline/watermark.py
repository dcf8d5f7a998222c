"""The watermark: the events that a read must wait for.

A read shows everything that was logged before it, except requests whose callers still wait for the outcome: those
callers see the effect when the call returns, and other readers need not wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from trialstream.event_log.topics import Route

__all__ = ["Watermark"]


@dataclass(slots=True)
class _Position:
    """Position of a pending request in the backlog and in the log.

    Attributes:
        number: One above the number of the request in the backlog; 0 before it is queued.
        route: The partition of the request, once Kafka has acknowledged it.
        offset: The offset after the request in that partition.
    """

    number: int = 0
    route: Route | None = None
    offset: int = 0


class Watermark:
    """The position that a read must wait for: a number in the backlog, and an offset for each partition.

    A request is *pending* from `expect` until `decided` or `abandon`. Invariants:

    - `number` is one above the number of the last event that was not a pending request when it was queued;
    - the offset of a partition is one above that of the last event that was not a pending request when Kafka
      acknowledged it;
    - `number` is above the numbers of all abandoned requests, and the offset of a partition is above their offsets.

    A request that was decided is folded, so no read needs to wait for it. A read waits in two steps: until all entries
    below `number` are acknowledged, and then until the projection has reached the offsets found at that time.

    `expect` and `decided` take no lock (each is one operation on a dictionary): user threads call them, and a signal
    handler that logs would wait for ever for a lock that the code it interrupted holds.

    Attributes:
        number: All entries of the backlog that a read must wait for have lower numbers.
    """

    def __init__(self) -> None:
        self.number = 0
        self._offsets: dict[Route, int] = {}
        self._pending: dict[str, _Position] = {}
        self._lock = threading.Lock()

    def expect(self, request: str) -> None:
        """Make a request pending, from any thread, before it is queued; it may be pending already."""
        self._pending.setdefault(request, _Position())

    def decided(self, request: str) -> None:
        """Record, from any thread, that the outcome of a request was read: the request is not pending any more."""
        self._pending.pop(request, None)

    def abandon(self, request: str) -> None:
        """Record that nothing waits for the outcome of a request any more: from now on reads wait for it."""
        with self._lock:
            position = self._pending.pop(request, None)
            if position is None:
                return
            self.number = max(self.number, position.number)
            if position.route is not None:
                self._offsets[position.route] = max(self._offsets.get(position.route, 0), position.offset)

    def queued(self, request: str | None, number: int) -> None:
        """Record an event that was queued.

        Args:
            request: Id of the request; None if the event is no request.
            number: Number of the event in the backlog, larger than all earlier ones.
        """
        with self._lock:
            position = None if request is None else self._pending.get(request)
            if position is None:
                self.number = number + 1
            else:
                position.number = number + 1

    def acked(self, route: Route, requests: Sequence[str | None], end: int) -> None:
        """Record a batch that Kafka has acknowledged.

        Args:
            route: Its partition.
            requests: For each event, in order, the id of the request; None for an event that is no request.
            end: The offset after the last event.
        """
        with self._lock:
            for behind, request in enumerate(reversed(requests)):
                position = None if request is None else self._pending.get(request)
                if position is None:
                    # Not the maximum: a broker that lost the end of its log gives the same offsets again.
                    self._offsets[route] = end - behind
                    return  # events before this one have lower offsets
                position.route, position.offset = route, end - behind

    def offsets(self) -> dict[Route, int]:
        """The offsets that the projection must reach, by partition: a copy."""
        with self._lock:
            return dict(self._offsets)
