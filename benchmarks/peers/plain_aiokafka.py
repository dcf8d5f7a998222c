"""aiokafka: `python -m benchmarks.peers.plain_aiokafka produce '{"kafka": "host:port"}'`."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from importlib.metadata import version
from typing import Any

from aiokafka import AIOKafkaProducer

from benchmarks.peers.measuring import entry
from benchmarks.peers.rows import encoded, temporary_topic, throughput

ROWS = 100_000
IN_FLIGHT = 20_000  # bound of rows that wait for their acknowledgement, and so of their memory


def produce(kafka: str, rows: int = ROWS) -> dict[str, Any]:
    """Send one Avro record per row, until all are acknowledged."""
    with temporary_topic(kafka) as topic:
        return asyncio.run(_produce(kafka, topic, rows))


async def _produce(kafka: str, topic: str, rows: int) -> dict[str, Any]:
    # One batch is in flight per partition. With the default of 16 KiB, round trips would be the bottleneck.
    async with AIOKafkaProducer(
        bootstrap_servers=kafka, acks="all", linger_ms=20, max_batch_size=256 * 1024
    ) as producer:
        waiting: deque[asyncio.Future[object]] = deque()
        started = time.perf_counter()
        for number in range(rows):
            key, body = encoded(number)
            waiting.append(await producer.send(topic, body, key))
            if len(waiting) > IN_FLIGHT:
                await waiting.popleft()
        for future in waiting:
            await future
        return throughput(rows, started)


if __name__ == "__main__":
    entry(version("aiokafka"), produce=produce)
