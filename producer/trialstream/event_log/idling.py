"""A consumer whose fetches are long while it is idle, and short otherwise.

aiokafka has one fetch in flight to each broker. New records of a partition that is not part of it, since its earlier
records were not taken when the fetch was sent, wait until the fetch returns. So a fetch has to be short, and an idle
consumer would send 40 in a second. But a fetch that is sent while a reader of each partition waits for records is for
all partitions: it returns with the first record of any of them, so no record waits for it, however long it may last.

Invariant: while a long fetch is in flight, it is for all partitions of its broker, and each of their readers waits. For
this, a reader whose wait ends without records waits again at the same position, or ends. The exception is a partition
whose leader this broker has become meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.protocol.fetch import FetchRequest

from trialstream.event_log.screening import screen_fetches

__all__ = ["IdlingConsumer"]

# Maximum duration of a fetch while all readers wait, milliseconds. Measured in turn, with 8 partitions, the consumer
# service takes 3.0 % of a core with fetches of 25 ms, 0.6 % with these, and 0.5 % with fetches of 5 s.
_IDLE_MS = 500
# aiokafka's client distinguishes the connections to a broker by a number, and uses 0 and 1.
_FETCHES = 2


class IdlingConsumer(AIOKafkaConsumer):
    """A consumer with one reader for each partition, which calls `getmany` with this partition.

    A broker answers the requests of a connection in turn, so fetches have connections of their own: no other request
    waits for a long one. When a fetch is cancelled, as by a rebalance, its connection is closed, so that the next fetch
    does not wait for it either.

    Args:
        **settings: As for `AIOKafkaConsumer`; `fetch_max_wait_ms` is the duration of a fetch while a reader is busy.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)  # type: ignore[no-untyped-call]
        self._waiting: set[TopicPartition] = set()
        screen_fetches(self._client)
        # aiokafka offers no place for this, as in `screen_fetches`.
        self._send_screened = self._client.send
        vars(self._client)["send"] = self._send

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]:
        """See `AIOKafkaConsumer.getmany`."""
        self._waiting.update(partitions)
        try:
            return await super().getmany(*partitions, timeout_ms=timeout_ms, max_records=max_records)
        finally:
            self._waiting.difference_update(partitions)

    async def _send(self, node_id: Any, request: Any, **settings: Any) -> Any:
        if not isinstance(request, FetchRequest) or not request._max_wait_ms:  # noqa: SLF001 (it has no public name)
            return await self._send_screened(node_id, request, **settings)
        if self._waiting >= self.assignment():
            request._max_wait_ms = _IDLE_MS  # noqa: SLF001
        try:
            return await self._send_screened(node_id, request, group=_FETCHES)
        except asyncio.CancelledError:
            if (connection := self._client._conns.get((node_id, _FETCHES))) is not None:  # noqa: SLF001
                connection.close()
            raise
