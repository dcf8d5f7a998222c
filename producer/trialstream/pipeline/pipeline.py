"""The pipeline: carries events from the backlog to Kafka, with the spool as overflow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import lru_cache
from typing import Any

import anyio
from trialstream_schemas.errors import KafkaUnavailable, LogMismatch, SpoolError, TrialStreamError

from trialstream.config import Config
from trialstream.event_log.diagnosis import kafka_trouble
from trialstream.event_log.ends import LogEnds
from trialstream.event_log.topics import Route, ensure_topics, partition_of
from trialstream.pipeline.backlog import Backlog
from trialstream.pipeline.entry import Entry
from trialstream.pipeline.outage import OutageWatch
from trialstream.pipeline.refusals import Refusals
from trialstream.pipeline.sender import Sender
from trialstream.pipeline.signals import ProgressSignal, WakeUp
from trialstream.pipeline.spiller import Spiller
from trialstream.pipeline.watermark import Watermark
from trialstream.spool.folder import Spool
from trialstream.statistics import Statistics

__all__ = ["Pipeline"]

logger = logging.getLogger("trialstream")

# Pause between attempts to connect to Kafka, if it was not reached at the start.
_RETRY_SECONDS = 2.0
_ATTEMPT_SECONDS = 10.0
# Last part of the time to connect, in which it is also found out why that fails, and the maximum of this part.
_DIAGNOSIS_SHARE = 0.75
_DIAGNOSIS_SECONDS = 3.0
_NEVER = 2**63  # bytes
# The partition of a trial is computed by 800 steps of the interpreter; a key takes 32 bytes.
_partition_of = lru_cache(maxsize=4096)(partition_of)


class Pipeline:
    """Backlog, sender and spiller of one writer. Lives in one event loop.

    The parts are assembled in the direction of the events, and each gets the signals that it sets or waits for: the
    backlog wakes sender and spiller; sender and spiller notify the tasks that wait for progress.

    Args:
        config: Where Kafka is, and how much memory and disk may be used.
        loop: The event loop that the pipeline runs in.
        spool: The spool; None without one.
        warn: Warns the user of an outage or of a refused event, from this event loop.
        check_log: Called at each attempt to connect with the future id of the log, which it awaits last; nothing is
            sent before it returns. It raises `LogMismatch` if the projection that is read belongs to another log. None
            if nothing is read.
        halts: Whether a refused event halts its partition.

    Attributes:
        backlog: The events.
        refusals: The events that Kafka has refused.
        watermark: The events that a read must wait for.
        log_id: Id of the log; empty until the pipeline is connected, and if it may not read the registry.
    """

    def __init__(
        self,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        spool: Spool | None,
        warn: Callable[[str], object],
        *,
        check_log: Callable[[Awaitable[str]], Coroutine[Any, Any, None]] | None = None,
        halts: bool = False,
    ) -> None:
        self._config = config
        self._check_log = check_log
        self._spool = spool
        self._wake_sender, wake_spiller = WakeUp(loop), WakeUp(loop)
        self._progress = ProgressSignal()
        self.watermark = Watermark()
        spill_bytes = _NEVER if spool is None else config.memory_bytes // 2
        self.backlog = Backlog(self.watermark, self._wake_sender.set, wake_spiller.set, spill_bytes=spill_bytes)
        self.refusals = Refusals(self.backlog, spool, self._progress, warn, halts=halts)
        self._sender = Sender(config, self.backlog, self._wake_sender, self._progress, self.refusals)
        self._outages = OutageWatch(
            config,
            self.backlog,
            None if spool is None else spool.folder,
            lambda: self._sender.last_error,
            warn,
            lambda: self._sender.missing_right,
        )
        self._spiller: Spiller | None = None
        if spool is not None:
            self._spiller = Spiller(
                self.backlog,
                spool,
                wake_spiller,
                self._progress,
                "always" if config.spool == "always" else "overflow",
                memory_bytes=config.memory_bytes,
                drop_oldest=config.when_full == "drop_oldest",
            )
        self.log_id = ""
        self._partitions = 0
        self._ends = LogEnds(config)
        self._stopped = anyio.Event()
        self._scope = anyio.CancelScope()

    # --- Running

    async def connect(self, timeout: float) -> None:
        """Find the topics, or create them; from then on events can be sent.

        Args:
            timeout: Seconds.

        Raises:
            KafkaUnavailable: No broker answered within the timeout.
            LogMismatch: The topics do not match the identity of the log, which was recorded at its creation, or the
                projection belongs to another log.
        """
        trouble = (
            f"Kafka at {self._config.kafka} did not answer in {timeout:g} s; start one with `trialstream up`, or set "
            "TRIALSTREAM_KAFKA"
        )

        async def diagnose() -> None:
            nonlocal trouble
            await anyio.sleep(timeout - min(timeout * _DIAGNOSIS_SHARE, _DIAGNOSIS_SECONDS))
            trouble = await kafka_trouble(self._config, TimeoutError(f"no answer in {timeout:g} s"))

        log: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        beside = [asyncio.ensure_future(diagnose())]
        if self._check_log is not None:
            beside.append(asyncio.ensure_future(self._check_log(log)))
        try:
            with anyio.move_on_after(timeout) as deadline:
                found = await ensure_topics(self._config)
            if deadline.cancelled_caught:
                raise KafkaUnavailable(trouble)
            log.set_result(found.log)
            for check in beside[1:]:
                await check
        finally:
            for each in beside:
                each.cancel()
        self._partitions, self.log_id = found.partitions, found.log
        self._sender.log = found.log
        if self._spool is not None and found.log:
            self._spool.set_log(found.log)
        self.backlog.connect(self._route)
        if self._spool is None:
            self.backlog.stop_spilling()

    async def run(self, seal: Callable[[float], float]) -> None:
        """Carry events until `finish`.

        Args:
            seal: Queues the frames that are due by a time on the monotonic clock, and returns when the next is due.
        """
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._outages.run)
                    if self._spiller is not None:
                        tasks.start_soon(self._spiller.run)
                    if not self.has_connected and not self._config.offline:
                        tasks.start_soon(self._reconnect)
                    await self._sender.run(seal)
        finally:
            self._stopped.set()

    async def finish(self, timeout: float) -> None:
        """Stop `run`, and write the unacknowledged events to disk; `statistics` counts these in `spooled`.

        Args:
            timeout: Seconds.
        """
        with anyio.move_on_after(timeout, shield=True):
            self._scope.cancel()
            await self._stopped.wait()
            if self._spiller is not None:
                await self._spiller.finish()
            await self._ends.close()

    def stop_warning_of_outages(self) -> None:
        """Warn of outages no more: the closing reports the events that are not sent."""
        self._outages.stop()

    def wake(self) -> None:
        """Wake the sender, from any thread, so that it calls `seal` now: a frame is due before the next wake-up."""
        self._wake_sender.set()

    # --- State

    @property
    def has_connected(self) -> bool:
        """Whether Kafka was reached, at the start or since."""
        return self.backlog.has_connected

    @property
    def missing_right(self) -> str:
        """The right that this user lacks to send the events that wait; empty if it lacks none, as far as is known."""
        return self._sender.missing_right

    @property
    def stuck(self) -> bool:
        """Whether there is no spool, or the spool takes nothing: events can only wait in memory."""
        return self._spiller is None or self._spiller.stuck

    @property
    def progressed(self) -> float:
        """Time when entries were last acknowledged, spooled or dropped, on the monotonic clock; 0 before that."""
        return self._progress.last

    @property
    def refused(self) -> str:
        """Reason for which a broker has refused the last batch, other than its size; empty if it has not."""
        return self._sender.refused

    def statistics(self) -> Statistics:
        """Counts of the events; `bytes` excludes open frames."""
        return self.backlog.statistics()

    # --- Waiting

    async def wait_progress(self) -> None:
        """Return at the next progress: entries were acknowledged, spooled or dropped."""
        await self._progress.wait()

    async def wait_acked(self, timeout: float) -> None:
        """Return when Kafka has acknowledged all events that were queued before the call.

        Args:
            timeout: Seconds.

        Raises:
            CommitTimeout: Kafka has not acknowledged them within the timeout; they stay queued.
        """
        await self._sender.wait_acked(self.backlog.next_number, timeout)

    async def wait_logged(self, timeout: float) -> dict[Route, int]:
        """Return when Kafka has acknowledged all events that a read must show: see `Watermark`.

        Args:
            timeout: Seconds.

        Returns:
            The offset that the projection must reach, by partition.

        Raises:
            CommitTimeout: Kafka has not acknowledged them within the timeout; they stay queued.
            LogMismatch: The topics belong to another log than before.
        """
        await self._sender.wait_acked(self.watermark.number, timeout)
        offsets = self.watermark.offsets()
        await self._sender.check_log(offsets)
        return offsets

    async def ends(self, timeout: float) -> dict[Route, int]:
        """Read the ends of the log.

        Args:
            timeout: Seconds.

        Returns:
            By partition, the offset after its last event, of any writer.

        Raises:
            KafkaUnavailable: Kafka has not answered within the timeout, or was not reached since the start.
            LogMismatch: The topics belong to another log than before.
        """
        if not self.has_connected:
            raise KafkaUnavailable(
                f"Kafka at {self._config.kafka} was not reached since the start, so the end of the log is unknown; "
                "start one with `trialstream up`, or set TRIALSTREAM_KAFKA"
            )
        return await self._ends.read(self.log_id, self._partitions, timeout)

    async def wait_secured(self, timeout: float) -> None:
        """Return when all events that were queued before the call are acknowledged, or safe on disk.

        Args:
            timeout: Seconds.

        Raises:
            CommitTimeout: After the timeout, some events are neither acknowledged nor on disk; they stay queued.
            SpoolError: There is no spool, or the disk did not confirm the write.
        """
        if self._spiller is None:
            raise SpoolError("there is no spool: spool (TRIALSTREAM_SPOOL) is 'off', set it to 'overflow' or 'always'")
        await self._spiller.wait_secured(timeout)

    # --- Private

    def _route(self, entry: Entry) -> Route:
        if entry.topic == "trials":
            return Route(self._config.trials_topic, _partition_of(entry.key, self._partitions))
        return Route(self._config.registry_topic, 0)

    async def _reconnect(self) -> None:
        while True:
            await anyio.sleep(_RETRY_SECONDS)
            try:
                return await self.connect(_ATTEMPT_SECONDS)
            except LogMismatch as error:
                return self._sender.refuse(error)
            except TrialStreamError as error:
                logger.debug("not connected: %s", error)
