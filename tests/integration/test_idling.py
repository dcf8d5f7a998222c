"""A consumer whose fetches are long while it is idle: no record, request or new assignment waits for a long fetch."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from functools import partial

import anyio
import pytest
from aiokafka import TopicPartition
from service_support import send, until
from trialstream.event_log import idling
from trialstream.event_log.topics import ensure_topics
from trialstream_consumer.worker import FETCH_SETTINGS

# Duration of a long fetch here: less than the 10 s for which a client waits for a response.
LONG_MS = 8000
# Time within which is done what must not wait for such a fetch.
SOON_SECONDS = 5.0


class Readers:
    """A consumer with a reader for each assigned partition.

    Attributes:
        fetches: The fetches in flight: maximum duration, milliseconds, and partitions.
        found: The values that were read, by number of the partition.
    """

    def __init__(self, config, consumer):
        self.config = config
        self.consumer = consumer
        self.fetches = []
        self.found = {number: [] for number in range(config.partitions)}
        self._may_read = {number: anyio.Event() for number in self.found}
        self._send = consumer._send_screened
        consumer._send_screened = self._noting

    async def _noting(self, node_id, request, **settings):
        if "group" not in settings:
            return await self._send(node_id, request, **settings)
        fetch = request._max_wait_ms, {each for _, places in request.topics for each, *_ in places}
        self.fetches.append(fetch)
        try:
            return await self._send(node_id, request, **settings)
        finally:
            self.fetches.remove(fetch)

    def block(self, number):
        """Let the reader of a partition do something else, once it has read the next records."""
        self._may_read[number] = anyio.Event()

    def unblock(self, number):
        """Let it read on."""
        self._may_read[number].set()

    async def read(self, number, pause=lambda: 0.0):
        """Read a partition until cancelled."""
        place = TopicPartition(self.config.trials_topic, number)
        while True:
            await self._may_read[number].wait()
            for records in (await self.consumer.getmany(place, timeout_ms=60_000)).values():
                self.found[number] += [each.value for each in records]
                await anyio.sleep(pause())

    @asynccontextmanager
    async def assigned(self, *numbers, pause=lambda: 0.0):
        """Read these partitions, and no others, while the block runs; it begins when a long fetch is in flight."""
        self.consumer.assign([TopicPartition(self.config.trials_topic, number) for number in numbers])
        async with anyio.create_task_group() as tasks:
            for number in numbers:
                self.unblock(number)
                tasks.start_soon(self.read, number, pause)
            await self.idle(*numbers)
            yield
            tasks.cancel_scope.cancel()

    async def idle(self, *numbers):
        """Wait until a long fetch of these partitions, and of no others, is in flight."""
        await until(lambda: self.fetches == [(LONG_MS, set(numbers))], SOON_SECONDS)

    async def deliver(self, number, value):
        """Write a record, and wait until it is read."""
        await send(self.config, [value], partition=number)
        await until(lambda: value in self.found[number], SOON_SECONDS)


@pytest.fixture
async def readers(config, monkeypatch):
    """The readers of a log's trials."""
    monkeypatch.setattr(idling, "_IDLE_MS", LONG_MS)
    await ensure_topics(config)
    consumer = idling.IdlingConsumer(**config.kafka_client(), **FETCH_SETTINGS, auto_offset_reset="earliest")
    await consumer.start()
    yield Readers(config, consumer)
    await consumer.stop()


async def test_the_first_record_of_any_partition_ends_a_long_fetch(readers):
    """While all readers wait, a record of any partition is read at once, and then the next fetch is long again."""
    async with readers.assigned(0, 1, 2, 3):
        for number in range(4):
            await readers.deliver(number, b"%d" % number)
            await readers.idle(0, 1, 2, 3)


async def test_fetches_are_short_while_a_reader_is_busy(readers):
    """A partition whose records wait for their reader is left out of a fetch, and read at once once they are taken."""
    async with readers.assigned(0, 1, 2, 3):
        readers.block(1)
        await readers.deliver(1, b"first")
        await send(readers.config, [b"second"], partition=1)
        await until(lambda: (25, {0, 2, 3}) in readers.fetches, SOON_SECONDS)

        assert readers.found[1] == [b"first"]

        readers.unblock(1)
        await until(lambda: b"second" in readers.found[1], SOON_SECONDS)
        await readers.deliver(1, b"third")
        await readers.idle(0, 1, 2, 3)

        assert readers.found[1] == [b"first", b"second", b"third"]


async def test_no_other_request_waits_for_a_long_fetch(readers):
    """Offsets and metadata are read meanwhile, over another connection."""
    consumer = readers.consumer
    places = [TopicPartition(readers.config.trials_topic, number) for number in range(4)]
    async with readers.assigned(0, 1, 2, 3):
        with anyio.fail_after(SOON_SECONDS):
            ends = await consumer.end_offsets(places)
            begins = await consumer.beginning_offsets(places)
            assert await consumer._client.force_metadata_update()

        assert readers.fetches == [(LONG_MS, {0, 1, 2, 3})]
        assert {*ends.values(), *begins.values()} == {0}


async def test_no_assignment_waits_for_the_long_fetch_before_it(readers):
    """The partitions of a new assignment are fetched at once: the fetch of the former one is cancelled."""
    async with readers.assigned(0, 1):
        pass
    async with readers.assigned(1, 2):
        await readers.deliver(2, b"a")
    async with readers.assigned(0):
        await readers.deliver(0, b"b")


async def test_no_record_waits_whatever_the_readers_do(readers):
    """With readers that are busy for random times, each record is read before a long fetch would end, in order."""
    rng = random.Random(1)
    sent = {number: [] for number in readers.found}
    async with readers.assigned(0, 1, 2, 3, pause=partial(rng.uniform, 0.0, 0.3)):
        for turn in range(60):
            for number in rng.sample(range(4), rng.randint(1, 3)):
                sent[number].append(b"%d" % turn)
                await send(readers.config, sent[number][-1:], partition=number)
            if rng.random() < 0.5:
                await until(lambda: readers.found == sent, SOON_SECONDS)
            else:
                await anyio.sleep(rng.uniform(0.0, 0.2))
        await until(lambda: readers.found == sent, SOON_SECONDS)
        await readers.idle(0, 1, 2, 3)
