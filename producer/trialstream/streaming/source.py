"""The interface of a log that can be streamed: that of Kafka, in memory, or in a file."""

from __future__ import annotations

import typing
from collections.abc import Collection, Mapping

from trialstream_schemas.wire.codec import SchemaStore
from trialstream_schemas.wire.events import LogCreated

from trialstream.event_log.records import Records
from trialstream.event_log.topics import Route

__all__ = ["HasLog", "LogSource"]


class LogSource(typing.Protocol):
    """A log. All methods run in one event loop.

    Attributes:
        trials_topic: Name of the topic of trials.
        registry_topic: Name of the topic of projects and groups.
        place: Where the log is, for messages.
    """

    trials_topic: str
    registry_topic: str
    place: str

    @property
    def schemas(self) -> SchemaStore:
        """Schemas with which events can be decoded."""
        ...

    @property
    def texts(self) -> Mapping[bytes, bytes]:
        """Schemas that the log has: fingerprint → JSON."""
        ...

    async def open(self) -> LogCreated:
        """Open the log, and return its identity.

        Raises:
            TrialStreamError: There is no log, or it does not answer.
        """
        ...

    async def begin(self, places: Mapping[Route, int]) -> None:
        """Choose the partitions, each with the offset from which on it is read."""
        ...

    async def ends(self, *, settled: bool) -> Mapping[Route, int]:
        """Return the offset after the last record of each chosen partition.

        Args:
            settled: Whether records of open transactions count, too; then the call waits until they can be read.

        Raises:
            KafkaUnavailable: No broker answered, or a transaction is still open after the timeout.
        """
        ...

    async def offsets_at(self, time: int) -> Mapping[Route, int]:
        """Find the first records that were appended at a time or later.

        Args:
            time: Milliseconds since 1970 UTC.

        Returns:
            Their offsets, of the chosen partitions that have one.
        """
        ...

    async def fetch(self, routes: Collection[Route], seconds: float) -> Mapping[Route, Records]:
        """Return the next records of some partitions.

        Args:
            routes: The partitions.
            seconds: Maximum time to wait for a record.

        Returns:
            The records of those that have some; empty if none came in time. A cancelled call takes no records.

        Raises:
            KafkaUnavailable: No broker answered; the call can be repeated.
            LogMismatch: Records are lost, or the log was recreated.
        """
        ...

    async def refresh(self) -> None:
        """Read the schemas that were published meanwhile."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


@typing.runtime_checkable
class HasLog(typing.Protocol):
    """A protocol of a backend whose log can be streamed."""

    def log_source(self) -> LogSource:
        """Return the log, not opened yet."""
        ...
