"""Back-pressure: an event waits, is dropped or is refused while memory and spool are full, as `when_full` says."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import anyio
from trialstream_schemas.errors import SpoolFull

from trialstream.config import Config
from trialstream.pipeline.outbox import Outbox, OutboxFull
from trialstream.pipeline.pipeline import Pipeline

__all__ = ["BackPressure"]

# Poll interval while waiting for outbox space, seconds: the spool may fill up without any progress to wait for.
_POLL_SECONDS = 0.2


class BackPressure:
    """Waits for space in the outbox. Belongs to the I/O thread.

    During one outage, callers wait for `block_seconds` in total. After that, events are dropped without waiting until
    events are sent or written to disk again.

    Args:
        config: The settings `when_full`, `block_seconds` and `memory_bytes`.
        outbox: The outbox.
        pipeline: Makes space by sending events and writing them to disk.
        folder: Folder of the spool, for messages.
    """

    def __init__(self, config: Config, outbox: Outbox, pipeline: Pipeline, folder: Path) -> None:
        self._config = config
        self._outbox = outbox
        self._pipeline = pipeline
        self._folder = folder
        # When blocking was last abandoned (monotonic clock).
        self._abandoned = 0.0

    async def add(self, uid: str, add: Callable[[], None], *, droppable: bool) -> str:
        """Add an event for which the outbox had no space.

        Args:
            uid: Uid of the event's subject.
            add: Adds the event to the outbox; raises `OutboxFull` while there is no space.
            droppable: Whether the event may be dropped: the fold then counts it in `lost_events`.

        Returns:
            A warning for the user if the event was dropped; otherwise an empty text.

        Raises:
            SpoolFull: There is no space, and `when_full` is `raise` or the event cannot be dropped.
            ProtocolClosed: The protocol was closed during the wait.
        """
        config, pipeline = self._config, self._pipeline
        may_raise = config.when_full == "raise"
        if self._abandoned <= pipeline.progressed:  # there was progress since then, so this is a new outage
            deadline = time.monotonic() + config.block_seconds
            while (left := deadline - time.monotonic()) > 0 and not (may_raise and pipeline.stuck):
                with anyio.move_on_after(min(left, _POLL_SECONDS)):
                    await pipeline.wait_progress()
                try:
                    add()
                except OutboxFull:
                    continue
                return ""
            self._abandoned = time.monotonic()
        held = f"{config.memory_bytes >> 20} MiB wait in memory"
        if config.spool != "off":
            held += f", and the spool {self._folder} takes no more"
        if may_raise or not droppable:
            raise SpoolFull(f"Kafka at {config.kafka} takes no events, {held}: nothing was logged")
        self._outbox.drop(uid)
        return (
            f"trialstream: Kafka at {config.kafka} takes no events and {held}: new events are dropped and counted in "
            "lost_events"
        )
