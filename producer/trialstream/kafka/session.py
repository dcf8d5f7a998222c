"""The session of a `KafkaProtocol`: the parts of one open connection, and how they are assembled."""

from __future__ import annotations

import concurrent.futures
import functools
import logging
import shlex
from collections.abc import Awaitable, Callable, Coroutine
from secrets import token_hex
from typing import Any, TypeAlias, TypeVar

import anyio
from trialstream_schemas.errors import CommitTimeout, KafkaUnavailable, LogMismatch, MongoUnavailable, Offline
from trialstream_schemas.messages import counted
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.wire.events import SubjectEvent

from trialstream.config import Config
from trialstream.kafka import commands, creations
from trialstream.kafka.backpressure import BackPressure
from trialstream.kafka.chronos import Chronos
from trialstream.kafka.claims import Claims
from trialstream.kafka.heartbeats import Heartbeats
from trialstream.kafka.requests import Requests
from trialstream.kafka.servers import Servers
from trialstream.kafka.subjects import KnownSubjects
from trialstream.kafka.waits import Waits
from trialstream.pipeline.carrier import Carrier
from trialstream.pipeline.inbox import InboxFull
from trialstream.pipeline.outbox import Outbox
from trialstream.reading.budget import remaining, within
from trialstream.reading.reader import CandidateQuery, Collection, Decision, Read, Reader
from trialstream.runtime.io_thread import runs_in_caller
from trialstream.runtime.lifecycle import Lifecycle
from trialstream.runtime.origin import UserLine, warn
from trialstream.spool.finding import abandoned
from trialstream.spool.folder import Spool

__all__ = ["Rest", "Session"]

logger = logging.getLogger("trialstream")
T = TypeVar("T")
# The rest of a log call: what it has to wait for.
Rest: TypeAlias = Callable[[], Coroutine[Any, Any, None]]

# Time for which a frame gathers rows, seconds; it delays what users see of a training run. Half of it would make twice
# as many frames. Measured: the I/O thread takes 1.4 ms of processor time for each frame, and a training thread that
# logs 1,000 rows/s waits for the part of that time in which the I/O thread holds the interpreter (docs/performance.md).
_LINGER_SECONDS = 0.2


