"""Clients of Kafka: every aiokafka client is made here, stopped within a deadline, and its errors are translated.

- A client that is opened for a block is started on entry and stopped on exit, also when the block fails or is
  cancelled. While no broker answers, aiokafka may take any time to stop, so each stop has a deadline.
- An error of aiokafka that leaves such a block is raised as `KafkaUnavailable`.
- What a client fetches is screened (`screening.py`), and committed unless the caller says otherwise.
- A client that outlives a block (`lone_consumer`, `group_consumer`, `batch_producer`) is returned before it is started;
  its owner starts and stops it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import anyio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.metadata import MetadataRequest
from trialstream_schemas.errors import KafkaUnavailable, TrialStreamError

from trialstream.config import Config
from trialstream.event_log.diagnosis import Operation, kafka_trouble
from trialstream.event_log.idling import IdlingConsumer
from trialstream.event_log.screening import screen_fetches
from trialstream.waiting import waiting_for

__all__ = [
    "BATCH_BYTES",
    "batch_producer",
    "close_consumer",
    "group_consumer",
    "kafka_errors",
    "leave_on_stop",
    "lone_consumer",
    "open_admin",
    "open_batch_producer",
    "open_client",
    "open_consumer",
    "open_producer",
    "raise_group_error",
    "stop_consumer",
    "stop_producer",
    "waits_for_kafka",
]

T = TypeVar("T")
P = ParamSpec("P")

logger = logging.getLogger("trialstream")

# aiokafka logs every failed attempt during an outage. Without this handler, Python's handler of last resort would print
# these lines to stderr in programs that have not configured logging.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())

# Just under Kafka's default of 1 MiB for a batch (message.max.bytes), with room for the batch's own header.
BATCH_BYTES = 1_000_000
# Positions come from checkpoints in MongoDB, or are the first offset; offsets committed to Kafka are never read. A
# position that is not in the log is an error, after which the log is checked. The screening compares the checksums.
_READING: dict[str, Any] = {
    "enable_auto_commit": False,
    "auto_offset_reset": "none",
    "isolation_level": "read_committed",
    "check_crcs": False,
}
# aiokafka leaves the group when no record was fetched for this long, and joins again only at the next fetch. While the
# partitions are revoked nothing is fetched, so with aiokafka's default of 5 minutes, a longer outage of MongoDB ended
# the folding for ever. This is the largest value that Kafka's protocol takes (a signed 32-bit integer).
_MAX_POLL_INTERVAL_MS = 2**31 - 1
# By default, aiokafka notices topics that were recreated or added after 5 minutes. A request for the metadata of two
# topics every 10 s costs nothing.
_METADATA_AGE_MS = 10_000
_STOP_SECONDS = 2.0


@asynccontextmanager
async def kafka_errors(config: Config, operation: Operation = "Read") -> AsyncIterator[None]:
    """Translate the errors of aiokafka that the block raises, and time limits that it exceeds.

    Args:
        config: Where Kafka is.
        operation: What the block does with topics, for the message if it may not.

    Raises:
        KafkaUnavailable: A request to Kafka failed; the message has the addresses, the step that failed (DNS,
            connection, TLS, authentication or authorization), and what to do.
    """
    try:
        yield
    except TrialStreamError:  # some are a TimeoutError
        raise
    except (KafkaError, TimeoutError) as error:
        raise KafkaUnavailable(await kafka_trouble(config, error, operation)) from error


@asynccontextmanager
async def open_client(config: Config, operation: Operation = "Read") -> AsyncIterator[AIOKafkaClient]:
    """A client that only sends requests, for one block: the fewest connections.

    Args:
        config: Where Kafka is.
        operation: As for `kafka_errors`.

    Raises:
        KafkaUnavailable: No broker answered, or a request in the block failed.
    """
    client = AIOKafkaClient(**config.kafka_client())
    screen_fetches(client)
    async with kafka_errors(config, operation):
        try:
            await _bootstrap(client, config)
            yield client
        finally:
            with anyio.move_on_after(_STOP_SECONDS, shield=True):
                await client.close()


async def _bootstrap(client: AIOKafkaClient, config: Config) -> None:
    """Do what `AIOKafkaClient.bootstrap` does, and go on with its connection, if that is one to a broker.

    aiokafka closes it, opens another one to the same broker, and then asks for the topics.

    Args:
        client: A client that is not started yet.
        config: Where Kafka is.

    Raises:
        KafkaConnectionError: No server returned the metadata of the cluster.
    """
    settings = config.kafka_client()
    del settings["bootstrap_servers"]
    for host, port, _ in client.hosts:
        try:
            connection = await create_conn(host, port, **settings)
        except (KafkaError, OSError, TimeoutError) as error:
            logger.debug("no connection to %s:%s: %s", host, port, error)
            continue
        try:
            metadata = await connection.send(MetadataRequest(None))
        except BaseException as error:
            connection.close()
            if not isinstance(error, (KafkaError, TimeoutError)):
                raise
            logger.debug("no metadata from %s:%s: %s", host, port, error)
            continue
        client.cluster.update_metadata(metadata)
        brokers = {(each.host, each.port): each.nodeId for each in client.cluster.brokers()}
        # A cluster without topics may have no brokers yet; aiokafka asks the server by this name until it has.
        if (node := brokers.get((host, port)) if brokers else "bootstrap") is None:
            connection.close()
        else:
            client._conns[node, ConnectionGroup.DEFAULT] = connection  # noqa: SLF001 (it has no public name)
        client._sync_task = asyncio.create_task(client._md_synchronizer())  # noqa: SLF001
        return
    raise KafkaConnectionError(f"Unable to bootstrap from {client.hosts}")


def waits_for_kafka(
    function: Callable[Concatenate[Config, P], Awaitable[T]],
) -> Callable[Concatenate[Config, P], Coroutine[Any, Any, T]]:
    """Decorate a coroutine function that only waits for Kafka, so that commands show it (`trialstream.waiting`).

    Args:
        function: The function; its first argument is the configuration.
    """

    @wraps(function)
    async def waiting(config: Config, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with waiting_for(f"Kafka at {config.kafka}"):
            return await function(config, *args, **kwargs)

    return waiting


@asynccontextmanager
async def open_consumer(config: Config, **settings: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer outside of any group, for one block. The caller assigns its partitions.

    Args:
        config: Where Kafka is.
        **settings: Further settings of the consumer.

    Raises:
        KafkaUnavailable: No broker answered, or a request in the block failed.
    """
    consumer = lone_consumer(config, **settings)
    async with kafka_errors(config):
        try:
            with waiting_for(f"Kafka at {config.kafka}"):
                await consumer.start()
            yield consumer
        finally:
            await close_consumer(consumer)


