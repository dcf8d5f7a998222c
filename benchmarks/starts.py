"""Starts: the import, the first connection of a process, one that connects alone, and many at the same time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import psutil
import trialstream as ts
from aiokafka import TopicPartition
from aiokafka.conn import AIOKafkaConnection
from trialstream.config import Config
from trialstream.event_log.clients import open_consumer
from trialstream.event_log.topics import ensure_topics

from benchmarks.bench import Bench
from benchmarks.report import Mark, Row, median

# The protocols are divided over these processes: a thousand interpreters would need more memory than a small machine
# has. Each protocol has a thread, an event loop and connections of its own, as in a process of its own.
_PROCESSES = 8
# Protocols of one process that connect at the same time: with all of them, two processors need longer for the clients
# than the 10 s that a request may take. The threads of MongoDB's driver, of which each protocol has some, occupy two
# processors for minutes if there are many more protocols than these.
_AT_ONCE = 8
_PROTOCOLS, _QUICK_PROTOCOLS = 200, 80
# Starts as Kafka sees them, all at the same moment: what a protocol does there until it is connected.
_STARTS, _QUICK_STARTS = 1000, 200
_SAMPLE_SECONDS = 0.05
_IMPORT_MS = 100.0
_CONNECT_MS = 25.0
_IMPORTS, _QUICK_IMPORTS = 15, 5
_MODULES = ("trialstream", "trialstream.sync")
# Prints the milliseconds of the first connection of a process, whose imports are part of it, and of the second.
_CONNECT = """
import sys, time
import trialstream.sync
for _ in range(2):
    began = time.perf_counter()
    protocol = trialstream.sync.connect(offline=True, spool_dir=sys.argv[1])
    protocol.open()
    print(1000 * (time.perf_counter() - began))
    protocol.close()
"""


@dataclass(frozen=True)
class _Starts:
    """Duration and cost of a number of starts.

    Attributes:
        seconds: Time until all protocols were connected.
        published: Number of records that they wrote to the schemas topic.
        connections: Largest number of connections to Kafka at the same time.
        requests: Requests to Kafka that they sent.
    """

    seconds: float
    published: int
    connections: int
    requests: int


async def run(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    count = _QUICK_PROTOCOLS if bench.quick else _PROTOCOLS
    config = bench.config()
    repetitions = _QUICK_IMPORTS if bench.quick else _IMPORTS
    imports = [await asyncio.to_thread(_imported, bench, name, repetitions) for name in _MODULES]
    first, second = await asyncio.to_thread(_offline, bench, repetitions)
    await ensure_topics(config)
    alone = [await _alone(config) for _ in range(5)]
    found = await _together(bench, config, count, "protocols")
    starts = _QUICK_STARTS if bench.quick else _STARTS
    crowd = await _together(bench, config, starts, "starts")
    return [
        *imports,
        Row("the first protocol of a process connects, offline", "ms", first, {"the second one": second}),
        Row("one protocol connects alone", "ms", alone, {}, [Mark.most("ms", median(alone), _CONNECT_MS)]),
        *_rows(f"{count:,} protocols connect, {_PROCESSES * _AT_ONCE} at a time", count, found),
        *_rows(f"{starts:,} starts at Kafka at once", starts, crowd),
    ]


def _rows(what: str, count: int, found: _Starts) -> list[Row]:
    """Return the rows of a number of starts."""
    none = [Mark.most("records", found.published, 0)]
    return [
        Row(what, "s", [found.seconds]),
        Row(f"{what}: records written", "records", [float(found.published)], {}, none),
        Row(f"{what}: connections of Kafka", "connections", [float(found.connections)]),
        Row(f"{what}: requests to Kafka, of each", "requests", [found.requests / count]),
    ]


def _imported(bench: Bench, name: str, repetitions: int) -> Row:
    """Return the row of an import: the duration of a process, less that of a process that imports nothing."""
    texts = ("pass", f"import {name}", "import asyncio", "import numpy")
    runs = [[_duration(bench, text) for text in texts] for _ in range(1 + repetitions)][1:]  # the first one compiles
    ours, event_loop, arrays = ([run[place] - run[0] for run in runs] for place in (1, 2, 3))
    beside = {"asyncio": event_loop, "numpy": arrays}
    return Row(f"`import {name}`", "ms", ours, beside, [Mark.most("ms", median(ours), _IMPORT_MS)])


def _duration(bench: Bench, text: str) -> float:
    """Return the milliseconds of a process that runs a script."""
    began = time.perf_counter()
    _python(bench, text)
    return 1000 * (time.perf_counter() - began)


def _offline(bench: Bench, repetitions: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of the first and of the second offline connection of several processes."""
    found = [_python(bench, _CONNECT).split() for _ in range(1 + repetitions)][1:]  # the first one compiles
    return [float(first) for first, _ in found], [float(second) for _, second in found]


