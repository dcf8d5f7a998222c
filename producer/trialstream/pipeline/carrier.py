"""`Carrier`: the interface of what carries the events of one writer from its backlog to the log."""

from __future__ import annotations

import typing
from collections.abc import Callable
from contextlib import AbstractContextManager

from trialstream.event_log.topics import Route
from trialstream.pipeline.backlog import Backlog
from trialstream.pipeline.watermark import Watermark

__all__ = ["Carrier", "RefusedRequests"]


class RefusedRequests(typing.Protocol):
    """The events that the log refuses: see `Refusals`."""

    def raised_for(self, request: str) -> AbstractContextManager[None]:
        """Cancel the block, and raise `InvalidValue`, if the event of a request is refused."""

    def summary(self) -> list[str]:
        """The messages about all refused events, for the warning of the closing; empty if there are none."""


class Carrier(typing.Protocol):
    """Carries events from a backlog to a log. Lives in one event loop; `Pipeline` is the carrier to Kafka."""

    @property
    def backlog(self) -> Backlog:
        """The events."""

    @property
    def refusals(self) -> RefusedRequests:
        """The events that the log has refused."""

    @property
    def watermark(self) -> Watermark:
        """The events that a read must wait for."""

    async def connect(self, timeout: float) -> None:
        """Find the log; from then on events can be sent: see `Pipeline.connect`."""

    async def run(self, seal: Callable[[float], float]) -> None:
        """Carry events until `finish`: see `Pipeline.run`."""

    async def finish(self, timeout: float) -> None:
        """Stop `run`, and keep the events that are not in the log, if there is a place for them."""

    def stop_warning_of_outages(self) -> None:
        """Warn of outages no more."""

    def wake(self) -> None:
        """Wake `run`, from any thread, so that it calls `seal` now."""

    @property
    def has_connected(self) -> bool:
        """Whether the log was reached, at the start or since."""

    @property
    def stuck(self) -> bool:
        """Whether events that cannot be sent can only wait in memory."""

    @property
    def progressed(self) -> float:
        """Time of the last progress, on the monotonic clock; 0 before that."""

    async def wait_progress(self) -> None:
        """Return at the next progress."""

    async def wait_acked(self, timeout: float) -> None:
        """Return when the log has all events that were queued before the call: see `Pipeline.wait_acked`."""

    async def wait_logged(self, timeout: float) -> dict[Route, int]:
        """Return when the log has all events that a read must show: see `Pipeline.wait_logged`."""

    async def ends(self, timeout: float) -> dict[Route, int]:
        """Read the ends of the log: see `Pipeline.ends`."""

    async def wait_secured(self, timeout: float) -> None:
        """Return when all events queued before the call are in the log or safe on disk: see `Pipeline.wait_secured`."""
