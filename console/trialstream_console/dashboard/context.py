"""The state that all requests of a process share: the protocol that reads, the servers, the settings."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

import anyio
import structlog
from trialstream.config import Config
from trialstream.event_log.topics import trial_ends
from trialstream.reading.read_only import ReadOnlyProtocol
from trialstream.sync import SyncProtocol
from trialstream_schemas.errors import KafkaUnavailable, MongoUnavailable, QueryTimeout, TrialStreamError
from trialstream_schemas.model.trial import Trial

from trialstream_console.dashboard.feed import Feed
from trialstream_console.dashboard.histories import Histories
from trialstream_console.dashboard.limits import LiveConnections
from trialstream_console.dashboard.refusals import Refusal
from trialstream_console.dashboard.settings import Settings

__all__ = ["Context"]

T = TypeVar("T")

_TIMEOUT = 20.0
_PROBE_SECONDS = 2.0
_KAFKA_PROBE_SECONDS = 10.0
# Histories are decoded in threads beside the event loop; more of them would only take the interpreter from each other.
_THREADS = 4
# Threads that make answers of what was read: they wait for nothing, so a short answer is not behind a long read.
_ANSWERS = 4
# Live connections of a process, and of one client: a browser and a test of 200 pages are one.
_LIVE, _LIVE_PER_CLIENT = 1000, 250


class Context:
    """The state that all requests of a process share.

    Args:
        settings: The settings of the dashboard.
        config: Where Kafka and MongoDB are, and which projection is read.

    Attributes:
        settings: As the argument.
        config: As the argument.
        mongo: State of MongoDB: `ok`, or a message.
        feed: What `/live` sends.
        live: Counts the connections of `/live`.
        histories: The histories that were read last.
        kafka: State of Kafka: `ok`, `off` if the dashboard does not use it, or a message.
        resources: What is closed when the server ends, beside the protocol that reads.
    """

    def __init__(self, settings: Settings, config: Config) -> None:
        self.settings = settings
        self.config = config
        self.histories = Histories(settings.cache_bytes)
        self.feed = Feed(config, self.protocol, self.state)
        self.live = LiveConnections(_LIVE, _LIVE_PER_CLIENT)
        self.mongo = "ok"
        self.kafka = "off" if config.read_only else "ok"
        self.resources = contextlib.AsyncExitStack()
        self._protocol: ReadOnlyProtocol | None = None
        self._opening = asyncio.Lock()
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._answers = anyio.CapacityLimiter(_ANSWERS)
        self._probe_now = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch the servers while the block runs, and close the connections at its end."""
        probes = [asyncio.create_task(self._probe_mongo()), asyncio.create_task(self.feed.run())]
        if self.kafka != "off":
            probes.append(asyncio.create_task(self._probe_kafka()))
        try:
            yield
        finally:
            for each in probes:
                each.cancel()
            await asyncio.gather(*probes, return_exceptions=True)
            await self.resources.aclose()
            if self._protocol is not None:
                await self._protocol.close()

    async def protocol(self) -> ReadOnlyProtocol:
        """Return the protocol that reads, opened.

        Raises:
            Refusal: MongoDB is away.
            ItemNotFound: There is no projection of the configured name, or it is not finished.
            MongoUnavailable: MongoDB does not answer.
        """
        if self.mongo != "ok":
            raise Refusal("mongo_away", self.mongo, retry_after=_PROBE_SECONDS)
        async with self._opening:
            if self._protocol is None:
                self._protocol = await self._opened()
        return self._protocol

    async def trial(self, uid: str, fields: Sequence[str] | None = None) -> Trial:
        """Read a trial.

        Args:
            uid: Uid of the trial.
            fields: The fields to read, as `fetch_trials` takes them; None for all.

        Raises:
            Refusal: There is no such trial, or MongoDB is away.
        """
        protocol = await self.protocol()
        found = await protocol.fetch_trials({"uid": uid}, fields=fields, limit=1)
        if not found:
            raise Refusal("not_found", f"there is no trial {uid}", place="uid")
        return found[0]

    async def _opened(self) -> ReadOnlyProtocol:
        protocol = ReadOnlyProtocol(self.config, timeout=_TIMEOUT)
        await protocol.open()
        return protocol

    async def in_thread(self, function: Callable[[SyncProtocol], T]) -> T:
        """Run a function that reads and decodes for long, in one of a few threads.

        Args:
            function: Takes the protocol, whose methods block.

        Returns:
            Its result.
        """
        protocol = SyncProtocol(await self.protocol())
        return await anyio.to_thread.run_sync(function, protocol, limiter=self._threads)

    async def compute(self, function: Callable[..., T], *args: Any) -> T:
        """Run a function that only computes in one of a few threads, so that the event loop goes on meanwhile.

        What takes longer than a few milliseconds for some trials of a user belongs here: parsing, conversion, encoding.

        Args:
            function: The function.
            *args: Its arguments.

        Returns:
            Its result.
        """
        return await anyio.to_thread.run_sync(function, *args, limiter=self._answers)

    def suspect_mongo(self) -> None:
        """Look at MongoDB at once, since a request has failed."""
        self._probe_now.set()

    @property
    def following(self) -> str:
        """Whether pages follow changes: `ok` also while MongoDB is away, or why they do not."""
        return self.feed.trouble if self.mongo == "ok" and self.feed.trouble else "ok"

    def state(self) -> dict[str, str]:
        """The states of the servers, and whether pages follow changes."""
        return {"mongo": self.mongo, "kafka": self.kafka, "live": self.following}

    def _set_state(self, **state: str) -> None:
        if any(getattr(self, name) != each for name, each in state.items()):
            vars(self).update(state)
            self.feed.send_state()
            structlog.get_logger("trialstream_dashboard").info("servers", **self.state())

    async def _probe_mongo(self) -> None:
        while True:
            self._probe_now.clear()
            try:
                async with self._opening:
                    if self._protocol is None:
                        self._protocol = await self._opened()
                await self._protocol.fetch_values(["uid"], {"uid": ""}, limit=1)
                self._set_state(mongo="ok")
            except QueryTimeout:  # of a read that takes no time: MongoDB hangs
                self._set_state(mongo=f"MongoDB has not answered for {_TIMEOUT:g} s")
            except MongoUnavailable as error:
                self._set_state(mongo=str(error))
            except TrialStreamError as error:  # a projection that does not exist: its error is that of each request
                self._set_state(mongo="ok")
                structlog.get_logger("trialstream_dashboard").warning("not readable", reason=str(error))
            with anyio.move_on_after(_PROBE_SECONDS):
                await self._probe_now.wait()

    async def _probe_kafka(self) -> None:
        while True:
            try:
                await trial_ends(self.config)
                self._set_state(kafka="ok")
            except KafkaUnavailable as error:
                self._set_state(kafka=str(error))
            await anyio.sleep(_KAFKA_PROBE_SECONDS if self.kafka == "ok" else _PROBE_SECONDS)

    def about(self) -> dict[str, Any]:
        """Return the answer of `/about`, without the version."""
        return {
            "prefix": self.config.prefix,
            "projection": self.config.projection or None,
            "writes": self.settings.writes and not self.config.projection,
            **self.state(),
            "time": time.time_ns() // 1000,
        }
