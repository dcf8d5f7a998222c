"""The sender: sends the queues of the backlog to Kafka, in order, until each event is acknowledged.

Invariant: at most one batch of each partition is in flight, and it holds the oldest entries of the partition's queue
(go-back-N with N = 1). So each partition of the log holds a prefix of the events that the writer queued for it,
possibly with repetitions, which the fold skips by their `seq`, and without the events that Kafka has refused.

An event is refused only if its batch, which holds nothing else, is larger than its topic takes. Each other error
concerns the connection, the brokers or the topic (an admin may mend missing rights, an unsupported format, too few
replicas), so the events wait, in order, and are sent again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Any

import anyio
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    BrokerResponseError,
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from trialstream_schemas.errors import CommitTimeout, LogMismatch, TrialStreamError
from trialstream_schemas.messages import counted

from trialstream.config import Config
from trialstream.event_log.clients import BATCH_BYTES, batch_producer, kafka_errors, stop_producer
from trialstream.event_log.diagnosis import missing_right
from trialstream.event_log.identity import check_identity
from trialstream.event_log.topics import Route
from trialstream.pipeline.backlog import Backlog
from trialstream.pipeline.entry import Entry
from trialstream.pipeline.refusals import Refusals
from trialstream.pipeline.signals import ProgressSignal, WakeUp

__all__ = ["Sender"]

logger = logging.getLogger("trialstream")

_BATCH_ENTRIES = 2000
# Timeout of one attempt to send a batch, which is then sent again over a new connection.
_ATTEMPT_SECONDS = 8.0
# Time within which aiokafka repeats the requests of an attempt. It is shorter than an attempt, so that the attempt ends
# with the last error of the broker, such as too few replicas, and not with a timeout.
_REQUEST_SECONDS = 7.0
_BACKOFF_SECONDS = (0.1, 0.2, 0.5, 1.0)
_STOP_SECONDS = 2.0
# Time between two checks of the log's identity, if no offset gives a reason for one: topics cannot be recreated, and
# filled up to an offset that was acknowledged before, in this time.
_CHECK_SECONDS = 1.0
# Maximum duration of a check, and the pause after one that took longer: reads also work while Kafka hangs.
_ANSWER_SECONDS = 1.0
_UNCHECKED_SECONDS = 10.0
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
# The broker has answered, and has not added the batch to the log.
_NOT_TAKEN = (*_TOO_LARGE, TopicAuthorizationFailedError)


class Sender:
    """Sends the entries in the queues of a backlog. Lives in one event loop.

    Args:
        config: Where Kafka is.
        backlog: The entries.
        wake_up: Set when there are entries to send or frames to seal.
        progress: Notified when entries were acknowledged or dropped.
        refusals: Takes the entries that Kafka refuses.

    Attributes:
        log: Id of the log; set before the first entry is queued. If the topics belong to another log later, nothing
            more is sent.
    """

    def __init__(
        self, config: Config, backlog: Backlog, wake_up: WakeUp, progress: ProgressSignal, refusals: Refusals
    ) -> None:
        self._config = config
        self._backlog = backlog
        self._wake_up = wake_up
        self._progress = progress
        self._refusals = refusals
        self._producer: AIOKafkaProducer | None = None
        self._connecting = anyio.Lock()
        # The partitions with a task that sends their entries.
        self._sending: set[Route] = set()
        # By partition: why the last attempt failed, unless it succeeded.
        self._errors: dict[Route, str] = {}
        # By partition: the last answer of a broker, if it has refused the batch, and time alone does not change that.
        self._refused: dict[Route, str] = {}
        self.log = ""
        # By partition: the right that this user lacks, as the last attempt has shown.
        self._missing_rights: dict[Route, str] = {}
        # Why nothing more is sent; empty while the topics belong to the log.
        self._mismatch = ""
        # The offsets that were acknowledged before the last check of the log; the time of the next check, and its
        # earliest time, on the monotonic clock.
        self._checked: dict[Route, int] = {}
        self._next_check = self._earliest_check = 0.0

    @property
    def last_error(self) -> str:
        """Reason for which the last attempt to send to a partition failed; empty if no attempt failed."""
        return next(reversed(self._errors.values()), "")

    @property
    def refused(self) -> str:
        """Reason for which a broker refuses a batch at each attempt, other than its size; empty if none does."""
        return next(iter(self._refused.values()), "")

    @property
    def missing_right(self) -> str:
        """The right that this user lacks to send the events that wait; empty if it lacks none, as far as is known."""
        return next(iter(self._missing_rights.values()), "")

    async def run(self, seal: Callable[[float], float]) -> None:
        """Send until cancelled.

        Args:
            seal: Queues the frames that are due by a time on the monotonic clock, and returns when the next is due.
        """
        try:
            async with anyio.create_task_group() as tasks:
                while True:
                    self._wake_up.clear()
                    self._backlog.expect_sender()  # what `seal` queues is sent below
                    next_due = seal(time.monotonic())
                    for route in self._backlog.routes():
                        if route not in self._sending and not self._mismatch:
                            self._sending.add(route)
                            tasks.start_soon(self._send_all, route)
                    await self._wake_up.wait(next_due - time.monotonic())
        finally:
            await self._drop_producer(self._producer)

    async def wait_acked(self, number: int, timeout: float) -> None:
        """Return when all entries with lower numbers are acknowledged or dropped.

        Args:
            number: The number.
            timeout: Seconds.

        Raises:
            CommitTimeout: Some of these entries were not acknowledged within the timeout, or this user lacks the right
                to send them; they stay queued.
            LogMismatch: The topics belong to another log than before; the entries stay queued.
        """
        with anyio.move_on_after(timeout):
            while not self._backlog.is_acked(number) and not self._mismatch:
                if self.missing_right:
                    raise CommitTimeout(self._not_sent())
                await self._progress.wait()
            if self._mismatch:
                raise LogMismatch(self._mismatch)
            return
        queued = counted(self._backlog.statistics().queued, "event")
        raise CommitTimeout(
            f"Kafka at {self._config.kafka} has not acknowledged {queued} in "
            f"{timeout:g} s; they stay queued" + (f" (last error: {self.last_error})" if self.last_error else "")
        )

    def _not_sent(self) -> str:
        queued = counted(self._backlog.statistics().queued, "event")
        return f"Kafka at {self._config.kafka} refuses {queued}: {self.missing_right}; they stay queued"

    async def check_log(self, offsets: dict[Route, int]) -> None:
        """Check that the topics still belong to the log, if entries were acknowledged since the last check.

        Topics that were recreated take entries without an error, and give offsets that the projection of the former log
        has long reached. A check takes one request: it is made if a partition was not used before or its offsets went
        back, and otherwise once a second. While Kafka does not answer, nothing is checked.

        Args:
            offsets: By partition, the offset after the last acknowledged entry.

        Raises:
            LogMismatch: The topics belong to another log.
        """
        producer, now = self._producer, time.monotonic()
        if producer is None or offsets == self._checked or now < self._earliest_check:
            return
        if now < self._next_check and all(end >= self._checked.get(each, math.inf) for each, end in offsets.items()):
            return
        try:
            with anyio.fail_after(_ANSWER_SECONDS):
                await check_identity(self._config, producer.client, self.log, patience=_ANSWER_SECONDS / 2)
        except TimeoutError:
            self._earliest_check = time.monotonic() + _UNCHECKED_SECONDS
        except (KafkaError, OSError) as error:
            logger.debug("the log could not be checked: %r", error)
        except LogMismatch as error:
            self.refuse(error)
            raise
        else:
            self._checked = offsets
            self._next_check = time.monotonic() + _CHECK_SECONDS

    def refuse(self, error: LogMismatch) -> None:
        """Send nothing more, because the topics belong to another log; all waits raise the error."""
        if not self._mismatch:
            logger.error("nothing more is sent: %s", error)
        self._mismatch = str(error)
        self._progress.notify()

    async def _send_all(self, route: Route) -> None:
        """Send the entries of a partition, batch after batch, until it has none."""
        failures, max_bytes = 0, BATCH_BYTES
        try:
            while not self._mismatch and (entries := self._encode_first(route, max_bytes)):
                self._backlog.mark_sending(route, len(entries))
                try:
                    count, end = await self._send(route, entries)
                except _TOO_LARGE as error:
                    # The entry that is too large is alone after some halvings. The bound stays until the queue is
                    # empty: the topic's limit may be below the size of a batch, too.
                    self._errors.pop(route, None)
                    if len(entries) > 1:
                        max_bytes = sum(len(entry.encode()) for entry in entries) // 2
                    else:
                        await self._refusals.refuse(route, entries[0], _reason(error))
                    continue
                except LogMismatch as error:
                    return self.refuse(error)
                # An error of ours may end by itself, too: certificates are read at each connection, and are replaced.
                except (KafkaError, TrialStreamError, TimeoutError, OSError) as error:
                    self._errors.pop(route, None)  # to the end of the dictionary
                    self._errors[route] = _reason(error)
                    self._refused.pop(route, None)
                    if _is_refusal(error):
                        self._refused[route] = self._errors[route]
                    self._note_right(route, entries, missing_right(error, "Write"))
                    logger.debug("sending to %s failed: %s", route, self._errors[route])
                    await anyio.sleep(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)])
                    failures += 1
                    continue
                failures = 0
                self._errors.pop(route, None)
                self._refused.pop(route, None)
                self._missing_rights.pop(route, None)
                self._backlog.acked(route, count, end)
                self._progress.notify()
        finally:
            # An entry that was queued after the last check has set the wake-up, so `run` starts a new task for it.
            self._sending.discard(route)

    def _note_right(self, route: Route, entries: list[Entry], right: str) -> None:
        """Note whether an attempt has failed for lack of a right; waits then end, since it may be missing for long."""
        is_new = right and route not in self._missing_rights
        self._missing_rights.pop(route, None)
        if right:
            self._missing_rights[route] = right
            self._refusals.fail((each.request for each in entries), CommitTimeout(self._not_sent()))
        if is_new:
            self._progress.notify()

    def _encode_first(self, route: Route, max_bytes: int) -> list[Entry]:
        """Encode the first entries of a partition; drop an entry that cannot be encoded.

        Args:
            route: The partition.
            max_bytes: Maximum size of the encoded entries together, bytes; a single entry may exceed it.
        """
        while True:
            ready: list[Entry] = []
            total = 0
            for entry in self._backlog.peek(route, _BATCH_ENTRIES):
                encoded = entry.encode()
                if not encoded:
                    break
                total += len(encoded)
                if ready and total > max_bytes:
                    return ready
                ready.append(entry)
            else:
                return ready
            if ready:
                return ready
            self._backlog.discard(route)
            self._progress.notify()

    async def _send(self, route: Route, entries: list[Entry]) -> tuple[int, int]:
        """Send the entries that fit one batch; return their number, and the offset after the last of them."""
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
                # `asyncio.wait` does not raise when a producer that is stopped cancels the future; awaiting the future
                # itself would look like a cancellation of this task.
                await asyncio.wait([future])
            if future.cancelled():
                raise KafkaConnectionError("the producer was stopped")
            metadata: Any = future.result()
        except _NOT_TAKEN:
            raise
        except BaseException:
            # The batch may have arrived or not. Its connection is closed before the batch is sent again over a new one,
            # so that the first copy is not sent after the second.
            for entry in entries[:count]:
                entry.unsure = True
            await self._drop_producer(producer)
            raise
        return count, metadata.offset + count

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is not None:  # without a look at the other tasks, which the lock takes
            return self._producer
        async with self._connecting:
            if self._producer is None:
                producer = batch_producer(self._config, _REQUEST_SECONDS)
                try:
                    async with kafka_errors(self._config):
                        with anyio.fail_after(_ATTEMPT_SECONDS):
                            await producer.start()
                            await check_identity(self._config, producer.client, self.log)
                except BaseException:
                    await stop_producer(producer, _STOP_SECONDS)
                    raise
                self._producer = producer
            return self._producer

    async def _drop_producer(self, producer: AIOKafkaProducer | None) -> None:
        if producer is not None and producer is self._producer:
            self._producer = None
            await stop_producer(producer, _STOP_SECONDS)


def _reason(error: BaseException) -> str:
    """Return the reason for which an attempt to send has failed, for messages."""
    if isinstance(error, (TimeoutError, RequestTimedOutError)):
        return "no answer"
    if right := missing_right(error, "Write"):
        return right
    # The text of an error of aiokafka begins with the name of its class.
    return str(error) if isinstance(error, (KafkaError, TrialStreamError)) else f"{type(error).__name__}: {error}"


def _is_refusal(error: BaseException) -> bool:
    """Whether an error is the answer of a broker that a repetition does not change, such as a missing right."""
    cause = error.__cause__ if isinstance(error, TrialStreamError) else error
    return isinstance(cause, BrokerResponseError) and (
        not cause.retriable or isinstance(cause, UnknownTopicOrPartitionError)
    )
