"""`/about`: the version, the projection, and which servers are away."""

from __future__ import annotations

from importlib.metadata import version
from typing import TypedDict

from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.endpoints import Endpoint

__all__ = ["ENDPOINTS", "VERSION", "About"]

VERSION = version("trialstream")


class About(TypedDict):
    """The dashboard and its servers.

    Attributes:
        version: Version of trialstream.
        prefix: Prefix of the topics and databases.
        projection: Name of the projection that is read; null for the live one.
        writes: Whether tags and notes may be written.
        mongo: `ok`, or why MongoDB does not answer.
        kafka: `ok`, `off` if the dashboard does without, or why Kafka does not answer.
        live: `ok`, or why pages do not follow changes.
        time: Time of the server.
    """

    version: str
    prefix: str
    projection: str | None
    writes: bool
    mongo: str
    kafka: str
    live: str
    time: int


async def about(context: Context) -> About:
    """The dashboard and its servers; answers also while these are away."""
    return {"version": VERSION, **context.about()}  # type: ignore[typeddict-item]


ENDPOINTS = (Endpoint("GET", "/about", about, places=None),)