def lone_consumer(config: Config, **settings: Any) -> AIOKafkaConsumer:
    """A consumer outside of any group, not started yet. Its owner stops it with `close_consumer`.

    Args:
        config: Where Kafka is.
        **settings: Further settings of the consumer.
    """
    consumer = AIOKafkaConsumer(**config.kafka_client(), **{**_READING, **settings})
    screen_fetches(consumer._client)  # noqa: SLF001 (it has no public name)
    return consumer


async def close_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer within a deadline, also on cancellation.

    Args:
        consumer: A consumer, started or not.
    """
    with anyio.move_on_after(_STOP_SECONDS, shield=True):
        await stop_consumer(consumer)


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer, even while it waits to retry a fetch. The caller sets the deadline.

    `AIOKafkaConsumer.stop` cancels such a fetch, raises the fetch's CancelledError and leaves the connections open. It
    runs in a task of its own, so that the CancelledError is not taken for a cancellation of the caller.

    Args:
        consumer: A consumer, started or not.
    """
    stopping = asyncio.ensure_future(consumer.stop())
    try:
        await asyncio.wait([stopping])
    finally:
        stopping.cancel()  # at the deadline; without effect on a stop that has ended
    if stopping.cancelled():
        await consumer._client.close()  # noqa: SLF001
    else:
        stopping.result()


def group_consumer(config: Config, instance: str | None = None, **settings: Any) -> AIOKafkaConsumer:
    """A consumer in the group of the consumer service, not started yet.

    Its owner stops it within a deadline of its own, after the workers that read from it.

    Args:
        config: Where Kafka is, and the name of the group.
        instance: Name of a static member: if its process is killed, the next process with this name gets the same
            partitions at once, without a rebalance. None for a member whose partitions go to others.
        **settings: Further settings of the consumer.
    """
    return IdlingConsumer(
        **config.kafka_client(),
        group_id=config.consumer_group,
        group_instance_id=instance,
        max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
        metadata_max_age_ms=_METADATA_AGE_MS,
        **_READING,
        **settings,
    )


