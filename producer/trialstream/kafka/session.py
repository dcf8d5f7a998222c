"""One open connection: what runs in its I/O thread, and the ways in which calls wait for it."""

from __future__ import annotations

import concurrent.futures
import logging
import secrets
import time
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

import anyio
from trialstream_schemas.errors import (
    CommitTimeout,
    InvalidValue,
    ItemNotFound,
    KafkaUnavailable,
    MongoUnavailable,
    Offline,
    ProjectionBehind,
    ProtocolClosed,
    SpoolFull,
)
from trialstream_schemas.wire.events import ChronoStarted, Heartbeat, SubjectEvent

from trialstream.config import Config
from trialstream.kafka.chronos import Chronos, OpenChrono
from trialstream.kafka.claims import Candidates
from trialstream.kafka.commands import now
from trialstream.pipeline.outbox import Outbox, OutboxFull
from trialstream.pipeline.pipeline import Pipeline
from trialstream.reading.reader import Candidate, Filter, Outcome, Reader
from trialstream.runtime.lifecycle import Lifecycle
from trialstream.spool.folder import Spool, abandoned

__all__ = ["Session", "new_request"]

log = logging.getLogger("trialstream")
T = TypeVar("T")
Collection = Literal["trials", "groups", "projects"]

# A frame gathers what comes within; longer would be seen as delay by who watches a run. Half of it would be twice the
# frames: measured, the I/O thread takes 1.4 ms of processor for each, of which a training thread that logs 1,000 rows/s
# waits for the part in which it wants the interpreter (docs/performance.md).
_LINGER_SECONDS = 0.2
# A trial whose last_seen is a few of these old is not running any more.
_HEARTBEAT_SECONDS = 10.0
# A chrono that runs longer is announced to the log, so that a run that hangs shows where.
_ANNOUNCE_SECONDS = 1.0
# How often who waits for room looks whether there will be any.
_ROOM_SECONDS = 0.2


