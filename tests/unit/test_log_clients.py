"""Kafka clients that are opened for a block, with a consumer in place of aiokafka's."""

from __future__ import annotations

import asyncio

import pytest
import trialstream as ts
from aiokafka.errors import KafkaConnectionError
from trialstream.event_log import clients


class Connections:
    """The connections of a consumer."""

    is_closed = False

    async def send(self, *_, **__):
        """Send nothing."""

    async def _get_conn(self, *_, **__):
        """Connect to nothing."""

    async def close(self):
        """Record that the connections are closed."""
        self.is_closed = True


class RetryingConsumer:
    """A consumer with a fetch that waits for its next try; its `stop` then behaves like aiokafka's."""

    def __init__(self, **_):
        self._client = Connections()

    async def start(self):
        """Begin the fetch."""
        self._fetch = asyncio.create_task(asyncio.sleep(60))

    async def stop(self):
        """Cancel the fetch and raise its cancellation."""
        self._fetch.cancel()
        await self._fetch


@pytest.fixture(autouse=True)
def _retrying(monkeypatch):
    monkeypatch.setattr(clients, "AIOKafkaConsumer", RetryingConsumer)


async def test_a_consumer_that_cancels_its_own_fetch_is_stopped_and_its_connections_are_closed():
    """The cancellation of a consumer's own fetch does not cancel the caller, and the connections are closed."""
    async with clients.open_consumer(ts.Config()) as consumer:
        pass

    assert consumer._client.is_closed


async def test_the_error_of_the_block_outlives_the_cancellation_of_a_fetch():
    """An error of aiokafka in the block is raised as KafkaUnavailable, not replaced by the fetch's cancellation."""
    with pytest.raises(ts.KafkaUnavailable, match=r"127\.0\.0\.1:9092"):
        async with clients.open_consumer(ts.Config()):
            raise KafkaConnectionError
