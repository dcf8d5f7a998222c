"""Back-pressure: an event waits, is dropped or is refused while memory and spool are full, as `when_full` says."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import anyio
from trialstream_schemas.errors import SpoolFull

from trialstream.config import Config
from trialstream.pipeline.carrier import Carrier
from trialstream.pipeline.inbox import InboxFull
from trialstream.pipeline.outbox import Outbox

__all__ = ["BackPressure"]

# Poll interval while waiting for outbox space, seconds: the spool may fill up without any progress to wait for.
_POLL_SECONDS = 0.2


class BackPressure:
    """Decides about events for which the inbox has no space.

    During one outage, callers wait for `block_seconds` in total. After that, events are dropped at once, in the
    caller's thread, until events are sent or written to disk again.

    Args:
        config: The settings `when_full`, `block_seconds` and `memory_bytes`.
        outbox: The outbox.
        pipeline: Makes space by sending events and writing them to disk.
        folder: Folder of the spool, for messages.
    """

    def __init__(self, config: Config, outbox: Outbox, pipeline: Carrier, folder: Path) -> None:
        self._config = config
        self._outbox = outbox
        self._pipeline = pipeline
        self._folder = folder
        # When waiting was last abandoned (monotonic clock).
        self._abandoned = 0.0

    def should_wait(self) -> bool:
        """Whether an event should wait for space; from any thread."""
        if self._config.when_full == "raise" and self._pipeline.stuck:
            return False
        return self._abandoned <= self._pipeline.progressed  # with progress since then, this is a new outage

    async def wait(self, attempt: Callable[[], None]) -> bool:
        """Wait for space and add an event, in the I/O thread.

        Args:
            attempt: Appends the event to the inbox; raises `InboxFull` while there is no space.

        Returns:
            Whether the event was added; False when waiting was abandoned.

        Raises:
            ProtocolClosed: The protocol was closed during the wait.
        """
        deadline = time.monotonic() + self._config.block_seconds
        while True:
            self._outbox.take()
            try:
                attempt()
            except InboxFull:
                left = deadline - time.monotonic()
                if left <= 0 or not self.should_wait():
                    break
                with anyio.move_on_after(min(left, _POLL_SECONDS)):
                    await self._pipeline.wait_progress()
            else:
                return True
        self._abandoned = time.monotonic()
        return False

    def drop(self, uid: str, *, droppable: bool) -> str:
        """Drop an event, or refuse it; from any thread.

        Args:
            uid: Uid of the event's subject.
            droppable: Whether the event may be dropped: the fold then counts it in `lost_events`.

        Returns:
            A warning for the user.

        Raises:
            SpoolFull: `when_full` is `raise`, or the event cannot be dropped.
            ProtocolClosed: The protocol was closed.
        """
        config = self._config
        held = f"{config.memory_bytes >> 20} MiB wait in memory"
        if config.spool != "off":
            held += f", and the spool {self._folder} takes no more"
        if config.when_full == "raise" or not droppable:
            raise SpoolFull(f"Kafka at {config.kafka} takes no events, {held}: nothing was logged")
        self._outbox.drop(uid)
        return (
            f"trialstream: Kafka at {config.kafka} takes no events and {held}: new events are dropped and counted in "
            "lost_events"
        )
