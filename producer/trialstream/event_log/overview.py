"""Kafka's state of a log: its topics with their settings and sizes, the ends of its partitions, and its consumers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import anyio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Int64, Schema, String

from trialstream.config import Config
from trialstream.event_log.clients import open_admin, open_consumer, waits_for_kafka
from trialstream.event_log.diagnosis import Operation, kafka_trouble
from trialstream.event_log.topics import Route

__all__ = ["LogOverview", "Member", "TopicOverview", "append_times", "log_overview"]

_TIMES_SECONDS = 1.5


class TopicOverview(NamedTuple):
    """A topic.

    Attributes:
        name: Its name.
        partitions: Number of partitions.
        replication: Number of replicas.
        size: Bytes on the disks of the leaders; None if this client may not see it.
        settings: Its settings by name; empty if this client may not see them.
    """

    name: str
    partitions: int
    replication: int
    size: int | None
    settings: Mapping[str, str]


class Member(NamedTuple):
    """A member of the consumer group.

    Attributes:
        id: Its id.
        host: Address of its machine.
        partitions: The partitions that it has.
    """

    id: str
    host: str
    partitions: list[Route]


class LogOverview(NamedTuple):
    """Kafka's state of a log.

    Attributes:
        topics: The topics that exist.
        begins: The first offset of each partition of events.
        ends: The offset after the last event of each of these partitions.
        members: The members of the consumer group; none if this client may not see them.
        troubles: The rights that this client lacks to see the rest, a sentence for each kind.
    """

    topics: list[TopicOverview]
    begins: dict[Route, int]
    ends: dict[Route, int]
    members: list[Member]
    troubles: list[str]


class _Refused:
    """The rights that were missing at the requests of a look."""

    def __init__(self) -> None:
        self.rights: list[tuple[KafkaError, Operation]] = []

    def topics(self, names: list[str], operation: Operation) -> None:
        """Note that an operation on topics, if there are any, was refused."""
        if names:
            self.rights.append((TopicAuthorizationFailedError(names), operation))


class _DescribeLogDirsResponse(Response):
    API_KEY = 35
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "log_dirs",
            Array(
                ("error_code", Int16),
                ("log_dir", String("utf-8")),
                (
                    "topics",
                    Array(
                        ("name", String("utf-8")),
                        (
                            "partitions",
                            Array(
                                ("partition", Int32),
                                ("size", Int64),
                                ("offset_lag", Int64),
                                ("is_future", Boolean),
                            ),
                        ),
                    ),
                ),
            ),
        ),
    )


class _DescribeLogDirsStruct(RequestStruct):
    API_KEY = 35
    API_VERSION = 1
    RESPONSE_TYPE = _DescribeLogDirsResponse
    SCHEMA = Schema(("topics", Array(("topic", String("utf-8")), ("partitions", Array(Int32)))))


class _DescribeLogDirs(Request[_DescribeLogDirsStruct]):
    """The request for the sizes of partitions, which aiokafka lacks."""

    API_KEY = 35

    def __init__(self, partitions: Mapping[str, list[int]]) -> None:
        self._partitions = partitions

    def build(self, request_struct_class: type[_DescribeLogDirsStruct]) -> _DescribeLogDirsStruct:
        return request_struct_class(list(self._partitions.items()))


@waits_for_kafka
async def log_overview(config: Config) -> LogOverview:
    """Look at the log.

    Args:
        config: Where Kafka is, and the names of the topics and of the group.

    Returns:
        What Kafka has of it; without the parts that this client has no right to see.

    Raises:
        KafkaUnavailable: No broker answered.
    """
    names = (config.trials_topic, config.registry_topic, config.schemas_topic)
    refused = _Refused()
    async with open_admin(config) as admin:
        found = await admin.describe_topics(list(names))
        refused.topics([each["topic"] for each in found if _is_refused(each["error_code"])], "Describe")
        described = [each for each in found if not each["error_code"]]
        settings = await _settings(admin, [each["topic"] for each in described], refused)
        sizes = await _sizes(admin, described, refused)
        members = await _members(admin, config.consumer_group, refused)
    troubles = [await kafka_trouble(config, *each) for each in refused.rights]
    topics = [
        TopicOverview(
            each["topic"],
            len(each["partitions"]),
            max(len(part["replicas"]) for part in each["partitions"]),
            sizes.get(each["topic"]),
            settings.get(each["topic"], {}),
        )
        for each in described
        if each["partitions"]
    ]
    places = [
        TopicPartition(each.name, number)
        for each in topics
        if each.name != config.schemas_topic
        for number in range(each.partitions)
    ]
    if not places:
        return LogOverview(topics, {}, {}, members, troubles)
    async with open_consumer(config, isolation_level="read_uncommitted") as consumer:
        begins, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
    return LogOverview(topics, _by_route(begins), _by_route(ends), members, troubles)


@waits_for_kafka
async def append_times(config: Config, offsets: Mapping[Route, int]) -> dict[Route, int]:
    """Read when the records at some offsets were appended.

    Args:
        config: Where Kafka is.
        offsets: The offset of a record by partition; a partition need not have one there.

    Returns:
        The times by partition, milliseconds since 1970 UTC; without the partitions that have no record there.

    Raises:
        KafkaUnavailable: No broker answered.
    """
    found: dict[Route, int] = {}
    if not offsets:
        return found
    async with open_consumer(config, isolation_level="read_uncommitted", max_partition_fetch_bytes=4096) as consumer:
        places = {TopicPartition(*route): offset for route, offset in offsets.items()}
        consumer.assign(list(places))
        for place, offset in places.items():
            consumer.seek(place, offset)
        with anyio.move_on_after(_TIMES_SECONDS), suppress(OffsetOutOfRangeError):
            await _read_times(consumer, places, found)
    return found


async def _read_times(consumer: AIOKafkaConsumer, places: Iterable[TopicPartition], found: dict[Route, int]) -> None:
    missing = {*places}
    while missing:
        for place, records in (await consumer.getmany(*missing, timeout_ms=200, max_records=1)).items():
            if records:
                found[Route(place.topic, place.partition)] = records[0].timestamp
                missing.discard(place)


def _is_refused(code: int) -> bool:
    return for_code(code) is TopicAuthorizationFailedError


async def _settings(admin: AIOKafkaAdminClient, topics: list[str], refused: _Refused) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    hidden: list[str] = []
    if not topics:
        return found
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in topics]
    with suppress(KafkaError):
        for response in await admin.describe_configs(resources):
            for code, _, _, name, entries in response.resources:  # type: ignore[attr-defined]  # depends on its version
                if _is_refused(code):
                    hidden.append(name)
                elif not code:
                    found[name] = {entry[0]: entry[1] for entry in entries}
    refused.topics(hidden, "DescribeConfigs")
    return found


async def _sizes(admin: AIOKafkaAdminClient, described: list[dict[str, Any]], refused: _Refused) -> dict[str, int]:
    """Return the bytes of topics on the disks of the leaders of their partitions."""
    client = admin._client  # noqa: SLF001 (it has no public name)
    leaders: dict[int, dict[str, list[int]]] = {}
    for each in described:
        for part in each["partitions"]:
            leaders.setdefault(part["leader"], {}).setdefault(each["topic"], []).append(part["partition"])
    found: dict[str, int] = {}
    is_hidden = False
    for node, partitions in leaders.items():
        with suppress(KafkaError, NotImplementedError):
            response: Any = await client.send(node, _DescribeLogDirs(partitions))
            is_hidden = is_hidden or not response.log_dirs  # this version of the answer has no error for it
            for code, _, topics in response.log_dirs:
                for name, parts in topics if not code else ():
                    found[name] = found.get(name, 0) + sum(size for _, size, _, is_future in parts if not is_future)
    if is_hidden:
        refused.rights.append((ClusterAuthorizationFailedError(), "Describe"))
    return found


async def _members(admin: AIOKafkaAdminClient, group: str, refused: _Refused) -> list[Member]:
    found: list[Member] = []
    try:
        for response in await admin.describe_consumer_groups([group]):
            members = [each for described in response.groups for each in described[5]]  # type: ignore[attr-defined]
            for id_, _, host, _, assignment, *_ in members:
                parts = ConsumerProtocolMemberAssignment.decode(assignment).partitions() if assignment else []
                found.append(Member(id_, host.lstrip("/"), [Route(*each) for each in parts]))
    except GroupAuthorizationFailedError:  # of the search for the coordinator
        refused.rights.append((GroupAuthorizationFailedError(group), "Describe"))
    except KafkaError:  # the coordinator is not available
        pass
    return sorted(found)


def _by_route(offsets: Mapping[TopicPartition, int]) -> dict[Route, int]:
    return {Route(each.topic, each.partition): offset for each, offset in offsets.items()}