def raise_group_error(consumer: AIOKafkaConsumer) -> None:
    """Raise the error by which the consumer cannot be a member of its group.

    aiokafka raises it at fetches only, and tries again after each: a member that gets no partitions fetches nothing.

    Args:
        consumer: A started consumer of `group_consumer`.

    Raises:
        KafkaError: The group cannot be joined, for lack of a right for example.
    """
    if consumer._coordinator is not None:  # noqa: SLF001
        consumer._coordinator.check_errors()  # noqa: SLF001


def leave_on_stop(consumer: AIOKafkaConsumer) -> None:
    """Let a static member leave the group when it is stopped.

    aiokafka leaves it in the group, so that its partitions would wait for the end of its session, ten seconds.

    Args:
        consumer: A consumer of `group_consumer`, started or not.
    """
    if consumer._coordinator is not None:  # noqa: SLF001
        consumer._coordinator._group_instance_id = None  # noqa: SLF001


@asynccontextmanager
async def open_producer(config: Config) -> AsyncIterator[AIOKafkaProducer]:
    """A producer for a few records, for one block.

    Args:
        config: Where Kafka is.

    Raises:
        KafkaUnavailable: No broker answered, or a request in the block failed.
    """
    # 5 ms of linger: records sent in a row, like the schemas of a version, go in one request.
    producer = AIOKafkaProducer(**config.kafka_client(), acks="all", linger_ms=5)
    async with kafka_errors(config, "Write"):
        try:
            await producer.start()
            yield producer
        finally:
            await stop_producer(producer, _STOP_SECONDS)


def batch_producer(config: Config, request_seconds: float) -> AIOKafkaProducer:
    """A producer for batches of up to `BATCH_BYTES` that the caller fills, not started yet.

    aiokafka's idempotence is off: it ties order and completeness to a broker session whose loss it does not survive in
    bounded time (docs/architecture.md has the figures). The caller keeps the order by having one batch of a partition
    in flight at a time, and the fold skips repetitions.

    Args:
        config: Where Kafka is.
        request_seconds: Timeout of one request.
    """
    return AIOKafkaProducer(
        **{**config.kafka_client(), "request_timeout_ms": int(request_seconds * 1000)},
        acks="all",
        enable_idempotence=False,
        max_batch_size=BATCH_BYTES,
    )


@asynccontextmanager
async def open_batch_producer(config: Config, request_seconds: float) -> AsyncIterator[AIOKafkaProducer]:
    """A `batch_producer` for one block.

    Args:
        config: Where Kafka is.
        request_seconds: Timeout of one request.

    Raises:
        KafkaUnavailable: No broker answered, or a request in the block failed.
    """
    producer = batch_producer(config, request_seconds)
    async with kafka_errors(config, "Write"):
        try:
            with waiting_for(f"Kafka at {config.kafka}"):
                await producer.start()
            yield producer
        finally:
            await stop_producer(producer, _STOP_SECONDS)


async def stop_producer(producer: AIOKafkaProducer, seconds: float) -> None:
    """Stop a producer, even if no broker takes its batches.

    `AIOKafkaProducer.stop` waits until all batches are sent. Past the deadline the producer would go on sending over
    connections that stay open, so its sender and its connections are then closed directly.

    Args:
        producer: A producer, started or not.
        seconds: Maximum duration of the orderly stop, and also of the forced one.
    """
    with anyio.move_on_after(seconds, shield=True) as stopping:
        await producer.stop()
    if stopping.cancelled_caught:
        # Both together: the sender waits for requests in flight, and these end when the connections are closed.
        rest = producer._sender.close(), producer.client.close()  # noqa: SLF001
        with anyio.move_on_after(seconds, shield=True):
            await asyncio.wait([asyncio.ensure_future(each) for each in rest])


@asynccontextmanager
async def open_admin(config: Config) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client, for one block.

    Args:
        config: Where Kafka is.

    Raises:
        KafkaUnavailable: No broker answered, or a request in the block failed.
    """
    admin = AIOKafkaAdminClient(**config.kafka_client())
    async with kafka_errors(config, "Create"):
        try:
            await admin.start()
            yield admin
        finally:
            with anyio.move_on_after(_STOP_SECONDS, shield=True):
                await admin.close()
