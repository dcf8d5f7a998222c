"""The application: the routes of the API and of the page.

A group of endpoints is a module with a tuple `ENDPOINTS`, listed in `_GROUPS`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import TypedDict

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from trialstream.config import Config
from trialstream_schemas.errors import MongoUnavailable, TrialStreamError

from trialstream_console.dashboard import (
    about,
    bands,
    columns,
    dead_letters,
    events,
    importance,
    live,
    operations,
    output,
    series,
    timeline,
    travel,
    trials,
    writes,
)
from trialstream_console.dashboard.access import LOGIN_PATH, Access, Token, login
from trialstream_console.dashboard.answers import content, json_answer, refused
from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.endpoints import COLUMNS_MEDIA, Endpoint
from trialstream_console.dashboard.limits import Places, Rate
from trialstream_console.dashboard.openapi import document
from trialstream_console.dashboard.refusals import Refusal, refusal_of
from trialstream_console.dashboard.settings import Settings
from trialstream_console.dashboard.static import page, static_file

__all__ = ["API", "ENDPOINTS", "make_app"]

API = "/api/v1"
"""Path of the API."""

_GROUPS = (
    about,
    trials,
    columns,
    series,
    bands,
    live,
    output,
    importance,
    dead_letters,
    operations,
    events,
    timeline,
    travel,
    writes,
)
ENDPOINTS: tuple[Endpoint, ...] = tuple(each for group in _GROUPS for each in group.ENDPOINTS)
"""All endpoints of the API, besides `/openapi.json`."""

# A page sends some ten requests when it is opened, and one for each of its live changes: see performance.md for what
# a process answers.
_RATE, _BURST = 200.0, 2000.0
# Requests at once: in all and of one client; and as many that wait. One client leaves places for others: expensive
# requests take threads of their own, large ones memory (of the largest trial some 100 MB while it is read and encoded),
# and the others the event loop, which all share.
_PLACES = {"expensive": (4, 3, 256, 64), "large": (4, 3, 8000, 2000), "other": (32, 8, 8000, 2000)}

Handler = Callable[[Request], Awaitable[Response]]


class _State(TypedDict):
    context: Context


def make_app(settings: Settings | None = None, config: Config | None = None) -> Starlette:
    """Make the application.

    Args:
        settings: The settings; None for those of the environment.
        config: Where Kafka and MongoDB are; None for that of the environment.

    Returns:
        The application, for an ASGI server.

    Raises:
        ConfigError: A setting of the environment is invalid.
    """
    chosen, servers = settings or Settings.from_env(), config or Config.from_env()
    rate, token = Rate(_RATE, _BURST), Token(chosen.token)
    places = {kind: Places(*numbers) for kind, numbers in _PLACES.items()}

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[_State]:
        context = Context(chosen, servers)
        async with context.running():
            yield {"context": context}

    described = document(ENDPOINTS, about.VERSION, API)

    async def openapi(request: Request) -> Response:
        return json_answer(request, described, etag=True)

    async def log_in(request: Request) -> Response:
        return await login(request, chosen, token)

    def limited(handler: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            try:
                rate.take(request.state.client)
                return await handler(request)
            except Refusal as refusal:
                return refused(request, refusal)

        return handle

    return Starlette(
        routes=[
            *[Route(API + each.path, limited(_handler(each, places)), methods=[each.method]) for each in ENDPOINTS],
            Route(f"{API}/openapi.json", limited(openapi)),
            Route("/api/{path:path}", _no_such_path, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
            Route(LOGIN_PATH, limited(log_in), methods=["GET", "POST"]),
            Route("/static/{name}", limited(static_file)),
            Route("/{path:path}", limited(page)),
        ],
        middleware=[Middleware(Access, settings=chosen, token=token)],
        exception_handlers={HTTPException: _http_error},
        lifespan=lifespan,
    )


def _handler(endpoint: Endpoint, places: Mapping[str, Places]) -> Handler:
    """Return the handler of an endpoint."""

    async def answer(request: Request, context: Context) -> Response:
        if endpoint.writes:
            _check_writes(request, context)
        arguments = await endpoint.arguments(request)
        # The place is held until the answer is encoded, since what was read is in memory until then.
        async with places[endpoint.places].one(request) if endpoint.places else contextlib.nullcontext():
            found = await endpoint.function(context, **arguments)
            if found is None:
                return Response(status_code=204)
            if endpoint.media == COLUMNS_MEDIA:
                return await context.compute(partial(content, request, found.body, COLUMNS_MEDIA, etag=False))
            if isinstance(found, Response):
                return found
            return await context.compute(partial(json_answer, request, found, etag=endpoint.etag))

    async def handle(request: Request) -> Response:
        context: Context = request.state.context
        try:
            return await answer(request, context)
        except Refusal:
            raise
        except TrialStreamError as error:
            if isinstance(error, MongoUnavailable):
                context.suspect_mongo()
            raise refusal_of(error) from error
        except Exception as error:
            structlog.get_logger("trialstream_dashboard").exception("request failed", path=request.scope["path"])
            raise Refusal("internal", "the request failed: the log of the dashboard has more") from error

    return handle


def _check_writes(request: Request, context: Context) -> None:
    if not context.about()["writes"]:
        raise Refusal("read_only", "the dashboard may not write: start it with --allow-writes")
    if request.headers.get("x-trialstream") != "1":
        raise Refusal("unauthorized", "expected the header X-Trialstream: 1", place="x-trialstream")


async def _no_such_path(request: Request) -> Response:
    return refused(request, Refusal("not_found", f"{request.scope['path']}: no such path of the API", place="path"))


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer a request with a method that its path does not take."""
    assert isinstance(error, HTTPException)
    answer = refused(
        request, Refusal("not_found", f"{request.scope['path']}: not with {request.method}", place="method")
    )
    answer.headers.update(error.headers or {})
    return answer