class Session(Lifecycle):
    """See the module.

    Args:
        config: Where the servers are.
        timeout: Seconds that any wait takes at most.

    Attributes:
        timeout: As given.
        chronos: The open chronos.
        started: When each trial was started that runs here, by uid, on the clock `time.perf_counter`.
        outbox: What log calls append to.
        reader: The projection; its coroutines run in the I/O thread: `call` them.
    """

    outbox: Outbox
    reader: Reader
    _claims: Candidates
    _pipeline: Pipeline

    def __init__(self, config: Config, timeout: float) -> None:
        super().__init__()
        self._config = config
        self.timeout = timeout
        self.chronos = Chronos()
        self.started: dict[str, float] = {}
        # Since when log calls have not been waiting for room any more, on the monotonic clock.
        self._gave_up = 0.0
        # Uids that are known to exist, so that only the first call of each asks.
        self._known: dict[Collection, set[str]] = {"trials": set(), "groups": set(), "projects": set()}

    # --- Opening and closing

    async def _open(self) -> str:
        """Open; return why Kafka was not reached, if it should have been."""
        config = self._config
        self._patience = anyio.CancelScope()
        self._spool = Spool(config.spools / self.writer, config.prefix, self.writer, config.spool_bytes)
        self._pipeline = Pipeline(config, self._io.loop, None if config.spool == "off" else self._spool)
        trouble = ""
        if not config.offline:
            try:
                await self._pipeline.connect(self.timeout)
            except KafkaUnavailable as error:
                if config.spool == "off":
                    raise
                trouble = str(error)
        self.reader = Reader(config, self.timeout)
        self._claims = Candidates(self._candidates)
        self.outbox = Outbox(
            self.writer,
            self._pipeline.backlog,
            self._pipeline.wake,
            max_bytes=config.memory_bytes,
            linger=_LINGER_SECONDS,
        )
        self._io.submit(self._run).add_done_callback(_report)
        return trouble

    def _tell_opened(self, trouble: str) -> None:
        if left := abandoned(self._config.spools):  # of others, and so no reason for this run to fail
            spools = self._config.spools
            log.warning(
                "processes that have ended left %d spools: send them with trialstream push %s", len(left), spools
            )
        if trouble:
            self.warn_once(f"trialstream: {trouble}; until it does, all that is logged goes to {self._spool.folder}")

    async def _run(self) -> None:
        async with anyio.create_task_group() as tasks:
            for each in (self._beat, self._announce, self.reader.poll_outcomes):
                tasks.start_soon(each)
            await self._pipeline.run(self.outbox.seal)
            tasks.cancel_scope.cancel()

    @property
    def offline(self) -> bool:
        """Whether it works without servers, as it was asked to."""
        return self._config.offline

    @property
    def connected(self) -> bool:
        """Whether Kafka was reached, at start or since.

        Raises:
            ProtocolClosed: see `check_open`.
        """
        self.check_open()
        return self._pipeline.connected

    def check_online(self) -> None:
        """Check that there are servers to ask.

        Raises:
            Offline: the protocol works without servers.
        """
        if self._config.offline:
            raise Offline("the protocol works offline: it can log, and create trials, but neither read nor claim")

    def _shut(self) -> None:
        """Take no more events."""
        self.outbox.close()

    async def _close(self, sending: float, finishing: float) -> str:
        trouble = "interrupted"
        try:
            with self._patience:
                if self._config.offline:
                    trouble = "the protocol worked offline"
                else:
                    await self._pipeline.wait_acked(min(self.timeout, sending))
                    trouble = ""
        except CommitTimeout as error:
            trouble = str(error)
        finally:
            await self._pipeline.finish(finishing)
            self.reader.close()
        return trouble

    def _tell_left(self, trouble: str, *, may_raise: bool, stacklevel: int) -> None:
        """Say what was not sent, and what becomes of it."""
        left = self._pipeline.statistics()
        folder = self._spool.folder
        said = []
        if left.spooled:
            said.append(f"{left.spooled} events wait in {folder}: send them with trialstream push {folder}")
        if lost := left.queued - left.spooled:
            said.append(f"{lost} events are lost")
        if not said:
            return
        message = f"trialstream: closed with events that were not sent: {'; '.join(said)} ({trouble})"
        if self._config.offline and not lost:
            log.warning("%s", message)  # as it was meant to be: nothing that should fail who makes errors of warnings
            return
        try:
            warnings.warn(message, RuntimeWarning, stacklevel=stacklevel)
        except RuntimeWarning:  # warnings are errors here; all that can be saved is on disk by now
            if may_raise:
                raise
            log.warning("%s", message)

    # --- In the background

    async def _beat(self) -> None:
        while True:
            await anyio.sleep(_HEARTBEAT_SECONDS)
            for uid in list(self.started):
                try:
                    self.outbox.put(Heartbeat(trial=uid, writer=self.writer, time=now()))
                except (
                    OutboxFull,
                    ProtocolClosed,
                ):  # then others of its events wait, and tell as much later
                    log.debug("no room for a heartbeat")

    async def _announce(self) -> None:
        while True:
            await anyio.sleep(_ANNOUNCE_SECONDS)
            try:
                self.chronos.announce(time.perf_counter() - _ANNOUNCE_SECONDS, self._announce_one)
            except (OutboxFull, ProtocolClosed):
                log.debug("no room to announce chronos")

    def _announce_one(self, chrono: OpenChrono) -> None:
        self.outbox.put(
            ChronoStarted(
                trial=chrono.trial,
                writer=self.writer,
                time=now(),
                name=chrono.name,
                aggregator=chrono.aggregator,
            )
        )

    # --- Putting events

    async def put(self, event: SubjectEvent) -> None:
        """Queue an event; what is done where there is no room is the setting `when_full`.

        Raises:
            SpoolFull: there is no room, and `when_full` is `raise` or the event is one that cannot be dropped.
        """
        try:
            self.outbox.put(event)
        except OutboxFull:
            await self.put_later(event.subject, lambda: self.outbox.put(event), droppable=event.request is None)

    async def put_later(self, uid: str, add: Callable[[], None], *, droppable: bool = True) -> None:
        """Try again to add something of a subject that found the outbox full: see `put`.

        Raises:
            SpoolFull: as `put`.
        """
        config, pipeline = self._config, self._pipeline
        at_once = config.when_full == "raise"
        if self._gave_up <= pipeline.progressed:  # something has moved since: this is another time without room
            deadline = time.monotonic() + config.block_seconds
            while (left := deadline - time.monotonic()) > 0 and not (at_once and pipeline.stuck):
                await self.call(self._room, min(left, _ROOM_SECONDS))
                try:
                    return add()
                except OutboxFull:
                    continue
            self._gave_up = time.monotonic()
        held = f"{config.memory_bytes >> 20} MiB wait in memory"
        if config.spool != "off":
            held += f", and {self._spool.folder} takes no more"
        if at_once or not droppable:
            raise SpoolFull(f"Kafka at {config.kafka} takes no events, {held}: nothing was logged")
        self.outbox.drop(uid)
        self.warn_once(
            f"trialstream: Kafka at {config.kafka} takes no events and {held}: new events are dropped and counted in "
            "lost_events"
        )
        return None

    async def _room(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._pipeline.wait_progress()

    async def decide(self, event: SubjectEvent) -> Outcome:
        """Send a request and return what the fold decided.

        Raises:
            ItemNotFound, InvalidValue: it refused.
            CommitTimeout: Kafka has not acknowledged the event in time.
            ProjectionBehind: the consumer has not folded it in time.
        """
        self.check_open()
        self.check_online()
        event.request = request = event.request or new_request()
        watermark = self._pipeline.watermark
        outcome = None
        watermark.expect(request)
        waiting = self._io.submit(self.reader.outcome, request, self.timeout)
        try:
            await self.put(event)
            outcome = await self._io.result(waiting)
        finally:
            waiting.cancel()
            if outcome is None:
                self._io.soon(watermark.abandon, request)
            else:
                watermark.decided(request)
        if outcome is None:
            await self.call(self.catch_up, 0.0)  # says how far behind the projection is
            raise ProjectionBehind(f"the outcome of a {type(event).__name__} could not be read in {self.timeout:g} s")
        if outcome.reason is not None:
            raise (ItemNotFound if outcome.uid is None else InvalidValue)(outcome.reason)
        return outcome

    async def take(self, collection: str, filter_: Filter) -> Candidate | None:
        """What may be claimed, to be given `back`: see `Candidates`.

        Raises:
            ProtocolClosed: see `check_open`.
            Offline: the protocol works without servers.
        """
        self.check_open()
        self.check_online()
        return await self.call(self._claims.take, collection, filter_)

    def back(self, candidate: Candidate, *, lost: bool) -> None:
        """It is not being claimed any more."""
        self._io.soon(self._claims.back, candidate, lost)

    async def _candidates(self, collection: str, filter_: Filter, limit: int) -> list[Candidate]:
        await self.catch_up(self.timeout)
        return await self.reader.versions(collection, filter_, limit)

    # --- Waiting and looking up

    async def catch_up(self, timeout: float) -> None:
        """In the I/O thread: return when the projection shows all that was logged before the call.

        What a command brings it shows when that returns, so commands that others wait for are not waited for here.

        Raises:
            CommitTimeout: Kafka has not acknowledged it in time.
            ProjectionBehind: the consumer has not folded it in time.
        """
        deadline = time.monotonic() + timeout
        self.outbox.seal()
        offsets = await self._pipeline.wait_logged(timeout)
        await self.reader.folded(offsets, max(0.0, deadline - time.monotonic()))

    async def read(self, read: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Read the projection, by a method of `Reader`, as soon as it shows all that was logged before the call.

        Raises:
            ProtocolClosed: see `check_open`.
            Offline: the protocol works without servers.
            CommitTimeout: Kafka has not acknowledged it in time.
            ProjectionBehind: the consumer has not folded it in time.
        """

        async def caught_up() -> T:
            await self.catch_up(self.timeout)
            return await read(self.reader, *args)

        self.check_open()
        self.check_online()
        return await self.call(caught_up)

    async def flush(self, timeout: float) -> None:
        """In the I/O thread: return when Kafka has all that was logged before the call.

        Raises:
            CommitTimeout: it has not acknowledged it in time.
        """
        self.outbox.seal()
        await self._pipeline.wait_acked(timeout)

    async def secure(self, timeout: float) -> None:
        """In the I/O thread: return when all that was logged before the call is in Kafka or on disk.

        Raises:
            CommitTimeout: it is not in time.
            SpoolError: there is no spool, or the disk does not say that it has it.
        """
        self.outbox.seal()
        await self._pipeline.wait_secured(timeout)

    def known(self, collection: Collection, *uids: str) -> None:
        """Remember that these exist."""
        self._known[collection].update(uids)

    def knows(self, collection: Collection, uid: str) -> bool:
        """Whether there is one of that uid for certain; that calls can be made is checked too."""
        self.check_open()
        return uid in self._known[collection]

    async def require(self, collection: Collection, uid: str, message: str, *, made: bool = True) -> None:
        """Check that there is one of that uid.

        Args:
            collection: Where.
            uid: Its uid.
            message: What to say if there is none.
            made: Whether it looks like one that was created: without servers nothing else can be known.

        Raises:
            ItemNotFound: with the message.
        """
        if self.knows(collection, uid):
            return
        try:
            exists = await self.call(self.reader.exists, collection, uid) if self.connected else made
        except MongoUnavailable as error:
            # Logging does not hang on MongoDB: what belongs to nothing becomes a dead letter.
            self.warn_once(f"trialstream: what is logged to could not be looked up and is taken as existing: {error}")
        else:
            if not exists:
                raise ItemNotFound(message)
        self._known[collection].add(uid)


def new_request() -> str:
    """An id that no other request has."""
    return secrets.token_hex(12)


def _report(ended: concurrent.futures.Future[None]) -> None:
    """Say it where what runs all the time has ended by a fault: nothing would be sent any more."""
    if not ended.cancelled() and (error := ended.exception()) is not None:
        log.critical("trialstream has stopped sending by a fault of its own; please report this", exc_info=error)
