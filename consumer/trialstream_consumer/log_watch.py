"""The watch over a log: notices that topics were recreated while a consumer runs.

- A consumer reads the metadata of its topics every ten seconds (`group_consumer`). Topics that are deleted or appear
  change the assignment of the group, and each assignment leads to a check of the log's identity (`check`).
- A consumer that was paused or cut off while the topics were recreated sees no other assignment. So the first record of
  the registry, which identifies the log, is also compared every ten seconds, by its append time (`run`): one request
  over a connection that exists anyway. The record itself is read only if the time has changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndTimestamp
from trialstream.config import Config
from trialstream.event_log.identity import found_in_time, read_identity
from trialstream_schemas.errors import LogMismatch, ServerUnavailable

from trialstream_consumer.projection.store import Store

__all__ = ["LogWatch"]

_WATCH_SECONDS = 10.0


class LogWatch:
    """Checks that the topics still hold the log from which a projection is folded.

    Args:
        config: Settings with the address of Kafka and the names of the topics.
        consumer: A started consumer.
    """

    def __init__(self, config: Config, consumer: AIOKafkaConsumer) -> None:
        self._config = config
        self._consumer = consumer
        self._log = structlog.get_logger(__name__)
        self._registry = TopicPartition(config.registry_topic, 0)
        self._checking = anyio.Lock()
        self._is_checked = False
        # Append time of the first record of the registry that `run` has checked, milliseconds since 1970 UTC.
        self._appended: int | None = None

    def expect_change(self) -> None:
        """Let the next `check` read the identity of the log again: after an assignment or a failure."""
        self._is_checked = False

    async def check(self, store: Store) -> None:
        """Check the identity of the log, unless it was checked since the last `expect_change`.

        Args:
            store: Store of the projection.

        Raises:
            KafkaUnavailable: No broker answered, or the registry has had no record for 10 seconds.
            LogMismatch: The projection was folded from another log.
            MongoUnavailable: MongoDB did not answer.
        """
        async with self._checking:
            if not self._is_checked:
                self._is_checked = True  # before the check: a change during it asks for another one
                try:
                    await store.ownership.check_log(await read_identity(self._config))
                except BaseException:
                    self._is_checked = False
                    raise

    async def run(self, live: Callable[[], Awaitable[Store]]) -> None:
        """Compare the log with the one that was checked before, every ten seconds, until it is another one.

        Args:
            live: Returns the store of the live projection.

        Raises:
            LogMismatch: The topics were recreated, or the registry lost its records.
        """
        while True:
            try:
                await self._compare(live)
            except (KafkaError, ServerUnavailable) as error:
                topic = self._config.registry_topic
                self._log.warning("log_unchecked", topic=topic, reason=f"{error!r}; check that the topic exists")
            await anyio.sleep(_WATCH_SECONDS)

    async def _compare(self, live: Callable[[], Awaitable[Store]]) -> None:
        first = await found_in_time(self._first)
        if first is None:
            live_one = (await live()).namespace
            raise LogMismatch(
                f"{self._config.registry_topic} is empty, but {live_one} was folded from it: the topics were "
                f"recreated; restore the log, or drop database {live_one.database} to fold the new log"
            )
        if first.timestamp != self._appended:
            self.expect_change()
            await self.check(await live())
            self._appended = first.timestamp

    async def _first(self) -> OffsetAndTimestamp | None:
        """Find the first record of the registry; None if it looks empty."""
        found: dict[TopicPartition, OffsetAndTimestamp | None]
        found = await self._consumer.offsets_for_times({self._registry: 0})
        return found[self._registry]
