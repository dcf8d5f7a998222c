"""One open connection: the I/O thread with what runs in it, and the ways in which calls wait for it."""

from __future__ import annotations

import concurrent.futures
import logging
import os
import secrets
import time
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeVar

import anyio
from trialstream_schemas.errors import (
    CommitTimeout,
    InvalidValue,
    ItemNotFound,
    KafkaUnavailable,
    MongoUnavailable,
    ProjectionBehind,
    ProtocolClosed,
)
from trialstream_schemas.events import ChronoStarted, Heartbeat, SubjectEvent, TrialCreated, TrialEvent

from trialstream.chronos import Chronos, OpenChrono
from trialstream.config import Config
from trialstream.io_thread import IoThread
from trialstream.outbox import Full, Outbox, Route
from trialstream.reader import Outcome, Reader
from trialstream.sender import Sender
from trialstream.topics import ensure_topics, partition_of
from trialstream.updates import now

__all__ = ["Session"]

log = logging.getLogger("trialstream")
T = TypeVar("T")
Collection = Literal["trials", "groups", "projects"]

# A quarter of a million rows of four metrics wait in so much, as Python objects.
_OUTBOX_BYTES = 64 * 1024 * 1024
# A frame gathers what comes within; longer would be seen as delay by who watches a run.
_LINGER_SECONDS = 0.05
# A trial whose last_seen is a few of these old is not running any more.
_HEARTBEAT_SECONDS = 10.0
# A chrono that runs longer is announced to the log, so that a run that hangs shows where.
_ANNOUNCE_SECONDS = 1.0
# How long a log call waits for room in a full outbox before its event is dropped and counted.
_ROOM_SECONDS = 5.0
# What is not sent so many seconds after the protocol is left is reported and given up.
_CLOSE_SECONDS = 10.0
_STOP_SECONDS = 5.0


