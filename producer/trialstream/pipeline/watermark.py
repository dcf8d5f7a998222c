"""The watermark: the events that a read must wait for.

A read shows everything that was logged before it, except commands whose callers still wait for the outcome: those
callers see the command's effect when the command returns, and other readers need not wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from trialstream.log.topics import Route

__all__ = ["Watermark"]


@dataclass(slots=True)
class _Position:
    """Position of a pending command in the backlog and in the log.

    Attributes:
        number: One above its number in the backlog; 0 before it is queued.
        route: Its partition, once Kafka has acknowledged it.
        offset: The offset behind it in that partition.
    """

    number: int = 0
    route: Route | None = None
    offset: int = 0


class Watermark:
    """The position that a read must wait for: a number in the backlog, and an offset for each partition.

    A command is *pending* from `expect` until `decided` or `abandon`. Invariant, where "behind" means one above:

    - `number` is behind the last event that was queued and was not a pending command then;
    - the offset of a partition is behind its last event that was acknowledged and was not a pending command then;
    - each is at least behind every abandoned command that was queued, or acknowledged, while it was pending.

    A command that was decided is folded, so no read needs to wait for it. A read shows everything that it must when all
    entries below `number` are acknowledged and the projection has then reached the offsets found at that time.

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
        """Begin to wait for the outcome of a command, from any thread, before it is queued."""
        self._pending[request] = _Position()

    def decided(self, request: str) -> None:
        """End the wait for a command whose outcome was read, from any thread."""
        self._pending.pop(request, None)

    def abandon(self, request: str) -> None:
        """End the wait for a command that is not decided: from now on reads wait for it."""
        with self._lock:
            position = self._pending.pop(request, None)
            if position is None:
                return
            self.number = max(self.number, position.number)
            if position.route is not None:
                self._raise(position.route, position.offset)

    def queued(self, request: str | None, number: int) -> None:
        """Record an event that was queued.

        Args:
            request: The id of its request; None if it is no command.
            number: Its number in the backlog, larger than all before.
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
            requests: The ids of the requests of its events, in their order; None for each that is no command.
            end: The offset behind the last of them.
        """
        with self._lock:
            for behind, request in enumerate(reversed(requests)):
                position = None if request is None else self._pending.get(request)
                if position is None:
                    self._raise(route, end - behind)
                    return  # events before this one have lower offsets
                position.route, position.offset = route, end - behind

    def offsets(self) -> dict[Route, int]:
        """The offsets that the projection must reach, by partition: a copy."""
        with self._lock:
            return dict(self._offsets)

    def _raise(self, route: Route, offset: int) -> None:
        self._offsets[route] = max(self._offsets.get(route, 0), offset)
