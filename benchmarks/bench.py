"""Servers, consumer processes and logs for the benchmarks."""

from __future__ import annotations

import asyncio
import time
import uuid
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil
import trialstream as ts
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from motor.motor_asyncio import AsyncIOMotorClient
from trialstream.config import Config
from trialstream.event_log.topics import partition_of
from trialstream_console.local import LocalStack
from trialstream_console.local.consumer import ConsumerService
from trialstream_consumer.worker import FETCH_SETTINGS
from trialstream_schemas.model.aggregators import timeseries_aggregator
from trialstream_schemas.wire.codec import encode
from trialstream_schemas.wire.events import MetricsLogged

from benchmarks.peers.measuring import METRICS

__all__ = ["NAMES", "Bench", "Fold", "Log", "Reading", "read_bare", "writing"]

# The metrics of a row by default: 4, as in all figures of other trackers.
NAMES = METRICS
_FULL_ROWS = 256
_BATCH_BYTES = 900_000


@dataclass(frozen=True)
class Log:
    """Size of a log of frames that are not folded yet.

    Attributes:
        frames: Number of frames.
        points: Number of values of metrics.
        bytes: Size of the values of their records.
    """

    frames: int
    points: int
    bytes: int


@dataclass(frozen=True)
class Fold:
    """Progress and memory of a consumer.

    Attributes:
        looks: Samples of its progress: time in seconds, and number of events folded by then.
        before: Memory at its start, MiB.
        most: Largest memory, MiB.
    """

    looks: Sequence[tuple[float, int]]
    before: float
    most: float

    def rate(self, start: float = 0.0, end: float = 1.0) -> float:
        """Return the events folded per second in a part of the log."""
        total = self.looks[-1][1]
        inside = [look for look in self.looks if start * total <= look[1] <= end * total]
        (began, first), (ended, last) = inside[0], inside[-1]
        return (last - first) / (ended - began)


@dataclass
class Bench:
    """The servers, and settings of the benchmarks.

    Attributes:
        stack: Kafka and MongoDB, without a consumer.
        quick: Whether to run fewer repetitions of smaller loads.
        folder: Folder for the logs of consumers.
    """

    stack: LocalStack
    quick: bool
    folder: Path

    def config(self, partitions: int = 8) -> Config:
        """Return settings with topics and a database of their own."""
        prefix = f"bench-{uuid.uuid4().hex[:12]}"
        return Config(
            kafka=self.stack.kafka.address,
            mongo=self.stack.mongo.uri,
            prefix=prefix,
            partitions=partitions,
            spool_dir=str(self.folder / "spool"),
        )

    @asynccontextmanager
    async def consumer(self, config: Config) -> AsyncIterator[ConsumerService]:
        """Run a consumer process as long as the block runs."""
        service = ConsumerService(self.folder / uuid.uuid4().hex[:8], config)
        service.folder.mkdir()
        await asyncio.to_thread(service.start)
        try:
            yield service
        finally:
            await asyncio.to_thread(service.stop)

    async def trials(self, config: Config, count: int) -> list[ts.Trial]:
        """Create trials and return them; no consumer runs afterwards."""
        async with self.consumer(config), ts.KafkaProtocol(config) as protocol:
            created: list[ts.Trial] = []
            for start in range(0, count, 64):
                requests = [
                    protocol.new_trial(ts.Trial(name="bench", parameters={"n": n}))
                    for n in range(start, min(count, start + 64))
                ]
                created += [each for each in await asyncio.gather(*requests) if each]
        return created

    @asynccontextmanager
    async def mongo(self) -> AsyncIterator[AsyncIOMotorClient]:
        """Open a client of MongoDB."""
        client = AsyncIOMotorClient(self.stack.mongo.uri)
        try:
            yield client
        finally:
            client.close()

    async def fill(
        self,
        config: Config,
        trials: Sequence[ts.Trial],
        frames: int,
        *,
        rows: int = _FULL_ROWS,
        names: Sequence[str] = NAMES,
        writers: int = 1,
    ) -> Log:
        """Append frames of metrics to the log, the trials and writers in turn."""
        now = time.time_ns() // 1000
        columns = [array("d", [0.5 + row / 7 for row in range(rows)]) for _ in names]
        total = 0
        async with writing(config) as send:
            for n in range(frames):
                trial = trials[n % len(trials)]
                turn = n // len(trials)
                first = turn * rows
                value = encode(
                    MetricsLogged(
                        trial=trial.uid,
                        writer=f"writer{turn % writers}",
                        seq=turn // writers + 1,
                        time=now,
                        aggregator=timeseries_aggregator,
                        names=names,
                        steps=range(first, first + rows),
                        times=range(0, 1000 * rows, 1000),
                        columns=columns,
                    )
                )
                total += len(value)
                await send(trial.hash.encode(), value)
        return Log(frames, frames * rows * len(names), total)

    async def fold(self, config: Config, events: int, *, seconds: float = 600.0) -> Fold:
        """Let a new consumer fold the given number of events of the trials topic."""
        looks = []
        async with self.mongo() as client, self.consumer(config) as service:
            began = time.perf_counter()  # the consumer is ready and takes over its partitions
            process = psutil.Process(service.pid)
            checkpoints = client[config.database].checkpoints
            start = await _offsets(checkpoints, config)
            looks.append((began, start))
            memory = [process.memory_info().rss]
            while looks[-1][1] < events:
                await asyncio.sleep(0.01)
                if time.perf_counter() > began + seconds:
                    raise TimeoutError(f"{looks[-1][1]} of {events} events were folded in {seconds:g} s")
                looks.append((time.perf_counter(), await _offsets(checkpoints, config)))
                memory.append(process.memory_info().rss)
        return Fold(looks, memory[0] / 2**20, max(memory) / 2**20)


