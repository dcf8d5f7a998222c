"""Tags and notes, the only things that the dashboard may write: through the Protocol, as every writer."""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import Annotated, Any, TypedDict

from starlette.requests import Request
from trialstream.connect import protocol_of
from trialstream.kafka.protocol import KafkaProtocol
from trialstream_schemas.errors import CommitTimeout
from trialstream_schemas.model.aggregators import RingAggregator
from trialstream_schemas.model.values import size

from trialstream_console.dashboard.caches import PerContext, Recent
from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.endpoints import Endpoint
from trialstream_console.dashboard.refusals import Refusal
from trialstream_console.dashboard.shapes import Limits

__all__ = ["ENDPOINTS"]

_NOTES = RingAggregator.lazy(100)  # as `Tracker.note`
_MAX_TAGS, _MAX_TAG_BYTES, _MAX_NOTE = 100, 64 * 1024, 10_000
_SECONDS = 10.0
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_MAX_DEPTH = 100  # far more than the Protocol takes, and far less than Python's recursion
_PROTOCOLS = PerContext[Recent[KafkaProtocol]](lambda _: Recent(math.inf, 1))


class TagsBody(TypedDict):
    """Tags to set.

    Attributes:
        tags: The values by name, in the forms of logged values.
    """

    tags: Annotated[dict[str, Any], Limits("Values by name.", 1, _MAX_TAGS)]


class NoteBody(TypedDict):
    """A note to add."""

    text: Annotated[str, Limits("The text.", 1, _MAX_NOTE)]


async def add_tags(context: Context, uid: str, body: TagsBody, request: Request) -> None:
    """Set tags of a trial; the answer comes once Kafka has acknowledged them."""
    _check_origin(request)
    tags = await context.compute(_tags, body["tags"])
    protocol, trial = await _writer(context), await context.trial(uid, [])
    await protocol.add_trial_tags(trial, tags)
    await _acknowledged(protocol)


async def add_note(context: Context, uid: str, body: NoteBody, request: Request) -> None:
    """Add a note to a trial; the answer comes once Kafka has acknowledged it."""
    _check_origin(request)
    protocol, trial = await _writer(context), await context.trial(uid, [])
    await protocol.log_trial_metadata(trial, {"notes": body["text"]}, aggregator=_NOTES)
    await _acknowledged(protocol)


def _tags(given: dict[str, Any]) -> dict[str, Any]:
    tags = {name: _decoded(value, f"tags.{name}") for name, value in given.items()}
    if size(tags) <= _MAX_TAG_BYTES:
        return tags
    raise Refusal("too_large", f"tags: expected at most {_MAX_TAG_BYTES} bytes, got more", place="tags")


def _check_origin(request: Request) -> None:
    """Raise `Refusal` for a request of a page that this server has not sent."""
    if request.headers.get("sec-fetch-site") == "same-origin":
        return  # behind a proxy, the server may have another name than the page
    origin, host = request.headers.get("origin"), request.headers.get("host")
    if origin is not None and origin.partition("://")[2] != host:
        raise Refusal("unauthorized", f"origin: expected this server, {host}, got {origin}", place="origin")


async def _writer(context: Context) -> KafkaProtocol:
    """Return the protocol that writes; it is opened for the first request, and closed with the server."""

    async def opened() -> KafkaProtocol:
        protocol = protocol_of(context.config, timeout=_SECONDS)
        assert isinstance(protocol, KafkaProtocol)  # `--allow-writes` is off for other ones
        await context.resources.enter_async_context(protocol)
        return protocol

    if context.kafka != "ok":
        raise Refusal("kafka_away", context.kafka, retry_after=_SECONDS)
    return await _PROTOCOLS.of(context).get("writer", opened)


async def _acknowledged(protocol: KafkaProtocol) -> None:
    try:
        await protocol.commit("acked", _SECONDS)
    except CommitTimeout as error:
        raise Refusal("kafka_away", f"{error}; it is sent as soon as Kafka takes it", retry_after=_SECONDS) from None


def _decoded(value: Any, place: str, depth: int = 0) -> Any:
    """Return a value from its form in JSON: the inverse of `encoding.encoded`."""
    if depth > _MAX_DEPTH:
        raise Refusal("query", f"tags: expected at most {_MAX_DEPTH} lists and objects within each other", place="tags")
    if isinstance(value, list):
        return [_decoded(each, f"{place}[{i}]", depth + 1) for i, each in enumerate(value)]
    if not isinstance(value, dict):
        return value
    match value:
        case {"$float": "NaN" | "Infinity" | "-Infinity" as text, **rest} if not rest:
            return float(text)
        case {"$int": str(text), **rest} if not rest and _INTEGER.fullmatch(text):
            return int(text)
        case {"$bytes": str(text), **rest} if rest.keys() <= {"size"}:
            try:
                return base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                raise Refusal("query", f"{place}: expected base64", place=place) from None
        case {"$dict": dict(inner), **rest} if not rest:
            return {key: _decoded(each, f"{place}.{key}", depth + 1) for key, each in inner.items()}
    if any(key.startswith("$") for key in value):
        raise Refusal("query", f"{place}: expected a value, or an object as docs/dashboard.md describes", place=place)
    return {key: _decoded(each, f"{place}.{key}", depth + 1) for key, each in value.items()}


ENDPOINTS = (
    Endpoint("POST", "/trials/{uid}/tags", add_tags, writes=True),
    Endpoint("POST", "/trials/{uid}/notes", add_note, writes=True),
)
