"""`replay`: the past of a log, once more, at a pace."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from trialstream_schemas.errors import InvalidType
from trialstream_schemas.messages import shown

from trialstream.streaming.items import LogEvent
from trialstream.streaming.pacing import Pace
from trialstream.streaming.stream import Stream

__all__ = ["Handler", "replay"]

Handler: TypeAlias = Callable[[LogEvent], Awaitable[object] | object]
"""Called with each event; if it returns an awaitable, that is awaited before the next event."""


async def replay(source: Stream, handler: Handler, *, speed: float | None = 1.0) -> int:
    """Give the events of a stream to a function, at the pace at which they were appended, or faster.

    A handler that is slower than that is never skipped: the replay falls behind, and catches up where the log pauses.

    Args:
        source: The events, such as `trialstream.stream(project="mnist", follow=False)`. One that follows is replayed,
            too: its events of the present come when they are appended.
        handler: Called with each event; a coroutine function is awaited.
        speed: 1 for the pace of the log, 10 for ten times faster; None for as fast as it goes.

    Returns:
        Number of events that were handled.

    Raises:
        InvalidType: The handler or the speed has another type.
        InvalidValue: The speed is not a positive number.
        KafkaUnavailable: No broker answered.
        LogMismatch: A part of the log is lost.
    """
    if not callable(handler):
        raise InvalidType(f"handler: expected a function of an event, got {shown(handler)}")
    pace = Pace(speed)
    count = 0
    async with source as events:
        async for item in events:
            await pace.wait(item.timestamp)
            made = handler(item)
            if inspect.isawaitable(made):
                await made
            count += 1
    return count
