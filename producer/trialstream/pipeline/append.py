"""Appends events that were made elsewhere, with writers, numbers and times of their own: for imports of histories."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import anyio
from trialstream_schemas.errors import InvalidValue, KafkaUnavailable
from trialstream_schemas.wire.events import SubjectEvent

from trialstream.config import Config
from trialstream.pipeline.entry import Entry
from trialstream.pipeline.pipeline import Pipeline

__all__ = ["Appender"]

logger = logging.getLogger("trialstream")

# Memory of events that are not acknowledged, bytes; above it, `put` waits.
_WAITING_BYTES = 16 * 1024 * 1024
# Kafka counts as unavailable when it has acknowledged nothing for this long.
_STALL_SECONDS = 30.0
_POLL_SECONDS = 0.05
_FINISH_SECONDS = 10.0


class Appender:
    """An async context manager; events are sent in their order, and nothing is written to a spool.

    Leaving the block does not wait for events that are not acknowledged: call `wait_acked` before.

    Args:
        config: Where Kafka is.

    Attributes:
        failed: Whether a call has raised an error: nothing more can be sent.
    """

    def __init__(self, config: Config) -> None:
        self.failed = False
        self._config = config
        self._pipeline: Pipeline
        self._task: asyncio.Future[None]

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        warn = lambda message: logger.warning("%s", message)  # noqa: E731
        self._pipeline = Pipeline(self._config, loop, None, warn, halts=True)
        await self._pipeline.connect(_STALL_SECONDS)
        self._task = asyncio.ensure_future(self._pipeline.run(lambda _: math.inf))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pipeline.finish(_FINISH_SECONDS)
        await asyncio.wait([self._task])

    async def put(self, event: SubjectEvent, size: int) -> None:
        """Queue an event, which has a `request`, or a `seq`; wait while too many events are not acknowledged.

        Args:
            event: The event.
            size: Its estimated memory, bytes.

        Raises:
            KafkaUnavailable: Kafka has acknowledged nothing for 30 s.
            InvalidValue: An event is too large for its topic.
        """
        self._pipeline.backlog.put(Entry.of(event, size))
        if self._pipeline.backlog.bytes > _WAITING_BYTES:
            await self._wait(lambda: self._pipeline.backlog.bytes <= _WAITING_BYTES // 2)

    async def wait_acked(self) -> None:
        """Return when Kafka has acknowledged all events; errors as for `put`."""
        backlog = self._pipeline.backlog
        await self._wait(lambda: backlog.is_acked(backlog.next_number))

    async def _wait(self, done: Callable[[], bool]) -> None:
        began = time.monotonic()
        while not done():
            self.failed = True  # cleared below, unless one of these raises
            if self._pipeline.refusals.halted:
                raise InvalidValue(f"{self._pipeline.refusals.halted}: raise max.message.bytes, and run it again")
            if self._task.done():
                self._task.result()
            if right := self._pipeline.missing_right:
                raise KafkaUnavailable(f"Kafka at {self._config.kafka} refuses events: {right}")
            if time.monotonic() - max(began, self._pipeline.progressed) > _STALL_SECONDS:
                raise KafkaUnavailable(
                    f"Kafka at {self._config.kafka} has taken nothing for {_STALL_SECONDS:g} s: run it again"
                )
            self.failed = False
            await anyio.sleep(_POLL_SECONDS)
