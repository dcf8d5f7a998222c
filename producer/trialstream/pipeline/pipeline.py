"""The uplink: all that carries events from the backlog to Kafka, with the spool on the way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import anyio
from trialstream_schemas.errors import KafkaUnavailable, LogMismatch, SpoolError, TrialStreamError

from trialstream.config import Config
from trialstream.log.topics import Route, ensure_topics, partition_of
from trialstream.pipeline.backlog import Backlog, Entry
from trialstream.pipeline.sender import Sender
from trialstream.pipeline.spiller import Spooler
from trialstream.spool.folder import Spool

__all__ = ["Uplink"]

log = logging.getLogger("trialstream")

# How often a Kafka that was not reached at start is tried again.
_RETRY_SECONDS = 2.0
_ATTEMPT_SECONDS = 10.0


class Uplink:
    """See the module. Lives in one event loop.

    Args:
        config: Where Kafka is, and how much memory and disk may hold.
        loop: The event loop that it runs in.
        spool: The spool; None for none.

    Attributes:
        backlog: The events.
        sender: From the backlog to Kafka.
        log: Id of the log, once it is connected.
    """

    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop, spool: Spool | None) -> None:
        self._config = config
        self.sender = Sender(config, loop)
        self.backlog: Backlog = self.sender.backlog
        self._spooler: Spooler | None = None
        self._partitions = 0
        self.log = ""
        self._stopped = anyio.Event()
        self._scope = anyio.CancelScope()
        if spool is not None:
            self._spooler = spooler = Spooler(
                spool,
                self.backlog,
                "always" if config.spool == "always" else "overflow",
                memory_bytes=config.memory_bytes,
                drop_oldest=config.when_full == "drop_oldest",
                made_progress=self.sender.made_progress,
            )
            self.backlog.watch(lambda: loop.call_soon_threadsafe(spooler.wake))

    async def connect(self, timeout: float) -> None:
        """Find the topics, or make them; from then on events are sent.

        Raises:
            KafkaUnavailable: no broker answers in that many seconds.
            LogMismatch: the topics are not what they were.
        """
        with anyio.move_on_after(timeout) as deadline:
            found = await ensure_topics(self._config)
        if deadline.cancelled_caught:
            raise KafkaUnavailable(
                f"Kafka at {self._config.kafka} did not answer in {timeout:g} s; start one with `trialstream up`, or "
                "set TRIALSTREAM_KAFKA"
            )
        self._partitions, self.log = found.partitions, found.log
        if self._spooler is not None:
            self._spooler.spool.log = found.log
        self.backlog.connect(self._route)
        if self._spooler is None:
            self.backlog.release()

    def _route(self, entry: Entry) -> Route:
        if entry.topic == "trials":
            return Route(self._config.trials_topic, partition_of(entry.key, self._partitions))
        return Route(self._config.registry_topic, 0)

    async def run(self, seal: Callable[[float], float]) -> None:
        """Carry events until stopped; see `Sender.run`."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    if self._spooler is not None:
                        tasks.start_soon(self._spooler.run)
                    if not self.backlog.connected and not self._config.offline:
                        tasks.start_soon(self._reconnect)
                    await self.sender.run(seal)
        finally:
            self._stopped.set()

    async def _reconnect(self) -> None:
        while True:
            await anyio.sleep(_RETRY_SECONDS)
            try:
                return await self.connect(_ATTEMPT_SECONDS)
            except LogMismatch as error:
                return log.error("events stay in the spool: %s", error)
            except TrialStreamError as error:
                log.debug("not connected: %s", error)

    @property
    def stuck(self) -> bool:
        """Whether what Kafka does not take has nowhere to go."""
        return self._spooler is None or self._spooler.stuck

    async def secure(self, timeout: float) -> None:
        """Return when all that was queued is acknowledged or on disk: see `Spooler.secure`."""
        if self._spooler is None:
            raise SpoolError("there is no spool: it is switched off (spool='off', TRIALSTREAM_SPOOL)")
        await self._spooler.secure(timeout)

    async def finish(self, timeout: float) -> None:
        """Stop, and leave on disk what was not acknowledged; `backlog.statistics` tells what is where."""
        with anyio.move_on_after(timeout, shield=True):
            self._scope.cancel()
            await self._stopped.wait()
            if self._spooler is not None:
                await self._spooler.finish()