def _python(bench: Bench, text: str) -> str:
    """Run a script in a process with compiled modules, as those of an installed package, and return its output."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(bench.folder / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", text, str(bench.folder / "spool")]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout  # noqa: S603 (a script of this file)


async def _alone(config: Config) -> float:
    began = time.perf_counter()
    async with ts.KafkaProtocol(config):
        return 1000 * (time.perf_counter() - began)


async def _together(bench: Bench, config: Config, count: int, what: str) -> _Starts:
    before = await _schema_records(config)
    arguments = [what, config.kafka, config.mongo, config.prefix, str(config.spool_dir), str(count // _PROCESSES)]
    children = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.starts", *arguments, stdin=-1, stdout=-1, limit=2**20
        )
        for _ in range(_PROCESSES)
    ]
    try:
        for each in children:
            assert each.stdout is not None
            await each.stdout.readline()  # imported
        broker = psutil.Process(bench.stack.kafka.pid)
        idle = _connections(broker)
        most = 0
        began = time.perf_counter()
        for each in children:
            assert each.stdin is not None
            each.stdin.write(b"connect\n")
        connecting = asyncio.gather(*(each.stdout.readline() for each in children if each.stdout))
        while not connecting.done():
            most = max(most, await asyncio.to_thread(_connections, broker) - idle)
            await asyncio.sleep(_SAMPLE_SECONDS)
        seconds = time.perf_counter() - began
        answers = [line.split() for line in connecting.result()]
        assert all(answer[:1] == [b"connected"] for answer in answers), answers
    finally:
        for each in children:
            assert each.stdin is not None
            each.stdin.close()  # ends the child
        await asyncio.gather(*(each.wait() for each in children))
    return _Starts(seconds, await _schema_records(config) - before, most, sum(int(number) for _, number in answers))


def _connections(process: psutil.Process) -> int:
    return sum(each.status == psutil.CONN_ESTABLISHED for each in process.net_connections("tcp"))


async def _schema_records(config: Config) -> int:
    topic = TopicPartition(config.schemas_topic, 0)
    async with open_consumer(config) as consumer:
        return int((await consumer.end_offsets([topic]))[topic])


async def _child(what: str, kafka: str, mongo: str, prefix: str, spools: str, count: int) -> None:
    """Connect after a line on stdin: a number of protocols, kept open until stdin ends, or as many starts at once."""
    config = Config(kafka=kafka, mongo=mongo, prefix=prefix, spool_dir=spools, spool="off")
    protocols = [ts.KafkaProtocol(config, timeout=300) for _ in range(count)] if what == "protocols" else []
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    limit = asyncio.Semaphore(_AT_ONCE)
    requests, send = 0, AIOKafkaConnection.send

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal requests
        requests += 1
        return send(*args, **kwargs)

    AIOKafkaConnection.send = counted

    async def connect(protocol: ts.KafkaProtocol) -> None:
        async with limit:
            await protocol.open()

    connecting = map(connect, protocols) if protocols else (ensure_topics(config) for _ in range(count))
    await asyncio.gather(*connecting)
    print("connected", requests, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for each in protocols:
        await each.close()


if __name__ == "__main__":
    *addresses, number = sys.argv[1:]
    asyncio.run(_child(*addresses, int(number)))
