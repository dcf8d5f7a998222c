"""Support for the tests of the consumer: the log, the projection and the consumer's processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import bson
import warm
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.protocol.group import LeaveGroupRequest
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from trialstream.config import Config
from trialstream.event_log.topics import _LOG_SETTINGS
from trialstream_console.local.consumer import ConsumerService
from trialstream_console.local.consumer import environment as settings
from trialstream_console.local.server import Server
from trialstream_schemas.storage.collections import COLLECTIONS, Namespace

_FOLDED = ("trials", "groups", "projects", "series", "outlines", "outcomes", "dead_letters")


async def until(condition: Callable[[], Awaitable[bool] | bool], seconds: float = 30.0) -> None:
    """Wait until a condition is met, with a deadline."""
    with anyio.fail_after(seconds):
        while True:
            met = condition()
            if met if isinstance(met, bool) else await met:
                return
            await anyio.sleep(0.02)


def without_notices(stderr: str) -> str:
    """Return the lines of a command's stderr but for the notices of waits, which a busy machine makes longer."""
    return "".join(line for line in stderr.splitlines(keepends=True) if not line.startswith("waiting for "))


@contextmanager
def paused(server: Server) -> Iterator[None]:
    """Pause a server (SIGSTOP): connections stay open without an answer; it continues when the block is left.

    The block begins when all threads of the server are stopped: the signal reaches them one after the other.
    """
    server.signal(signal.SIGSTOP)
    try:
        deadline = time.monotonic() + 30
        while not _is_stopped(Path(f"/proc/{server.pid}/task")):
            assert time.monotonic() < deadline, f"{server} does not stop"
            time.sleep(0.005)
        yield
    finally:
        server.signal(signal.SIGCONT)


def _is_stopped(tasks: Path) -> bool:
    """Whether all threads of a process are stopped; `tasks` is its folder of them in /proc."""
    try:
        return all((each / "stat").read_text().rpartition(")")[2].split()[0] == "T" for each in tasks.iterdir())
    except FileNotFoundError:  # a thread has just ended
        return False


# --- The log


