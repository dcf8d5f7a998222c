"""The service as it runs: lag, topics, consumers, projections, spools, dead letters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypedDict, TypeVar

import anyio.to_thread
from trialstream.event_log.overview import LogOverview, append_times, log_overview
from trialstream.event_log.topics import Route
from trialstream_schemas.errors import TrialStreamError
from trialstream_schemas.storage.collections import Namespace

from trialstream_console.dashboard.caches import PerContext, Recent
from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.endpoints import Endpoint
from trialstream_console.operations.dead_letters import dead_letter_count
from trialstream_console.operations.progress import folded_offsets, lags
from trialstream_console.operations.projections import list_projections
from trialstream_console.operations.spools import own_spools

__all__ = ["ENDPOINTS"]

T = TypeVar("T")

# Several pages share a look; the rate of a partition is that since the look before.
_SECONDS = 2.0
_PART_SECONDS = 6.0


class PartitionInfo(TypedDict):
    """A partition of the log.

    Attributes:
        topic: Its topic.
        partition: Its number.
        begin: First offset.
        end: Offset after the last event.
        folded: Offset up to which the live projection is folded; null if that is unknown.
        lag: Number of records that are not folded.
        lag_seconds: Age of the first of them, seconds.
        rate: New events per second since the last look.
        owner: Id of the consumer that folds it.
    """

    topic: str
    partition: int
    begin: int
    end: int
    folded: int | None
    lag: int | None
    lag_seconds: float | None
    rate: float | None
    owner: str | None


class ProjectionInfo(TypedDict):
    """A projection.

    Attributes:
        name: Name of its database.
        live: Whether it is the live one.
        size: Size on disk, bytes.
        trials: Number of its trials, about.
        until: Append time until which the log was folded into it; null for the whole log.
        state: `live`, `ready`, `unfinished` or `left over`.
    """

    name: str
    live: bool
    size: int
    trials: int
    until: int | None
    state: str


class TopicInfo(TypedDict):
    """A topic.

    Attributes:
        name: Its name.
        partitions: Number of partitions.
        replication: Number of replicas.
        bytes: Size on the disks of the leaders; null if it may not be seen.
        retention: How long and how much is kept, in words.
        cleanup: Cleanup policy.
    """

    name: str
    partitions: int
    replication: int
    bytes: int | None
    retention: str
    cleanup: str


class ConsumerInfo(TypedDict):
    """A member of the consumer group.

    Attributes:
        id: Its id.
        host: Address of its machine.
        partitions: The partitions that it folds.
    """

    id: str
    host: str
    partitions: list[str]


class SpoolInfo(TypedDict):
    """A spool on this machine.

    Attributes:
        path: Its folder.
        events: Number of events that are not sent yet.
        bytes: Their size.
        writers: Number of writers.
    """

    path: str
    events: int
    bytes: int
    writers: int


class Operations(TypedDict):
    """The service as it runs; what cannot be seen is empty or null, and `troubles` says why.

    Attributes:
        partitions: The partitions of events.
        projections: The projections, the live one first.
        topics: The topics.
        consumers: The members of the consumer group.
        spool: The spools of this machine with events; null if this machine has none.
        dead_letters: Number of records that could not be folded.
        troubles: Why something cannot be seen.
    """

    partitions: list[PartitionInfo]
    projections: list[ProjectionInfo]
    topics: list[TopicInfo]
    consumers: list[ConsumerInfo]
    spool: list[SpoolInfo] | None
    dead_letters: int
    troubles: list[str]


class _Looks:
    """The looks of one context.

    Args:
        context: The context.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._recent = Recent[Operations](_SECONDS, 1)
        # The ends of the look before, and when that was.
        self._ends: dict[Route, int] = {}
        self._time = 0.0

    async def look(self) -> Operations:
        """Return a look that is at most two seconds old."""
        return await self._recent.get("look", self._look)

    async def _look(self) -> Operations:
        context, troubles = self._context, []

        async def part(wanted: Awaitable[T], otherwise: T) -> T:
            try:
                async with asyncio.timeout(_PART_SECONDS):
                    return await wanted
            except TimeoutError as error:
                message = str(error) or f"no answer in {_PART_SECONDS:g} s"
            except TrialStreamError as error:
                message = str(error)
            if message not in troubles:
                troubles.append(message)
            return otherwise

        config = context.config
        nothing = LogOverview([], {}, {}, [], [])
        has_kafka, has_mongo = context.kafka == "ok", context.mongo == "ok"
        if not has_kafka:
            troubles.append("Kafka is not used" if context.kafka == "off" else context.kafka)
        if not has_mongo:
            troubles.append(context.mongo)
        log, folded, projections, dead, spools = await asyncio.gather(
            part(log_overview(config) if has_kafka else _result(nothing), nothing),
            part(folded_offsets(config) if has_mongo else _result(None), None),
            part(list_projections(config) if has_mongo else _result([]), []),
            part(dead_letter_count(config) if has_mongo else _result(0), 0),
            part(anyio.to_thread.run_sync(own_spools, config), None),
        )
        troubles += log.troubles
        if context.following != "ok":
            troubles.append(f"pages do not follow changes: {context.following}")
        lag = {} if folded is None else lags(log.ends, folded)
        behind = {route: log.ends[route] - count for route, count in lag.items() if count}
        times = await part(append_times(config, behind), {}) if behind else {}
        owners = {route: each.id for each in log.members for route in each.partitions}
        rates = self._rates(log.ends)
        now = time.time()
        return {
            "partitions": [
                {
                    "topic": route.topic,
                    "partition": route.partition,
                    "begin": log.begins[route],
                    "end": end,
                    "folded": None if folded is None else folded.get(route, 0),
                    "lag": lag.get(route),
                    "lag_seconds": _lag_seconds(route, folded, behind, times, now),
                    "rate": rates.get(route),
                    "owner": owners.get(route),
                }
                for route, end in sorted(log.ends.items())
            ],
            "projections": [
                {
                    "name": str(Namespace(each.database, each.suffix)),
                    "live": each.state == "live",
                    "size": each.size,
                    "trials": each.trials,
                    "until": None if each.until is None else each.until * 1000,
                    "state": each.state,
                }
                for each in projections
            ],
            "topics": [
                {
                    "name": each.name,
                    "partitions": each.partitions,
                    "replication": each.replication,
                    "bytes": each.size,
                    "retention": _retention(each.settings.get("retention.ms"), each.settings.get("retention.bytes")),
                    "cleanup": each.settings.get("cleanup.policy", "unknown"),
                }
                for each in log.topics
            ],
            "consumers": [
                {"id": each.id, "host": each.host, "partitions": [f"{topic}/{n}" for topic, n in each.partitions]}
                for each in log.members
            ],
            "spool": None
            if spools is None
            else [
                {"path": str(each.folder), "events": each.events, "bytes": each.bytes, "writers": 1} for each in spools
            ],
            "dead_letters": dead,
            "troubles": troubles,
        }

    def _rates(self, ends: dict[Route, int]) -> dict[Route, float]:
        """Return the new events per second of each partition since the last call."""
        now = time.monotonic()
        seconds = now - self._time
        known = self._ends
        self._ends, self._time = ends, now
        return {route: max(0.0, (end - known[route]) / seconds) for route, end in ends.items() if route in known}


async def _result(value: T) -> T:
    return value


def _lag_seconds(
    route: Route, folded: dict[Route, int] | None, behind: dict[Route, int], times: dict[Route, int], now: float
) -> float | None:
    if folded is None or (route in behind and route not in times):
        return None
    return max(0.0, now - times[route] / 1000) if route in behind else 0.0


def _retention(milliseconds: str | None, size: str | None) -> str:
    if milliseconds is None or size is None:
        return "unknown"
    parts = []
    if milliseconds != "-1":
        parts.append(f"{int(milliseconds) / 86_400_000:g} days")
    if size != "-1":
        parts.append(f"{int(size)} bytes per partition")
    return ", ".join(parts) or "forever"


_LOOKS = PerContext[_Looks](_Looks)


async def operations(context: Context) -> Operations:
    """The service as it runs; with Kafka or MongoDB away, what the other one has."""
    return await _LOOKS.of(context).look()


ENDPOINTS = (Endpoint("GET", "/operations", operations),)
