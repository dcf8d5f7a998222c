"""Identity of a log: the `LogCreated` event that is the first record of its registry topic.

The event holds a random id and the partition count of the trials topic. If several callers find the registry empty at
the same time, each appends such an event; only the first one counts. It is at offset 0, unless another program has
written to the registry in a transaction and aborted that.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from trialstream_schemas.errors import KafkaUnavailable, LogMismatch, SchemaError
from trialstream_schemas.wire.codec import SchemaStore, encode
from trialstream_schemas.wire.events import LogCreated

from trialstream.config import Config
from trialstream.event_log.clients import open_client
from trialstream.event_log.fetch import StoredRecord, fetch

__all__ = ["append_identity", "check_identity", "find_identity", "found_in_time", "read_identity", "way_on"]

T = TypeVar("T")
# Time for which a registry may look empty although it is not, seconds. A broker that was killed returns only records
# below the high watermark that it had written to disk, every five seconds, until it has restored the present one.
_EMPTY_SECONDS = 5.0
_READ_SECONDS = 10.0
_RETRY_SECONDS = 0.05
# Maximum length of the id of a log; `append_identity` makes one of 16 characters.
_ID_CHARACTERS = 64


async def find_identity(config: Config, client: AIOKafkaClient) -> LogCreated | None:
    """Find the identity of the log in one request.

    Args:
        config: Names the registry.
        client: A started client.

    Returns:
        The identity; None if the registry is empty.

    Raises:
        KafkaError: The registry could not be read.
        LogMismatch: The beginning of the registry was deleted, or is not the identity of a log.
    """
    try:
        record = await _first_record(config, client)
    except OffsetOutOfRangeError:
        raise LogMismatch(
            f"{config.registry_topic} does not begin at offset 0: its beginning was deleted, and with it the identity "
            "of the log; set another TRIALSTREAM_PREFIX to begin a new log"
        ) from None
    if record is None:
        return None
    try:
        event: object = record.fault or SchemaStore().decode(record.value or b"")
    except SchemaError as error:
        event = str(error)
    if isinstance(event, LogCreated):
        if len(event.log) <= _ID_CHARACTERS and event.partitions > 0:
            return event
        event = f"LogCreated with an id of {len(event.log)} characters and {event.partitions} partitions"
    got = event if isinstance(event, str) else type(event).__name__
    raise LogMismatch(
        f"{config.registry_topic}/0, offset {record.offset}: expected LogCreated, the identity of the log, got {got}. "
        "If this is no topic of trialstream, set another TRIALSTREAM_PREFIX; otherwise another program wrote its first "
        f"record: {way_on(config)}"
    )


def way_on(config: Config) -> str:
    """Advice for messages about a log whose identity is wrong: nothing can be written to it or folded from it.

    Args:
        config: Names the topics.
    """
    topics = f"{config.registry_topic}, {config.trials_topic}, {config.schemas_topic}"
    return (
        f"save the events by `trialstream export FILE`, delete the topics {topics} (kafka-topics.sh --delete), and run "
        "`trialstream import FILE` (docs/operations.md, A registry with a wrong beginning)"
    )


async def _first_record(config: Config, client: AIOKafkaClient) -> StoredRecord | None:
    """Fetch the first record of the registry; None if nothing can be read there."""
    position, stable = 0, 1
    while position < stable:
        found = await fetch(client, TopicPartition(config.registry_topic, 0), position, 1)  # a whole batch in any case
        if found.records or found.position == position:
            return found.records[0] if found.records else None
        position, stable = found.position, found.stable
    return None


async def found_in_time(find: Callable[[], Awaitable[T | None]], seconds: float = _EMPTY_SECONDS) -> T | None:
    """Look for something in the registry until it is found, since the registry may look empty: see `_EMPTY_SECONDS`.

    Args:
        find: Looks for it; returns None if the registry looks empty.
        seconds: Time to look, seconds; at least one look is made.

    Returns:
        What was found; None if the registry has stayed empty.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = await find()
        if found is not None or time.monotonic() >= deadline:
            return found
        await anyio.sleep(_RETRY_SECONDS)


async def check_identity(config: Config, client: AIOKafkaClient, log: str, *, patience: float = _EMPTY_SECONDS) -> None:
    """Check that the topics still belong to the log that was found before.

    Args:
        config: Names the registry.
        client: A started client.
        log: Id of the log; empty if this client may not read it, and then nothing is checked.
        patience: Time for which the registry may look empty, seconds.

    Raises:
        KafkaError: The registry could not be read.
        LogMismatch: The topics belong to another log, or the registry has stayed empty.
    """
    if not log:
        return
    found = await found_in_time(lambda: find_identity(config, client), patience)
    if found is None or found.log != log:
        raise LogMismatch(
            f"{config.registry_topic} of Kafka at {config.kafka} {f'is log {found.log}' if found else 'is empty'}, but "
            f"this process has logged to log {log}: the topics were recreated, or TRIALSTREAM_KAFKA names another Kafka"
        )


async def append_identity(config: Config, producer: AIOKafkaProducer, partitions: int) -> None:
    """Append the identity of a new log to an empty registry.

    Args:
        config: Names the registry.
        producer: A started producer.
        partitions: Partition count of the trials topic.
    """
    created = LogCreated(time=time.time_ns() // 1000, log=secrets.token_hex(8), partitions=partitions)
    await producer.send_and_wait(config.registry_topic, value=encode(created), partition=0)


async def read_identity(config: Config) -> LogCreated:
    """Read the identity of the log that the topics hold now. Creates nothing.

    Args:
        config: Where Kafka is.

    Raises:
        KafkaUnavailable: No broker answered, or the registry has had no record for 10 seconds.
        LogMismatch: The first record of the registry is not the identity of a log.
    """
    async with open_client(config) as client:

        async def find() -> LogCreated | None:
            try:
                return await find_identity(config, client)
            except KafkaError as error:
                if not error.retriable:
                    raise
                return None

        with anyio.move_on_after(_READ_SECONDS):
            if (found := await found_in_time(find, _READ_SECONDS)) is not None:
                return found
    raise KafkaUnavailable(
        f"{config.registry_topic}: expected a record at offset 0, got none from Kafka at {config.kafka} in "
        f"{_READ_SECONDS:g} s; check that the topic was not deleted, and that no transaction of another program is "
        "open in it"
    )
