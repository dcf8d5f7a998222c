"""`/live`: what changes, as server-sent events (`feed.py`)."""

from __future__ import annotations

from typing import Annotated, TypedDict

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.endpoints import EVENTS_MEDIA, Endpoint
from trialstream_console.dashboard.feed import Subscriber
from trialstream_console.dashboard.live_events import RowsEvent, StateEvent, TrialsEvent
from trialstream_console.dashboard.selection import Group, Project
from trialstream_console.dashboard.shapes import Limits

__all__ = ["ENDPOINTS"]

_COMMENT_SECONDS = 15.0
_MAX_CURVES = 1000


class LiveEvents(TypedDict):
    """The events by name, with their data.

    Attributes:
        trials: Trials of the view that changed.
        rows: New rows of `trial`.
        state: The servers: at the start, and when one goes away or comes back.
        reset: Changes were missed, so everything must be loaded anew.
    """

    trials: TrialsEvent
    rows: RowsEvent
    state: StateEvent
    reset: dict[str, str]


class _EventStream(Response):
    """The events of a subscriber, until the client has gone.

    `connections.py` ends a connection whose client takes nothing.
    """

    def __init__(self, context: Context, subscriber: Subscriber, since: str, client: str) -> None:
        super().__init__(media_type=EVENTS_MEDIA, headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._context = context
        self._subscriber = subscriber
        self._since = since
        self._client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (as Starlette's)
        """Send the events."""
        feed = self._context.feed
        with self._context.live.one(self._client), feed.subscribed(self._subscriber, self._since):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_end_with_client, receive, tasks.cancel_scope)
                while True:
                    waiting = await self._subscriber.take(_COMMENT_SECONDS) or b": open\n\n"
                    await send({"type": "http.response.body", "body": waiting, "more_body": True})


async def _end_with_client(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def live(
    context: Context,
    request: Request,
    project: Project = None,
    group: Group = None,
    trial: Annotated[str | None, Limits("Uid of the trial whose rows are sent.", most=1024)] = None,
    curves: Annotated[list[str], Limits("Names of the metrics; all if none is given.", most=_MAX_CURVES)] = (),  # type: ignore[assignment]
    since: Annotated[
        str, Limits("`cursor` of an answer, or id of an event: changes since then come first.", most=4096)
    ] = "",
) -> Response:
    """Changes of trials and servers, as they happen.

    The header `Last-Event-ID`, which a browser sends when it connects again, replaces `since`.
    """
    client: str = request.state.client
    context.live.check(client)
    await context.feed.cursor()  # once the watch has begun, the client misses nothing
    if trial:
        await context.feed.begin_rows(trial)
    subscriber = Subscriber(project or None, group or None, trial or None, curves)
    return _EventStream(context, subscriber, request.headers.get("last-event-id") or since, client)


ENDPOINTS = (Endpoint("GET", "/live", live, header=LiveEvents, media=EVENTS_MEDIA, places=None),)