class Session:
    """See the module.

    Args:
        config: Where the servers are.
        timeout: Seconds that any wait takes at most.

    Attributes:
        writer: Id of this protocol and process, as it stands in `Trial.writers`.
        timeout: As given.
        chronos: The open chronos.
        started: When each trial was started that runs here, by uid, on the clock `time.perf_counter`.
        outbox: What waits to be sent.
        reader: The projection; its coroutines run in the I/O thread: `call` them.
        sender: From the outbox to Kafka; likewise.
    """

    outbox: Outbox
    reader: Reader
    sender: Sender

    def __init__(self, config: Config, timeout: float) -> None:
        self._config = config
        self.timeout = timeout
        self.writer = secrets.token_hex(8)
        self.chronos = Chronos()
        self.started: dict[str, float] = {}
        self._state: Literal["new", "open", "closed"] = "new"
        self._pid = os.getpid()
        self._partitions = 0
        # Uids that are known to exist, so that only the first call of each asks.
        self._known: dict[Collection, set[str]] = {"trials": set(), "groups": set(), "projects": set()}
        self._warned: set[str] = set()

    # --- Opening and closing

    async def open(self) -> None:
        """Connect, and start what runs all the time.

        Raises:
            KafkaUnavailable: no broker answers.
            LogMismatch: the topics are not what they were.
            ProtocolClosed: it was opened before.
        """
        if self._state != "new":
            raise ProtocolClosed("a protocol can be entered once: make another with trialstream.connect()")
        self._io = IoThread(f"trialstream-{self.writer}")
        try:
            await self._io.call(self._open)
        except BaseException:
            self._io.stop()
            raise
        self._state = "open"

    async def _open(self) -> None:
        with anyio.move_on_after(self.timeout) as deadline:
            self._partitions = (await ensure_topics(self._config)).partitions
        if deadline.cancelled_caught:
            raise KafkaUnavailable(
                f"Kafka at {self._config.kafka} did not answer in {self.timeout:g} s; start one with `trialstream up`, "
                "or set TRIALSTREAM_KAFKA"
            )
        self.sender = Sender(self._config, self._io.loop)
        self.reader = Reader(self._config, self.timeout)
        self.outbox = Outbox(
            self.writer, self._route, self.sender.wake, max_bytes=_OUTBOX_BYTES, linger=_LINGER_SECONDS
        )
        self._stopped = anyio.Event()
        self._io.submit(self._run).add_done_callback(_report)

    async def _run(self) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                self._running = tasks.cancel_scope
                for each in (self._beat, self._announce, self.reader.poll_outcomes):
                    tasks.start_soon(each)
                await self.sender.run(self.outbox)
        finally:
            self._stopped.set()

    async def close(self) -> None:
        """Send what is left, within a deadline, and let go of the connections; warn of what was not sent."""
        if self._state != "open" or self._pid != os.getpid():  # a forked child has no I/O thread, and nothing to send
            return
        self._state = "closed"
        try:
            with anyio.CancelScope(shield=True):  # a cancelled run still gets its last events out
                await self._io.call(self._close)
        except CommitTimeout as error:
            warnings.warn(f"trialstream: closed with events that were not sent: {error}", RuntimeWarning, stacklevel=3)
        finally:
            self._io.stop()

    async def _close(self) -> None:
        try:
            await self.sender.flush(min(self.timeout, _CLOSE_SECONDS))
        finally:
            self._running.cancel()
            with anyio.move_on_after(_STOP_SECONDS):  # its connections close meanwhile
                await self._stopped.wait()
            self.reader.close()

    def check_open(self) -> None:
        """Check that calls can be made.

        Raises:
            ProtocolClosed: it was not opened, or closed, or opened in another process.
        """
        if self._state != "open":
            raise ProtocolClosed(
                "the protocol is not open: use it inside `async with trialstream.connect() as protocol:`"
                if self._state == "new"
                else "the protocol is closed: log inside its `async with` block"
            )
        if self._pid != os.getpid():
            raise ProtocolClosed("the protocol was opened in a parent process: call trialstream.connect() here")

    async def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run a coroutine function in the I/O thread and return what it returns."""
        self.check_open()
        return await self._io.call(function, *args)

    def _route(self, event: SubjectEvent) -> Route:
        if isinstance(event, TrialEvent):
            return Route(self._config.trials_topic, partition_of(event.hash.encode(), self._partitions))
        return Route(self._config.registry_topic, 0)

    # --- In the background

    async def _beat(self) -> None:
        while True:
            await anyio.sleep(_HEARTBEAT_SECONDS)
            for uid in list(self.started):
                try:
                    self.outbox.put(Heartbeat(trial=uid, writer=self.writer, time=now()))
                except Full:  # then others of its events wait, and tell as much when they arrive
                    log.debug("no room for a heartbeat")

    async def _announce(self) -> None:
        while True:
            await anyio.sleep(_ANNOUNCE_SECONDS)
            try:
                self.chronos.announce(time.perf_counter() - _ANNOUNCE_SECONDS, self._announce_one)
            except Full:
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
        """Queue an event; wait for room if there is none, and drop it, counted, if there is none in time."""
        try:
            self.outbox.put(event)
        except Full:
            await self.put_later(event.subject, lambda: self.outbox.put(event))

    async def put_later(self, uid: str, add: Callable[[], None]) -> None:
        """Try again to add something of a subject that found the outbox full: see `put`."""
        deadline = time.monotonic() + _ROOM_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            await self.call(self._room, left)
            try:
                return add()
            except Full:
                continue
        self.outbox.drop(uid)
        self._warn_once(
            f"trialstream: Kafka at {self._config.kafka} takes no events and {_OUTBOX_BYTES >> 20} MiB wait: new "
            "events are dropped and counted in lost_events"
        )
        return None

    async def _room(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self.sender.room()

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, RuntimeWarning, stacklevel=4)

    async def decide(self, event: SubjectEvent) -> Outcome:
        """Send a request and return what the fold decided.

        Raises:
            ItemNotFound, InvalidValue: it refused.
            CommitTimeout: Kafka has not acknowledged the event in time.
            ProjectionBehind: the consumer has not folded it in time.
        """
        self.check_open()
        event.request = secrets.token_hex(12)
        if isinstance(event, TrialCreated):
            event.trial = f"{event.hash}~{event.request}"
        waiting = self._io.submit(self.reader.outcome, event.request, self.timeout)
        try:
            await self.put(event)
            outcome = await self._io.result(waiting)
        finally:
            waiting.cancel()
        if outcome is None:
            await self.call(self.catch_up, 0.0)  # says how far behind the projection is
            raise ProjectionBehind(f"the outcome of a {type(event).__name__} could not be read in {self.timeout:g} s")
        if outcome["reason"] is not None:
            raise (ItemNotFound if outcome["uid"] is None else InvalidValue)(outcome["reason"])
        return outcome

    # --- Waiting and looking up

    async def catch_up(self, timeout: float) -> None:
        """In the I/O thread: return when the projection shows all that was logged before the call.

        Raises:
            CommitTimeout: Kafka has not acknowledged it in time.
            ProjectionBehind: the consumer has not folded it in time.
        """
        deadline = time.monotonic() + timeout
        await self.sender.flush(timeout)
        await self.reader.folded(self.sender.offsets, max(0.0, deadline - time.monotonic()))

    def known(self, collection: Collection, *uids: str) -> None:
        """Remember that these exist."""
        self._known[collection].update(uids)

    def knows(self, collection: Collection, uid: str) -> bool:
        """Whether there is one of that uid for certain; that calls can be made is checked too."""
        self.check_open()
        return uid in self._known[collection]

    async def require(self, collection: Collection, uid: str, message: str) -> None:
        """Check that there is one of that uid.

        Raises:
            ItemNotFound: with the message.
        """
        if self.knows(collection, uid):
            return
        try:
            exists = await self.call(self.reader.exists, collection, uid)
        except MongoUnavailable as error:
            # Logging does not hang on MongoDB: what belongs to nothing becomes a dead letter.
            self._warn_once(f"trialstream: what is logged to could not be looked up and is taken as existing: {error}")
        else:
            if not exists:
                raise ItemNotFound(message)
        self._known[collection].add(uid)


def _report(ended: concurrent.futures.Future[None]) -> None:
    """Say it where what runs all the time has ended by a fault: nothing would be sent any more."""
    if not ended.cancelled() and (error := ended.exception()) is not None:
        log.critical("trialstream has stopped sending by a fault of its own; please report this", exc_info=error)
