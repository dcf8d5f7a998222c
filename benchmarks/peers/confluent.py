"""Confluent's client: `python -m benchmarks.peers.confluent produce '{"kafka": "host:port"}'`."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

from confluent_kafka import Producer

from benchmarks.peers.measuring import entry
from benchmarks.peers.rows import encoded, temporary_topic, throughput

ROWS = 300_000


def produce(kafka: str, rows: int = ROWS) -> dict[str, Any]:
    """Send one Avro record per row, until all are acknowledged."""
    acked = 0
    failed = None

    def delivered(error: object, _message: object) -> None:
        nonlocal acked, failed
        acked += error is None
        failed = failed or error

    with temporary_topic(kafka) as topic:
        producer = Producer({"bootstrap.servers": kafka, "acks": "all", "linger.ms": 20})
        started = time.perf_counter()
        for number in range(rows):
            key, body = encoded(number)
            while True:
                try:
                    producer.produce(topic, body, key, on_delivery=delivered)
                    break
                except BufferError:  # the producer's queue is full
                    producer.poll(0.05)
            producer.poll(0)
        producer.flush()
        measured = throughput(rows, started)
    if acked < rows:
        raise RuntimeError(f"{acked} of {rows} rows acknowledged: {failed}")
    return measured


if __name__ == "__main__":
    entry(version("confluent-kafka"), produce=produce)
