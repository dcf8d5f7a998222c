"""MongoDB's sink in Kafka Connect: `python -m benchmarks.peers.connect sink '{"kafka": ..., "mongo": ...}'`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from pymongo import MongoClient
from pymongo.collection import Collection
from trialstream_console.local import process

from benchmarks.peers.jars import CONNECTOR_VERSION, java_command
from benchmarks.peers.measuring import METRICS, entry
from benchmarks.peers.rows import row, temporary_topic

ROWS = 300_000
_DATABASE = "peers_connect"
_STALL_SECONDS = 120.0  # longest time without a new document; its start took 15 s on a busy machine

# One poll is one bulk write: of 500 rows by default, here of 5,000. The REST interface is not used, so it has any port.
# One task, the default: a second one was not faster on two cores.
_WORKER = """\
bootstrap.servers={kafka}
listeners=http://127.0.0.1:0
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
value.converter.schemas.enable=false
offset.storage.file.filename=connect.offsets
plugin.discovery=only_scan
consumer.max.poll.records=5000
"""

_SINK = """\
name=peers
connector.class=com.mongodb.kafka.connect.MongoSinkConnector
tasks.max=1
topics={topic}
connection.uri={mongo}
database={database}
collection=rows
max.batch.size=5000
"""

# By default the rows of a batch are written in order, and each replaces the document with its id, which never exists.
# Inserts are three to four times as fast and equally safe: in both modes a redelivered row becomes a second document.
_INSERTS = """\
writemodel.strategy=com.mongodb.kafka.connect.sink.writemodel.strategy.InsertOneDefaultStrategy
bulk.write.ordered=false
"""


def sink(kafka: str, mongo: str, *, rows: int = ROWS, inserts: bool = False) -> dict[str, Any]:
    """Fill a topic with JSON rows, start Connect, and watch the documents arrive.

    Args:
        kafka: `host:port` of a broker.
        mongo: URI of MongoDB.
        rows: Number of rows.
        inserts: Whether to write by unordered inserts instead of the connector's default.
    """
    client: MongoClient[dict[str, Any]] = MongoClient(mongo)
    with temporary_topic(kafka) as topic, client:
        asyncio.run(_fill(kafka, topic, rows))
        sink_settings = _SINK.format(mongo=mongo, topic=topic, database=_DATABASE) + (_INSERTS if inserts else "")
        Path("worker.properties").write_text(_WORKER.format(kafka=kafka))
        Path("sink.properties").write_text(sink_settings)
        command = java_command(
            "-Xmx1g", "org.apache.kafka.connect.cli.ConnectStandalone", "worker.properties", "sink.properties"
        )
        log = Path("connect.log")
        connect = process.run_on_spawner_thread(lambda: process.spawn(command, log=log, cwd=Path.cwd()))
        try:
            return _watch(connect, client[_DATABASE]["rows"], rows)
        except TimeoutError as error:
            raise RuntimeError(f"{error}: {process.tail(log, lines=1)}") from error
        finally:
            process.stop(connect, 15)
            client.drop_database(_DATABASE)


def _watch(connect: subprocess.Popen[bytes], documents: Collection[dict[str, Any]], rows: int) -> dict[str, Any]:
    """Measure from the first visible documents, which do not count since they came before, to the last one."""
    first, begun = _next(connect, documents, 0, rows)
    seen, ended = first, begun
    while seen < rows:
        seen, ended = _next(connect, documents, seen, rows)
    seconds = ended - begun
    rate = (rows - first) / seconds
    return {
        "rows": rows,
        "seconds": round(seconds, 3),
        "documents_per_second": round(rate),
        "points_per_second": round(len(METRICS) * rate),
    }


def _next(
    connect: subprocess.Popen[bytes], documents: Collection[dict[str, Any]], seen: int, rows: int
) -> tuple[int, float]:
    """Wait for more documents than `seen`; return their number and the time."""
    deadline = time.perf_counter() + _STALL_SECONDS
    while (count := documents.estimated_document_count()) <= seen:
        if time.perf_counter() > deadline or connect.poll() is not None:
            raise TimeoutError(f"{seen} of {rows} rows arrived")
        time.sleep(0.02)
    return count, time.perf_counter()


async def _fill(kafka: str, topic: str, rows: int) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka, linger_ms=20, max_batch_size=256 * 1024) as producer:
        for number in range(rows):
            record = row(number)
            await producer.send(topic, json.dumps(record).encode(), record["trial"].encode())
        await producer.flush()


if __name__ == "__main__":
    entry(CONNECTOR_VERSION, sink=sink)
