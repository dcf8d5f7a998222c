"""The carrier of a writer whose log is in memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import anyio
from trialstream.config import Config
from trialstream.event_log.topics import Route
from trialstream.pipeline.backlog import Backlog
from trialstream.pipeline.entry import Entry
from trialstream.pipeline.refusals import Refusals
from trialstream.pipeline.signals import ProgressSignal, WakeUp
from trialstream.pipeline.watermark import Watermark
from trialstream.runtime.lifecycle import Lifecycle

from trialstream_consumer.memory.store import MemoryStore

__all__ = ["MemoryCarrier"]

logger = logging.getLogger("trialstream")

_BATCH_ENTRIES = 2000
_REGISTRY, _TRIALS = Route("registry", 0), Route("trials", 0)


class MemoryCarrier:
    """Appends the events of a backlog to a store. Lives in one event loop; see `trialstream.pipeline.carrier.Carrier`.

    An event is folded in the step that appends it, so no wait takes time.

    Args:
        store: The store.
        config: How much memory the events may take.
        lifecycle: The event loop.
    """

    stuck = False  # the store always takes events

    def __init__(self, store: MemoryStore, config: Config, lifecycle: Lifecycle) -> None:
        self.watermark = Watermark()
        self._wake_up = WakeUp(lifecycle.loop)
        self._progress = ProgressSignal()
        self.backlog = Backlog(self.watermark, self.wake, lambda: None, spill_bytes=config.memory_bytes)
        self.refusals = Refusals(self.backlog, None, self._progress, lifecycle.warn_in_background)
        self._store = store
        self._stopped = anyio.Event()
        self._scope = anyio.CancelScope()

    async def connect(self, timeout: float) -> None:  # noqa: ARG002 (the store is there)
        """Begin to take events."""
        self.backlog.connect(_route)
        self.backlog.stop_spilling()

    async def run(self, seal: Callable[[float], float]) -> None:
        """Append events until `finish`."""
        try:
            with self._scope:
                while True:
                    self._wake_up.clear()
                    due = seal(time.monotonic())
                    self._send()
                    await self._wake_up.wait(due - time.monotonic())
        finally:
            self._stopped.set()

    async def finish(self, timeout: float) -> None:
        """Append the rest, and stop `run`."""
        self._send()
        with anyio.move_on_after(timeout, shield=True):
            self._scope.cancel()
            await self._stopped.wait()

    def stop_warning_of_outages(self) -> None:
        """Do nothing: there are no outages."""

    def wake(self) -> None:
        """Wake `run`, from any thread."""
        self._wake_up.set()

    @property
    def has_connected(self) -> bool:
        """Whether `connect` was called."""
        return self.backlog.has_connected

    @property
    def progressed(self) -> float:
        """Time when events were last appended, on the monotonic clock."""
        return self._progress.last

    async def wait_progress(self) -> None:
        """Return when events are appended next."""
        await self._progress.wait()

    async def wait_acked(self, timeout: float) -> None:  # noqa: ARG002 (takes no time)
        """Append all events that were queued before the call."""
        self._send()

    async def wait_secured(self, timeout: float) -> None:
        """Append all events that were queued before the call: no place is safer than the log."""
        await self.wait_acked(timeout)

    async def wait_logged(self, timeout: float) -> dict[Route, int]:  # noqa: ARG002 (takes no time)
        """Append all events that a read must show, and return the offsets after them."""
        self._send()
        return self.watermark.offsets()

    async def ends(self, timeout: float) -> dict[Route, int]:  # noqa: ARG002 (takes no time)
        """Return the ends of the log."""
        return self._store.ends()

    def _send(self) -> None:
        for route in self.backlog.routes():
            while entries := self.backlog.peek(route, _BATCH_ENTRIES):
                self._append(route, entries)
                self._progress.notify()

    def _append(self, route: Route, entries: list[Entry]) -> None:
        """Append the first entries of a partition, up to one that cannot be encoded, which is dropped."""
        encoded = [each.encode() for each in entries]
        valid = encoded.index(b"") if b"" in encoded else len(encoded)
        if not valid:
            self.backlog.discard(route)
            return
        self.backlog.mark_sending(route, valid)
        end, reasons = self._store.append(route, encoded[:valid])
        for reason in reasons:
            logger.warning("an event became a dead letter: %s", reason)
        self.backlog.acked(route, valid, end)


def _route(entry: Entry) -> Route:
    return _TRIALS if entry.topic == "trials" else _REGISTRY