class Session:
    """One connection to a log and its projection, of Kafka and MongoDB or of what stands in for them.

    Methods are for the caller's thread, unless they say otherwise.

    Args:
        config: Settings of what is logged, and where the servers are.
        timeout: Maximum duration of any wait, seconds.
        servers: Makes the parts that need servers.

    Attributes:
        config: As given.
        timeout: As given.
        writer: Id of this protocol and process, as in `Trial.writers`.
        lifecycle: Opens and closes the connection, and runs calls in the I/O thread.
        subjects: The subjects that are known to exist, so that log calls need not look them up.
        chronos: The open chronos.
        started: Start time of each trial that was started here and runs, by uid, on the clock `time.perf_counter`.
        attempts: Key of the attempt in which this writer takes part, by uid of the trial.
        outbox: Log calls append to it.
        waits: Waits for what was logged; its coroutines run in the I/O thread.
    """

    outbox: Outbox
    waits: Waits

    def __init__(self, config: Config, timeout: float, servers: Servers) -> None:
        self.config = config
        self.timeout = timeout
        self.writer = token_hex(8)
        self.lifecycle = Lifecycle(self, f"trialstream-{self.writer}")
        self.subjects = KnownSubjects(self.lifecycle)
        self.chronos = Chronos()
        self.started: dict[str, float] = {}
        self.attempts: dict[str, str] = {}
        self._servers = servers
        self._spool: Spool
        self._pipeline: Carrier
        self._reader: Reader
        self._backpressure: BackPressure
        self._requests: Requests
        self._claims: Claims
        self._heartbeats: Heartbeats

    # --- Opened and closed by its lifecycle

    async def open(self) -> str:
        """Assemble the parts and connect, in the I/O thread.

        Returns:
            The reason why Kafka could not be reached; empty if it was reached.
        """
        config = self.config
        self._spool = Spool(
            config.spools / self.writer, config.prefix, self.writer, config.spool_bytes, base=config.spool_folder
        )
        self._reader = self._servers.reader()
        spool = None if config.spool == "off" else self._spool
        self._pipeline = self._servers.carrier(self.lifecycle, spool, self._check_projection)
        try:
            trouble = "" if config.offline else await self._connect()
        except BaseException:
            self._reader.close()
            raise
        self.outbox = Outbox(
            self.writer,
            self._pipeline.backlog,
            self._pipeline.wake,
            max_bytes=config.memory_bytes,
            linger=_LINGER_SECONDS,
        )
        self._backpressure = BackPressure(config, self.outbox, self._pipeline, self._spool.folder)
        self.waits = Waits(self.outbox, self._pipeline, self._reader)
        self._requests = Requests(
            self.outbox,
            self._pipeline.watermark,
            self._pipeline.refusals,
            self._backpressure,
            self.waits,
            self._reader,
            self.timeout,
        )
        self._claims = Claims(self._requests, self.waits, self.started, self.timeout)
        self._heartbeats = Heartbeats(self.writer, self.outbox, self.chronos, self.started)
        self.lifecycle.start(self._run).add_done_callback(_log_crash)
        return trouble

    async def _connect(self) -> str:
        """Connect to Kafka; return the reason why it could not be reached."""
        try:
            await self._pipeline.connect(self.timeout)
        except KafkaUnavailable as error:
            if self.config.spool == "off":
                raise
            return str(error)
        return ""

    async def _check_projection(self, log: Awaitable[str]) -> None:
        """Check that the projection was folded from the log to which events are sent, if MongoDB answers."""
        if not self.config.mongo:
            return
        try:
            await self._reader.check_log(log)
        except MongoUnavailable as error:  # checked later, by each read
            logger.debug("the log of the projection could not be checked: %s", error)

    async def _run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._heartbeats.run)
            tasks.start_soon(self._reader.poll_decisions)
            await self._pipeline.run(self.outbox.seal)
            tasks.cancel_scope.cancel()

    def report_opened(self, trouble: str) -> None:
        """Warn of spools of other processes, and that Kafka could not be reached."""
        spools = self.config.spools
        if left := abandoned(spools):  # logged, since a warning as an error would fail this process for others
            logger.warning(
                "%d spools of processes that have ended wait to be sent: run `trialstream push %s`",
                len(left),
                shlex.quote(str(spools)),
            )
        if trouble:
            self.lifecycle.warn_once(
                f"trialstream: {trouble}; until Kafka answers, all logged events go to {self._spool.folder}"
            )

    def stop_accepting(self) -> None:
        """Close the outbox."""
        self.outbox.close()

    async def flush(self, timeout: float) -> str:
        """Send the remaining events, in the I/O thread; return the reason why events are still unsent, if any are."""
        left = await self.waits.finish(min(self.timeout, timeout))
        if self.config.offline:
            return "the protocol worked offline"
        self._pipeline.stop_warning_of_outages()
        try:
            await self._pipeline.wait_acked(left)
        except (CommitTimeout, LogMismatch) as error:
            return str(error)
        return ""

    async def finish(self, timeout: float) -> None:
        """Write the unsent events to the spool, and close all connections, in the I/O thread."""
        await self._pipeline.finish(timeout)
        self._reader.close()

    def report_unsent(self, trouble: str, line: UserLine | None, *, may_raise: bool) -> None:
        """Warn of events that were not sent, with the folder that holds them."""
        left = self.outbox.statistics()
        folder = self._spool.folder
        said = []
        if left.spooled:
            push = f"trialstream push {shlex.quote(str(folder))}"
            waiting, them = counted(left.spooled, "event waits", "events wait"), "it" if left.spooled == 1 else "them"
            said.append(f"{waiting} in {folder}: send {them} with {push}")
        if lost := left.queued - left.spooled:
            said.append(counted(lost, "event is lost", "events are lost"))
        said += self._pipeline.refusals.summary()
        if not said:
            return
        reason = f" ({trouble})" if trouble else ""
        message = f"trialstream: closed with events that were not sent: {'; '.join(said)}{reason}"
        if self.config.offline and not lost:
            logger.warning("%s", message)  # expected offline: must not fail a process that turns warnings into errors
            return
        try:
            warn(message, line)
        except RuntimeWarning:  # warnings are errors in this process; the events are on disk by now
            if may_raise:
                raise
            logger.warning("%s", message)

    # --- State

    @property
    def has_connected(self) -> bool:
        """Whether Kafka was reached, at start or since.

        Raises:
            ProtocolClosed: The protocol is not open.
        """
        self.lifecycle.check_open()
        return self._pipeline.has_connected

    @property
    def requests_outcomes(self) -> bool:
        """Whether a creation waits for its outcome: Kafka was reached and there is a MongoDB, or `sync_writes` is set.

        Raises:
            ProtocolClosed: The protocol is not open.
        """
        return (self.has_connected and self.config.can_read) or self.config.sync_writes

    @property
    def reader(self) -> Reader:
        """See `ReadSession.reader`."""
        self.check_online()
        return self._reader

    def check_online(self) -> None:
        """Check that the protocol can read.

        Raises:
            Offline: The protocol works without servers, or without MongoDB.
            ProtocolClosed: The protocol is not open.
        """
        self.lifecycle.check_open()
        if self.config.offline:
            raise Offline("the protocol works offline: it can log, and create trials, but neither read nor claim")
        if not self.config.mongo:
            raise Offline(
                "mongo: expected a URI, got an empty text: without MongoDB the protocol can log, and create trials, "
                "but neither read, claim nor wait for the fold; set TRIALSTREAM_MONGO"
            )

    # --- Logging

    def put(self, event: SubjectEvent) -> Rest | None:
        """Log an event: see `add`."""
        return self.add(event.subject, functools.partial(self.outbox.put, event), droppable=event.request is None)

    def add(self, uid: str, add: Callable[[], None], *, droppable: bool = True) -> Rest | None:
        """Log an event or a row; if there is no space, wait, drop or raise as `when_full` says.

        With the setting `sync_writes`, the call also waits until the projection shows it, and nothing is dropped.

        Args:
            uid: Uid of the subject.
            add: Appends the event or row to the inbox; raises `InboxFull` while there is no space.
            droppable: Whether the event may be dropped.

        Returns:
            What the call has to wait for; None if that is nothing. Errors of the wait: `SpoolFull` and `ProtocolClosed`
            as here; with `sync_writes` also `CommitTimeout` if Kafka has not acknowledged the event in time,
            `ProjectionBehind` if the consumer has not folded it in time, and `MongoUnavailable`.

        Raises:
            SpoolFull: There is no space, and `when_full` is `raise` or the event cannot be dropped.
            ProtocolClosed: The protocol was closed during the call.
        """
        synchronous = self.config.sync_writes
        droppable = droppable and not synchronous
        try:
            add()
        except InboxFull as full:
            if full.crowded or self._backpressure.should_wait():
                return functools.partial(self._wait_and_add, uid, add, droppable=droppable)
            # In this thread: a crossing would cost a hundred times as much, and would fail in a task that is being
            # cancelled.
            self._drop(uid, droppable=droppable)
        return self._wait_folded if synchronous else None

    async def _wait_and_add(self, uid: str, add: Callable[[], None], *, droppable: bool) -> None:
        if runs_in_caller() or not await self.lifecycle.call(self._backpressure.wait, add):
            self._drop(uid, droppable=droppable)
        if self.config.sync_writes:
            await self._wait_folded()

    def _drop(self, uid: str, *, droppable: bool) -> None:
        self.lifecycle.warn_once(self._backpressure.drop(uid, droppable=droppable))

    async def _wait_folded(self) -> None:
        await self.lifecycle.call(self.waits.wait_folded, self.timeout)

    async def request(self, event: SubjectEvent) -> Decision:
        """Send a request and wait for its outcome; further errors as for `Requests.request`.

        Raises:
            Offline: The protocol works without servers, or without MongoDB.
        """
        self.check_online()
        return await self.lifecycle.call(self._requests.request, event)

    async def claim(self, query: CandidateQuery, event: SubjectEvent) -> Decision:
        """Claim a document that matches: see `Claims.claim`."""
        return await self.lifecycle.call(self._claims.claim, query, event)

    # --- Reading

    async def read(self, read: Read[T], *, latest: bool = False) -> T:
        """See `ReadSession.read`."""

        async def read_folded() -> T:
            with within(self.timeout):
                await self.waits.wait_folded(remaining(self.timeout), latest=latest)
                return await read()

        self.check_online()
        return await self.lifecycle.call(read_folded)

    def remember(self, collection: Collection, *uids: str) -> None:
        """See `ReadSession.remember`."""
        self.subjects.add(collection, *uids)

    def knows(self, collection: Collection, uid: str) -> bool:
        """See `ReadSession.knows`."""
        return self.subjects.has(collection, uid)

    async def require(self, collection: Collection, uid: str, message: str, *, was_created: bool = True) -> None:
        """Check that a subject exists: see `KnownSubjects.require`.

        Raises:
            ItemNotFound: The subject does not exist.
            ProtocolClosed: The protocol is not open.
        """
        reader = self._reader if self.has_connected and self.config.can_read else None
        await self.subjects.require(collection, uid, message, reader=reader, was_created=was_created)

    async def require_trial(self, trial: Trial) -> None:
        """Check that a trial exists.

        Raises:
            InvalidType: A field of a trial that the log has not decided has a type that cannot be logged.
            InvalidValue: A field of such a trial cannot be stored.
            ItemNotFound: The trial does not exist.
            ProtocolClosed: The protocol is not open.
        """
        uid = trial.uid
        if trial.request is not None:
            # Each writer sends the creation before its own events of the trial; the fold takes the first one.
            event = commands.create_trial(self.writer, creations.undecided_trial(trial), auto_increment=True)
            if rest := self.put(event):
                await rest()
            self.subjects.add("trials", uid)
        else:
            message = f"trial {trial.name!r} ({uid}) was never created: call new_trial first"
            await self.require("trials", uid, message, was_created=trial.created is not None)


def _log_crash(ended: concurrent.futures.Future[None]) -> None:
    """Log a crash of the background task, without which no events are sent any more."""
    if not ended.cancelled() and (error := ended.exception()) is not None:
        logger.critical("trialstream stopped sending because of an internal fault; please report this", exc_info=error)
