"""Kafka's own kafka-producer-perf-test: `python -m benchmarks.peers.kafka_perf produce '{"kafka": "host:port"}'`."""

from __future__ import annotations

import re
import subprocess
from typing import Any

from trialstream_console.local.binaries import KAFKA_VERSION

from benchmarks.peers.jars import java_command
from benchmarks.peers.measuring import entry
from benchmarks.peers.rows import temporary_topic

ROWS = 2_000_000
BYTES = 120  # about the size of a row of four metrics in Avro, with its key


def produce(kafka: str, rows: int = ROWS) -> dict[str, Any]:
    """Send records of random bytes at the full speed of the Java client, with its own settings but `acks=all`."""
    with temporary_topic(kafka) as topic:
        numbers = ["--num-records", str(rows), "--record-size", str(BYTES), "--throughput", "-1"]
        properties = ["--command-property", f"bootstrap.servers={kafka}", "acks=all"]
        command = java_command("org.apache.kafka.tools.ProducerPerformance", "--topic", topic, *numbers, *properties)
        answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    # The last line of its output is the summary: "2000000 records sent, 812345.1 records/sec (92.97 MB/sec), ..."
    found = re.findall(rf"^{rows} records sent, ([\d.]+) records/sec", answer.stdout, re.MULTILINE)
    if not found:
        raise RuntimeError((answer.stderr or answer.stdout).strip().splitlines()[-1])
    return {"rows": rows, "bytes": BYTES, "rows_per_second": round(float(found[-1]))}


if __name__ == "__main__":
    entry(KAFKA_VERSION, produce=produce)
