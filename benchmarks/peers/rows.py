"""Rows and topics of the peers of the log: one record per row of four metrics, in a topic that exists for one run."""

from __future__ import annotations

import asyncio
import io
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fastavro
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.peers.measuring import METRICS

__all__ = ["encoded", "row", "temporary_topic", "throughput"]

_SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "Row",
        "fields": [
            {"name": "trial", "type": "string"},
            {"name": "step", "type": "long"},
            {"name": "time", "type": "long"},
            *({"name": name, "type": "double"} for name in METRICS),
        ],
    }
)

_TRIALS = [f"{number:032x}_0" for number in range(64)]


def row(number: int) -> dict[str, Any]:
    """Return row `number` of a load in which 64 trials take turns."""
    return {
        "trial": _TRIALS[number % 64],
        "step": number // 64,
        "time": 1_700_000_000_000_000 + number,
        "loss": 1 / (number + 1),
        "accuracy": number % 1000 / 1000,
        "lr": 1e-3,
        "norm": number % 7 / 7,
    }


def encoded(number: int) -> tuple[bytes, bytes]:
    """Return key and Avro body of row `number`."""
    record = row(number)
    body = io.BytesIO()
    fastavro.schemaless_writer(body, _SCHEMA, record)
    return record["trial"].encode(), body.getvalue()


def throughput(rows: int, started: float) -> dict[str, float]:
    """Summarize a measurement, as soon as the last row is done."""
    seconds = time.perf_counter() - started
    return {
        "rows": rows,
        "seconds": round(seconds, 3),
        "rows_per_second": round(rows / seconds),
        "points_per_second": round(len(METRICS) * rows / seconds),
    }


@contextmanager
def temporary_topic(kafka: str) -> Iterator[str]:
    """Create a topic on the broker `host:port` with our default number of partitions, and delete it at the end."""
    name = f"peers.{secrets.token_hex(6)}"
    asyncio.run(_administer(kafka, "create_topics", [NewTopic(name, 8, 1)]))
    try:
        yield name
    finally:
        asyncio.run(_administer(kafka, "delete_topics", [name]))


async def _administer(kafka: str, method: str, argument: list[Any]) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await client.start()
    try:
        await getattr(client, method)(argument)
    finally:
        await client.close()
