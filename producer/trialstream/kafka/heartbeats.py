"""Background events of a connection: heartbeats of started trials, and announcements of long chronos."""

from __future__ import annotations

import logging
import time
from contextlib import suppress

import anyio
from trialstream_schemas.errors import ProtocolClosed
from trialstream_schemas.wire.events import ChronoStarted, Heartbeat

from trialstream.kafka.chronos import Chronos, HeldChrono, OpenChrono
from trialstream.kafka.commands import now
from trialstream.pipeline.inbox import InboxFull
from trialstream.pipeline.outbox import Outbox
from trialstream.pipeline.signals import until_tick

__all__ = ["Heartbeats"]

logger = logging.getLogger("trialstream")

# Seconds between heartbeats. A trial whose `last_seen` is several times as old is not running any more.
_HEARTBEAT_SECONDS = 10.0
# A chrono that runs for longer is announced to the log, so that a hanging training run shows where it hangs; seconds.
_ANNOUNCE_SECONDS = 1.0


class Heartbeats:
    """Logs heartbeats of started trials, and the start of chronos that run for long. Belongs to the I/O thread.

    Args:
        writer: Id of the writer.
        outbox: The outbox.
        chronos: The open chronos.
        started: Start time of each trial that was started here, by uid.
    """

    def __init__(self, writer: str, outbox: Outbox, chronos: Chronos, started: dict[str, float]) -> None:
        self._writer = writer
        self._outbox = outbox
        self._chronos = chronos
        self._started = started

    async def run(self) -> None:
        """Log until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._beat)
            tasks.start_soon(self._announce)

    async def _beat(self) -> None:
        while True:
            await anyio.sleep(_HEARTBEAT_SECONDS)
            for uid in list(self._started):
                try:
                    self._outbox.put(Heartbeat(trial=uid, writer=self._writer, time=now()))
                except (InboxFull, ProtocolClosed):  # queued events of the trial update its last_seen too
                    logger.debug("no space for a heartbeat")

    async def _announce(self) -> None:
        while True:
            await anyio.sleep(until_tick(_ANNOUNCE_SECONDS))
            # A chrono whose finish was taken here is not open any more. What is put into the inbox from now on is taken
            # after the announcement.
            self._outbox.take()
            with suppress(ProtocolClosed):
                self._chronos.announce(time.perf_counter() - _ANNOUNCE_SECONDS, self._announce_one)

    def _announce_one(self, chrono: OpenChrono | HeldChrono) -> None:
        self._outbox.put_now(
            ChronoStarted(
                trial=chrono.trial,
                writer=self._writer,
                time=now(),
                name=chrono.name,
                aggregator=chrono.aggregator,
            )
        )
