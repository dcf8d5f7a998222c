"""The sender: from the outbox to Kafka, in order, until it is acknowledged.

Invariant: of each partition one batch is in flight at most, and it is the first that waits (go-back-N with N = 1), so
what Kafka has of a writer is a prefix of what it queued, with repetitions at most; the fold skips these by their `seq`.
aiokafka's idempotence stays off: it ties order and completeness to a broker session whose loss it does not survive in
bounded time (docs/architecture.md has the figures).
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import anyio
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError
from anyio.abc import TaskGroup
from trialstream_schemas.codec import encode
from trialstream_schemas.errors import CommitTimeout, SchemaError
from trialstream_schemas.events import TrialEvent

from trialstream.config import Config
from trialstream.outbox import Entry, Outbox, Route

__all__ = ["Sender"]

log = logging.getLogger("trialstream")

# Just under Kafka's default of 1 MiB for a batch (message.max.bytes), with room for the batch's own header.
_BATCH_BYTES = 1_000_000
_BATCH_ENTRIES = 2000
# One attempt; then the batch is sent again over a new connection.
_ATTEMPT_SECONDS = 8.0
_BACKOFF_SECONDS = (0.1, 0.2, 0.5, 1.0)
_STOP_SECONDS = 2.0


class Sender:
    """Sends what an outbox holds. Lives in one event loop; `wake` may be called from any thread.

    Args:
        config: Where Kafka is.
        loop: The event loop that it runs in.
    """

    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        self._config = config
        self._loop = loop
        self._wake = asyncio.Event()
        self._outbox: Outbox | None = None
        self._producer: AIOKafkaProducer | None = None
        self._connecting = anyio.Lock()
        self._draining: set[Route] = set()
        self._progress = anyio.Event()
        # Of each partition, the offset behind the last event of ours that Kafka acknowledged.
        self.offsets: dict[Route, int] = {}
        # The last reason why something could not be sent, for the messages of time-outs.
        self._trouble = ""

    def wake(self) -> None:
        """Make it look into the outbox; from any thread."""
        self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self, outbox: Outbox) -> None:
        """Send until cancelled."""
        self._outbox = outbox
        try:
            async with anyio.create_task_group() as tasks:
                while True:
                    self._wake.clear()
                    upcoming = outbox.seal(due=time.monotonic())
                    self._start_drains(tasks)
                    with anyio.move_on_after(upcoming - time.monotonic()):
                        await self._wake.wait()
        finally:
            await self._drop_producer(self._producer)

    async def flush(self, timeout: float) -> None:
        """Return when Kafka has acknowledged all that was logged before the call.

        Raises:
            CommitTimeout: it has not in that many seconds; the events stay queued.
        """
        assert self._outbox is not None
        self._outbox.seal()
        self._wake.set()
        marks = self._outbox.marks()
        with anyio.move_on_after(timeout):
            while not self._outbox.reached(marks):
                await self._progress.wait()
            return
        queued = self._outbox.statistics().queued
        raise CommitTimeout(
            f"Kafka at {self._config.kafka} has not acknowledged {queued} events in {timeout:g} s; they stay queued"
            + (f" (last trouble: {self._trouble})" if self._trouble else "")
        )

    async def room(self) -> None:
        """Return when entries have left the outbox."""
        await self._progress.wait()

    def _start_drains(self, tasks: TaskGroup) -> None:
        assert self._outbox is not None
        for route in self._outbox.routes():
            if route not in self._draining:
                self._draining.add(route)
                tasks.start_soon(self._drain, route)

    async def _drain(self, route: Route) -> None:
        """Send what waits for a partition, batch after batch."""
        assert self._outbox is not None
        failures = 0
        try:
            while entries := self._encoded(route):
                try:
                    sent, offset = await self._send(route, entries)
                except (KafkaError, TimeoutError, OSError) as error:
                    self._trouble = f"{type(error).__name__}: {error}"
                    log.debug("sending to %s failed: %s", route, self._trouble)
                    await anyio.sleep(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)])
                    failures += 1
                    continue
                failures = 0
                self._outbox.acked(route, sent)
                self.offsets[route] = offset
                self._made_progress()
        finally:
            self._draining.discard(route)
            # Something may have been queued between the last look and here.
            self._wake.set()

    def _made_progress(self) -> None:
        self._progress.set()
        self._progress = anyio.Event()

    def _encoded(self, route: Route) -> list[Entry]:
        """The first entries that wait, encoded, as many as a batch may take; one that cannot be encoded is given up."""
        assert self._outbox is not None
        while True:
            ready: list[Entry] = []
            total = 0
            for entry in self._outbox.peek(route, _BATCH_ENTRIES):
                if entry.encoded is None:
                    try:
                        entry.encoded = encode(entry.event)
                    except SchemaError:
                        log.exception("an event cannot be encoded and is lost; please report this")
                        break
                total += len(entry.encoded)
                ready.append(entry)
                if total >= _BATCH_BYTES:
                    return ready
            else:
                return ready
            if ready:
                return ready
            self._outbox.discard(route)
            self._made_progress()

    async def _send(self, route: Route, entries: list[Entry]) -> tuple[int, int]:
        """Send what fits one batch; return how many entries that is, and the offset behind the last."""
        producer = await self._connected()
        batch = producer.create_batch()
        count = 0
        for entry in entries:
            key = entry.event.hash.encode() if isinstance(entry.event, TrialEvent) else entry.event.subject.encode()
            if batch.append(key=key, value=entry.encoded, timestamp=None) is None:
                break
            count += 1
        try:
            with anyio.fail_after(_ATTEMPT_SECONDS):
                future = await producer.send_batch(batch, route.topic, partition=route.partition)
                # Not awaited itself: a producer that is stopped may cancel it, which must not look like our own
                # cancellation.
                await asyncio.wait([future])
            if future.cancelled():
                raise KafkaConnectionError("the producer was stopped")
            metadata: Any = future.result()
        except BaseException:
            # What is in flight may arrive or not; over a new connection nothing old can follow what is sent again.
            await self._drop_producer(producer)
            raise
        return count, metadata.offset + count

    async def _connected(self) -> AIOKafkaProducer:
        async with self._connecting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **{**self._config.kafka_client(), "request_timeout_ms": int(_ATTEMPT_SECONDS * 1000)},
                    acks="all",
                    enable_idempotence=False,
                    max_batch_size=_BATCH_BYTES,
                    max_request_size=2 * _BATCH_BYTES,
                )
                try:
                    with anyio.fail_after(_ATTEMPT_SECONDS):
                        await producer.start()
                except BaseException:
                    await _stop(producer)
                    raise
                self._producer = producer
            return self._producer

    async def _drop_producer(self, producer: AIOKafkaProducer | None) -> None:
        if producer is not None and producer is self._producer:
            self._producer = None
            await _stop(producer)


async def _stop(producer: AIOKafkaProducer) -> None:
    """Stop a producer that may be unable to: aiokafka waits for batches that nobody takes."""
    with anyio.move_on_after(_STOP_SECONDS, shield=True):
        await producer.stop()