@asynccontextmanager
async def admin(config: Config) -> AsyncIterator[AIOKafkaAdminClient]:
    """Open an admin client of Kafka."""
    client = AIOKafkaAdminClient(**config.kafka_client())
    await client.start()
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def log_reader(config: Config) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a Kafka consumer outside of any group."""
    consumer = AIOKafkaConsumer(**config.kafka_client(), enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def partitions_of(config: Config, topic: str) -> list[TopicPartition]:
    """Return the partitions of a topic."""
    async with admin(config) as client:
        [described] = await client.describe_topics([topic])
    return sorted(TopicPartition(topic, each["partition"]) for each in described["partitions"])


async def ends_of(config: Config, *topics: str) -> dict[TopicPartition, int]:
    """Return, by partition, the offset behind the last record."""
    partitions = [each for topic in topics for each in await partitions_of(config, topic)]
    async with log_reader(config) as consumer:
        consumer.assign(partitions)
        return await consumer.end_offsets(partitions)


async def records_of(config: Config, topic: str) -> list[ConsumerRecord]:
    """Read all records of a topic, ordered by partition and offset."""
    ends = await ends_of(config, topic)
    found: list[ConsumerRecord] = []
    async with log_reader(config) as consumer:
        consumer.assign(list(ends))
        with anyio.fail_after(30):
            while any([await consumer.position(each) < end for each, end in ends.items()]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found.extend(records)
    return sorted(found, key=lambda each: (each.partition, each.offset))


async def send(
    config: Config, values: Iterable[bytes | None], *, topic: str = "", partition: int = 0, key: bytes | None = None
) -> list[int]:
    """Write raw records, to the trials topic by default; return their offsets."""
    producer = AIOKafkaProducer(**config.kafka_client(), acks="all", max_request_size=4 * 1024 * 1024)
    await producer.start()
    try:
        topic = topic or config.trials_topic
        sent = [await producer.send(topic, value=each, key=key, partition=partition) for each in values]
        return [(await each).offset for each in sent]
    finally:
        await producer.stop()


async def set_limit(config: Config, limit: int) -> None:
    """Set the largest size of a batch (`max.message.bytes`) of the trials topic, and wait until all partitions have it.

    A broker applies a setting some time after it reports it, so records are sent to each partition until one above the
    limit is refused and one below is taken; they become dead letters.
    """
    async with admin(config) as client:
        settings = {**_LOG_SETTINGS, "max.message.bytes": str(limit)}
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, config.trials_topic, configs=settings)])

    async def takes(size: int, partition: int) -> bool:
        try:
            await send(config, [bytes(size)], partition=partition)
        except MessageSizeTooLargeError:
            return False
        return True

    for each in await partitions_of(config, config.trials_topic):

        async def applied(number: int = each.partition) -> bool:
            return not await takes(limit + 1, number) and await takes(limit - 200, number)

        await until(applied)


async def delete_topics(config: Config) -> None:
    """Delete all topics of a log, and wait until they are gone."""
    names = {config.trials_topic, config.registry_topic, config.schemas_topic}
    async with admin(config) as client:
        await client.delete_topics(sorted(names))

        async def gone() -> bool:
            return not names & set(await client.list_topics())

        await until(gone)


async def bury(config: Config) -> None:
    """Remove all members from the group, instead of waiting for their sessions to expire."""
    async with admin(config) as client:
        node = await client.find_coordinator(config.consumer_group)
        for response in await client.describe_consumer_groups([config.consumer_group], node):
            for group in response.groups:
                for member, *_ in group[5]:
                    await client._send_request(LeaveGroupRequest(config.consumer_group, member), node)


async def members(config: Config) -> int:
    """Count the members of the group; 0 during a rebalance."""
    async with admin(config) as client:
        node = await client.find_coordinator(config.consumer_group)
        [response] = await client.describe_consumer_groups([config.consumer_group], node)
    [group] = response.groups
    return len(group[5]) if group[2] == "Stable" else 0


# --- The projection


def place(config: Config, end: str = "") -> Namespace:
    """Return the place of a projection by its number or name; that of the first one by default."""
    return Namespace(config.database, f"~{end}" if end else "")


def live(config: Config) -> Namespace:
    """Return the place of the live projection."""
    with MongoClient(config.mongo) as client:
        return _live(client, config)


def _live(client: MongoClient, config: Config) -> Namespace:
    pointer = client[config.database].projection.find_one({"_id": "live"})
    return Namespace.parse(pointer["database"]) if pointer else place(config)


def collections(client: MongoClient[Any], namespace: Namespace) -> dict[str, Any]:
    """Return the collections of a projection by name."""
    return {each: client[namespace.database][namespace.collection(each)] for each in COLLECTIONS}


def projections(config: Config) -> set[Namespace]:
    """Return the places of all projections that have collections."""
    with MongoClient(config.mongo) as client:
        names = [
            (database, *name.partition("~"))
            for database in client.list_database_names()
            if database.split("~")[0] == config.database
            for name in client[database].list_collection_names()
        ]
    return {Namespace(database, sign + end) for database, name, sign, end in names if name in COLLECTIONS}


def checkpoints(config: Config) -> dict[str, int]:
    """Return, by partition, the offset up to which it is folded."""
    with MongoClient(config.mongo) as client:
        return _checkpoints(client, config)


def _checkpoints(client: MongoClient, config: Config) -> dict[str, int]:
    found = collections(client, _live(client, config))["checkpoints"].find({"offset": {"$exists": True}})
    return {each["_id"]: each["offset"] for each in found}


# A wait uses one client: to make one takes ten times the processor time of its queries, and slows the consumer down.
async def caught_up(config: Config, seconds: float = 40.0) -> None:
    """Wait until every record of the log is folded."""
    ends = await ends_of(config, config.trials_topic, config.registry_topic)
    wanted = {f"{each.topic}/{each.partition}": end for each, end in ends.items()}

    with MongoClient(config.mongo) as client:

        def met() -> bool:
            reached = _checkpoints(client, config)
            return all(reached.get(each, -1) >= end for each, end in wanted.items())

        await until(met, seconds)


def folded(config: Config) -> int:
    """Count the folded events."""
    return sum(checkpoints(config).values())


async def folds_on(config: Config, events: int) -> None:
    """Wait until a number of further events is folded."""
    wanted = folded(config) + events
    with MongoClient(config.mongo) as client:
        await until(lambda: sum(_checkpoints(client, config).values()) >= wanted)


def snapshot(config: Config, projection: Namespace | None = None) -> dict[str, dict[str, bytes]]:
    """Read every document of every collection as BSON bytes; of checkpoints, all fields except those of the owner.

    Args:
        config: Settings with the address of MongoDB and the prefix.
        projection: Place of a projection; the live one by default.
    """
    namespace = projection or live(config)
    with MongoClient(config.mongo, document_class=RawBSONDocument) as client:
        read = collections(client, namespace)
        found = {name: {each["_id"]: each.raw for each in read[name].find()} for name in _FOLDED}
    with MongoClient(config.mongo) as client:
        positions = collections(client, namespace)["checkpoints"].find({}, {"epoch": 0, "session": 0})
        found["checkpoints"] = {each["_id"]: bson.encode(each) for each in positions}
    return found


def differences(before: dict[str, dict[str, bytes]], after: dict[str, dict[str, bytes]]) -> list[str]:
    """List the documents that differ, for a readable failure."""
    return [
        f"{name} {id_}: {_decoded(documents.get(id_))} -> {_decoded(after[name].get(id_))}"
        for name, documents in before.items()
        for id_ in documents.keys() | after[name].keys()
        if documents.get(id_) != after[name].get(id_)
    ]


def _decoded(raw: bytes | None) -> str:
    return "nothing" if raw is None else str(bson.decode(raw))[:600]


def drop(config: Config) -> None:
    """Drop the databases of all projections."""
    with MongoClient(config.mongo) as client:
        for name in [each for each in client.list_database_names() if each.split("~")[0] == config.database]:
            client.drop_database(name)


# --- Processes


class WarmConsumer(ConsumerService):
    """A consumer that begins with its modules imported: see `warm.py`."""

    def _spawn_process(self, command, env=None):
        log = self._files.open_file(self.log.name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            return warm.WarmProcess(command, env=env or os.environ, cwd=self.folder, stdout=log, stderr=log)
        finally:
            os.close(log)


def log_lines(service: ConsumerService) -> list[dict[str, object]]:
    """Parse the log of a consumer; a line that is not JSON fails."""
    return [json.loads(line) for line in service.log.read_text().splitlines()]


def log_entries(service: ConsumerService, event: str) -> list[dict[str, object]]:
    """Return the lines of one event in the log of a consumer."""
    return [line for line in log_lines(service) if line["event"] == event]


def terminate(service: ConsumerService, seconds: float) -> tuple[int, float]:
    """Send SIGTERM; return the exit code and the seconds until the exit."""
    process = service._process
    assert process is not None
    started = time.monotonic()
    service.signal(signal.SIGTERM)
    code = process.wait(seconds)
    return code, time.monotonic() - started


def cli(
    config: Config, *arguments: str, seconds: float = 60.0, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a `trialstream` command to its end, with its modules imported before: see `warm.py`."""
    env = {**os.environ, **settings(config), **(environment or {})}
    command: Sequence[str] = [sys.executable, "-m", "trialstream_console.cli", *arguments]
    return warm.run(command, env=env, timeout=seconds)