async def _offsets(checkpoints: AsyncIOMotorClient, config: Config) -> int:
    found = checkpoints.find({"_id": {"$regex": f"^{config.trials_topic}/"}}, {"offset": 1})
    return sum([each.get("offset", 0) async for each in found])


@asynccontextmanager
async def writing(config: Config):
    """Yield a function that appends a record to the trials topic; at the block's end all records are acknowledged."""
    producer = AIOKafkaProducer(
        bootstrap_servers=config.kafka, acks="all", max_batch_size=_BATCH_BYTES, max_request_size=2 * _BATCH_BYTES
    )
    await producer.start()
    batches: dict[int, object] = {}
    sent: dict[int, asyncio.Future] = {}

    async def flush(partition: int) -> None:
        if partition in sent:
            await sent.pop(partition)
        batch = batches.pop(partition)
        sent[partition] = await producer.send_batch(batch, config.trials_topic, partition=partition)

    async def send(key: bytes, value: bytes) -> None:
        partition = partition_of(key, config.partitions)
        if partition not in batches:
            batches[partition] = producer.create_batch()
        if batches[partition].append(key=key, value=value, timestamp=None) is None:
            await flush(partition)
            await send(key, value)

    try:
        yield send
        for partition in list(batches):
            await flush(partition)
        for each in sent.values():
            await each
    finally:
        await producer.stop()


class Reading(NamedTuple):
    """Durations of something that reads a log.

    Attributes:
        seconds: By the clock.
        processor: Processor time of this process, seconds.
    """

    seconds: float
    processor: float

    @classmethod
    def since(cls, began: Reading | None = None) -> Reading:
        """Return the time since a reading; since any moment if there is none."""
        seconds, processor = time.perf_counter(), time.process_time()
        return cls(seconds, processor) if began is None else cls(seconds - began.seconds, processor - began.processor)


async def read_bare(config: Config) -> Reading:
    """Read the whole trials topic by aiokafka's own consumer, with the settings of the service, and do nothing else."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=config.kafka, enable_auto_commit=False, auto_offset_reset="earliest", **FETCH_SETTINGS
    )
    await consumer.start()
    try:
        places = [TopicPartition(config.trials_topic, number) for number in range(config.partitions)]
        consumer.assign(places)
        left = sum((await consumer.end_offsets(places)).values())
        began = Reading.since()
        while left > 0:
            found = await consumer.getmany(timeout_ms=1000, max_records=4000)
            left -= sum(map(len, found.values()))
        return Reading.since(began)
    finally:
        await consumer.stop()
