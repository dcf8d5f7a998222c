"""Time travel: a trial as of any time, folded from its own events."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time as clock
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Annotated, TypedDict

import anyio.to_thread
from starlette.requests import Request
from trialstream_consumer.replay.trial_log import TrialRecord
from trialstream_consumer.replay.trial_states import Stopped
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.wire.events import Heartbeat, MetricsLogged

from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.details import TrialDetail, detail_of
from trialstream_console.dashboard.endpoints import Endpoint
from trialstream_console.dashboard.pasts import kind_of, past_of
from trialstream_console.dashboard.refusals import Refusal
from trialstream_console.dashboard.shapes import Limits
from trialstream_console.dashboard.statuses import status_info

__all__ = ["ENDPOINTS"]

_SECONDS = 10.0
_MAX_MARKS = 500
_MAX_MICROS = 253_402_300_800_000_000  # the year 10000
_UNMARKED = (MetricsLogged.__name__, Heartbeat.__name__, "ChronosFinished", "ChronoStarted")


class Mark(TypedDict):
    """An event that changes more than measurements.

    Attributes:
        time: When it was appended.
        kind: Name of its class.
    """

    time: int
    kind: str


class Times(TypedDict):
    """The times of a trial's events.

    Attributes:
        first: When the first one was appended; null without events.
        last: When the last one was appended.
        marks: At most 500 of the events that change more than measurements.
    """

    first: int | None
    last: int | None
    marks: list[Mark]


async def times(context: Context, uid: str) -> Times:
    """The times between which a trial can be looked at, and the events between them that change most."""
    past = await past_of(context, uid)
    return await context.compute(_times, past.log.records)


def _times(records: Sequence[TrialRecord]) -> Times:
    kinds = [(each.timestamp * 1000, kind_of(each.value)) for each in records]
    marks: list[Mark] = [{"time": at, "kind": kind} for at, kind in kinds if kind and kind not in _UNMARKED]
    if len(marks) > _MAX_MARKS:
        marks = [marks[i * (len(marks) - 1) // (_MAX_MARKS - 1)] for i in range(_MAX_MARKS)]
    return {
        "first": records[0].timestamp * 1000 if records else None,
        "last": records[-1].timestamp * 1000 if records else None,
        "marks": marks,
    }


async def at(
    context: Context,
    uid: str,
    time: Annotated[int, Limits("Append time, microseconds since 1970 UTC.", 0, _MAX_MICROS)],
    request: Request,
) -> TrialDetail:
    """A trial as of a time: the fold of its own events that the log had got until then."""
    past = await past_of(context, uid)
    timestamp = time // 1000

    def show(trial: Trial | None) -> TrialDetail | None:
        if trial is None:
            return None
        status = status_info(trial.status, trial.last_seen, timestamp / 1000)
        return {**detail_of(trial), "status": status}

    stop, deadline = threading.Event(), clock.monotonic() + _SECONDS
    fold = partial(past.states.at, timestamp, show, lambda: stop.is_set() or clock.monotonic() > deadline)
    async with _while_connected(request, stop):
        try:
            found = await anyio.to_thread.run_sync(fold, abandon_on_cancel=True)
        except Stopped:
            raise Refusal(
                "too_many", f"the events until then are not folded in {_SECONDS:g} s yet: ask again", retry_after=1.0
            ) from None
    if found is None:
        raise Refusal("not_found", f"there is no trial {uid} at that time", place="time")
    return found


@contextlib.asynccontextmanager
async def _while_connected(request: Request, stop: threading.Event) -> AsyncIterator[None]:
    """Set an event once the client has gone, or the block ends."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        stop.set()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        stop.set()


ENDPOINTS = (
    Endpoint("GET", "/trials/{uid}/at", at, places="expensive"),
    Endpoint("GET", "/trials/{uid}/times", times, places="expensive"),
)
