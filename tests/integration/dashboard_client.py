"""A client of the dashboard's application, which runs in a thread of the test."""

from __future__ import annotations

import time
from contextlib import contextmanager

import httpx
from anyio.from_thread import start_blocking_portal
from trialstream_console.dashboard.app import make_app

BASE = "http://localhost/api/v1"


class Client:
    """Sends requests to an application that runs in another thread.

    Attributes:
        context: Context of the application.
        call: Runs a function, which may be async, in that thread.
    """

    def __init__(self, portal, client, context):
        self.context = context
        self.call = portal.call
        self._client = client

    def get(self, path, params):
        """Send a GET request."""
        return self.call(lambda: self._client.get(path, params=params))

    def post(self, path, json, headers):
        """Send a POST request."""
        return self.call(lambda: self._client.post(path, json=json, headers=headers))


@contextmanager
def client_of(settings, config):
    """Run an application, and return its client."""
    app = make_app(settings, config)

    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(app.router.lifespan_context(app)) as state,
    ):

        async def with_state(scope, receive, send):
            await app({**scope, "state": dict(state)}, receive, send)

        transport = httpx.ASGITransport(app=with_state)
        client = httpx.AsyncClient(transport=transport, base_url=BASE, timeout=30)
        with portal.wrap_async_context_manager(client):
            yield Client(portal, client, state["context"])


def get(client, path, status=200, **params):
    """Return the JSON of an answer."""
    answer = client.get(path, params=params)
    assert answer.status_code == status, answer.text
    return answer.json()


def until(condition):
    """Wait until a condition holds, and return its value."""
    deadline = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found
