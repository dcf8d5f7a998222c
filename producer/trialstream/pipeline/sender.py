"""The sender: from the backlog to Kafka, in order, until it is acknowledged.

Invariant: of each partition one batch is in flight at most, and it is the first that waits (go-back-N with N = 1), so
what Kafka has of a writer is a prefix of what it queued, with repetitions at most; the fold skips these by their `seq`.
aiokafka's idempotence stays off: it ties order and completeness to a broker session whose loss it does not survive in
bounded time (docs/architecture.md has the figures).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import anyio
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError
from trialstream_schemas.errors import CommitTimeout

from trialstream.config import Config
from trialstream.log.topics import Route
from trialstream.pipeline.backlog import Backlog, Entry

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
    """Sends what a backlog's queues hold. Lives in one event loop; `wake` may be called from any thread.

    Args:
        config: Where Kafka is.
        loop: The event loop that it runs in.

    Attributes:
        backlog: What is sent; new entries wake the sender.
        offsets: Of each partition, the offset behind the last event of ours that Kafka acknowledged.
        logged: The same without those whose outcomes are awaited.
        progressed: When entries last left the memory, on the monotonic clock.
    """

    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        self._config = config
        self._loop = loop
        self._wake = asyncio.Event()
        self.backlog = Backlog(self.wake, direct=False)
        self._producer: AIOKafkaProducer | None = None
        self._connecting = anyio.Lock()
        self._draining: set[Route] = set()
        self._progress = anyio.Event()
        self.offsets: dict[Route, int] = {}
        self.logged: dict[Route, int] = {}
        self.progressed = 0.0
        # The last reason why something could not be sent, for the messages of time-outs.
        self._trouble = ""

    def wake(self) -> None:
        """Make it look into the outbox; from any thread."""
        self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self, seal: Callable[[float], float]) -> None:
        """Send until cancelled.

        Args:
            seal: Queues what is due by a monotonic time, and returns when more will be.
        """
        try:
            async with anyio.create_task_group() as tasks:
                while True:
                    self._wake.clear()
                    upcoming = seal(time.monotonic())
                    for route in self.backlog.routes():
                        if route not in self._draining:
                            self._draining.add(route)
                            tasks.start_soon(self._drain, route)
                    with anyio.move_on_after(upcoming - time.monotonic()):
                        await self._wake.wait()
        finally:
            await self._drop_producer(self._producer)

    async def flush(self, timeout: float, mark: int | None = None) -> None:
        """Return when Kafka has acknowledged all that was queued before the call, or up to a mark.

        Raises:
            CommitTimeout: it has not in that many seconds; the events stay queued.
        """
        if mark is None:
            mark = self.backlog.mark()
        with anyio.move_on_after(timeout):
            while not self.backlog.reached(mark):
                await self._progress.wait()
            return
        raise CommitTimeout(
            f"Kafka at {self._config.kafka} has not acknowledged {self.backlog.statistics().queued} events in "
            f"{timeout:g} s; they stay queued" + (f" (last trouble: {self._trouble})" if self._trouble else "")
        )

    async def progress(self) -> None:
        """Return when entries have left the memory."""
        await self._progress.wait()

    def abandon(self, request: str) -> None:
        """Nobody waits for a request any more, and it is not decided: whoever reads next waits for all there is."""
        self.backlog.abandon(request)
        self.logged.update(self.offsets)

    async def _drain(self, route: Route) -> None:
        """Send what waits for a partition, batch after batch."""
        failures = 0
        try:
            while entries := self._encoded(route):
                self.backlog.sending(route, len(entries))
                try:
                    sent, offset = await self._send(route, entries)
                except (KafkaError, TimeoutError, OSError) as error:
                    self._trouble = f"{type(error).__name__}: {error}"
                    log.debug("sending to %s failed: %s", route, self._trouble)
                    await anyio.sleep(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)])
                    failures += 1
                    continue
                failures = 0
                self.backlog.acked(route, sent)
                self.offsets[route] = offset
                for behind, entry in enumerate(reversed(entries[:sent])):
                    if entry.request not in self.backlog.awaited:
                        self.logged[route] = offset - behind
                        break
                self.made_progress()
        finally:
            # What was queued since the last look has woken `run`, which runs after this.
            self._draining.discard(route)

    def made_progress(self) -> None:
        """Tell who waits for room or for acknowledgements to look."""
        self.progressed = time.monotonic()
        self._progress.set()
        self._progress = anyio.Event()

    def _encoded(self, route: Route) -> list[Entry]:
        """The first entries that wait, encoded, as many as a batch may take; one that cannot be encoded is given up."""
        while True:
            ready: list[Entry] = []
            total = 0
            for entry in self.backlog.peek(route, _BATCH_ENTRIES):
                encoded = entry.wire()
                if not encoded:
                    break
                total += len(encoded)
                ready.append(entry)
                if total >= _BATCH_BYTES:
                    return ready
            else:
                return ready
            if ready:
                return ready
            self.backlog.discard(route)
            self.made_progress()

    async def _send(self, route: Route, entries: list[Entry]) -> tuple[int, int]:
        """Send what fits one batch; return how many entries that is, and the offset behind the last."""
        producer = await self._connected()
        batch = producer.create_batch()
        count = 0
        for entry in entries:
            if batch.append(key=entry.key, value=entry.encoded, timestamp=None) is None:
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
    with anyio.move_on_after(_STOP_SECONDS, shield=True) as stopping:
        await producer.stop()
    if stopping.cancelled_caught:  # then it goes on sending, over connections that stay open
        # What `stop` has not got to; together, since requests in flight, which the first waits for, end by the second.
        rest = producer._sender.close(), producer.client.close()  # noqa: SLF001
        with anyio.move_on_after(_STOP_SECONDS, shield=True):
            await asyncio.wait([asyncio.ensure_future(each) for each in rest])
