"""Screening of the fetches of a client: see `batches.py`.

Every client of this package that fetches is screened, so each reader of the log has the same bounds:

- memory: a batch is unpacked to at most 16 MiB, one at a time in a process; a partition holds what one fetch returned
  (3 MiB, or one batch of any size that the broker takes) and at most 8 MiB of unpacked records, and a connection the
  memory of its last large response;
- time: the event loop goes on between two batches.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest

from trialstream.event_log.batches import UNREADABLE, DamagedBatch, screened
from trialstream.event_log.receiving import receive_in_place

__all__ = ["screen_fetches"]

logger = logging.getLogger("trialstream")

# A batch that is damaged at each of so many fetches is damaged on the broker's disk, and not on its way.
_FETCHES = 3
# Version of the response from which on the list of aborted transactions is not the last field but one.
# https://kafka.apache.org/protocol.html#The_Messages_Fetch
_REPLICA_VERSION = 11


def screen_fetches(client: AIOKafkaClient) -> None:
    """Screen what a client fetches from now on, and receive it in place; without effect the second time.

    aiokafka offers no place for this, so the `send` of the client is replaced, through which its fetches go
    (tests/integration/test_hostile_batches.py fails if they no longer do).

    Args:
        client: A client, started or not.
    """
    if "send" in vars(client):
        return
    send: Callable[..., Awaitable[Any]] = client.send

    async def screened_send(node_id: Any, request: Any, **settings: Any) -> Any:
        response = await send(node_id, request, **settings)
        if isinstance(request, FetchRequest):
            for _ in range(_FETCHES - 1):
                try:
                    return await _screened(response, request, damaged=False)
                except DamagedBatch:
                    response = await send(node_id, request, **settings)
            return await _screened(response, request, damaged=True)
        return response

    vars(client)["send"] = screened_send
    receive_in_place(client)


async def _screened(response: Any, request: FetchRequest, *, damaged: bool) -> Any:
    offsets = {(topic, number): offset for topic, places in request.topics for number, offset, _ in places}
    aborted_field = 2 if response.API_VERSION >= _REPLICA_VERSION else -2
    topics = []
    for topic, places in response.topics:
        kept = []
        for number, error, end, *fields in places:
            if fields[-1]:
                fields[-1] = await _screened_data(
                    fields[-1], topic, number, offsets[topic, number], fields[aborted_field] or (), damaged=damaged
                )
                fields[aborted_field] = []  # aborted batches are notes now
            kept.append((number, error, end, *fields))
        topics.append((topic, kept))
    response.topics = topics
    return response


async def _screened_data(
    data: bytes, topic: str, number: int, offset: int, aborted: Iterable[tuple[int, int]], *, damaged: bool
) -> bytes:
    pieces = []
    for piece, work in screened(data, offset, aborted, damaged=damaged):
        if piece is UNREADABLE:
            logger.warning("%s/%d: the batch at offset %d or after it is damaged", topic, number, offset)
        pieces.append(piece)
        if work:
            await asyncio.sleep(0)
    # Unchanged batches are not copied.
    return data if all([isinstance(each, memoryview) for each in pieces]) else b"".join(pieces)
