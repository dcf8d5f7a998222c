"""The records that could not be folded: reason, bytes, and what of them can be decoded."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import re
from typing import Annotated, Any, TypedDict

from trialstream.event_log.schemas import SchemaTopic
from trialstream_consumer.projection.dead_letters import DeadLetter
from trialstream_schemas.errors import KafkaUnavailable, SchemaError
from trialstream_schemas.wire.codec import SchemaStore

from trialstream_console.dashboard.caches import PerContext, Recent
from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.endpoints import Endpoint
from trialstream_console.dashboard.event_fields import event_fields
from trialstream_console.dashboard.refusals import Refusal
from trialstream_console.dashboard.shapes import Limits
from trialstream_console.operations import dead_letters as shared

__all__ = ["ENDPOINTS"]

_MAX_BYTES = 1024
# Of one answer; larger records are decoded one at a time.
_MAX_DECODED = 4 * 1024 * 1024
_SCHEMAS_SECONDS = 60.0
_CONTROL = re.compile(r"[^\x20-\x7e]")
_SCHEMAS = PerContext[Recent[SchemaStore]](lambda _: Recent(_SCHEMAS_SECONDS, 1))


class DeadLetterInfo(TypedDict):
    """A record that could not be folded.

    Attributes:
        topic: Its topic.
        partition: Its partition.
        offset: Its offset.
        time: When it was appended.
        reason: Why it could not be folded.
        bytes: Its first 1,024 bytes, as ASCII; a dot stands for any other byte.
        hex: The same bytes in hexadecimal.
        size: Number of all its bytes, at most a MiB.
        decoded: The event; null if the bytes are none, or if the schema is unknown.
    """

    topic: str
    partition: int
    offset: int
    time: int | None
    reason: str
    bytes: str
    hex: str
    size: int
    decoded: Any


class DeadLetters(TypedDict):
    """Records that could not be folded, the latest first.

    Attributes:
        letters: The records.
        cursor: Place of the next ones; null if there are no more.
    """

    letters: list[DeadLetterInfo]
    cursor: str | None


async def dead_letters(
    context: Context,
    cursor: Annotated[str, Limits("Place of the first one, as an earlier answer has it.", most=1024)] = "",
    limit: Annotated[int, Limits("Maximum number of records; large ones are fewer.", 1, 200)] = 50,
) -> DeadLetters:
    """The records that could not be folded, the latest first; those of the live projection."""
    await context.protocol()  # while MongoDB is away, this says so at once
    found = await shared.dead_letters(context.config, limit + 1, _before(cursor) if cursor else None)
    schemas = await _schemas(context)
    shown = _within(found[:limit])
    return {
        "letters": await context.compute(_infos, shown, schemas),
        "cursor": _cursor(shown[-1]) if len(found) > len(shown) else None,
    }


async def _schemas(context: Context) -> SchemaStore:
    """Return the schemas of the log; while Kafka is away, those of this version."""

    async def read() -> SchemaStore:
        async with SchemaTopic(context.config) as topic:
            return topic.schemas

    if context.kafka == "ok":
        try:
            return await _SCHEMAS.of(context).get("schemas", read)
        except KafkaUnavailable:
            pass
    return SchemaStore()


def _within(letters: list[DeadLetter]) -> list[DeadLetter]:
    """Return the first letters that take little together, at least one."""
    sizes = itertools.accumulate(len(each.value) for each in letters)
    return letters[: max(1, sum(size <= _MAX_DECODED for size in sizes))]


def _infos(letters: list[DeadLetter], schemas: SchemaStore) -> list[DeadLetterInfo]:
    return [_info(each, schemas) for each in letters]


def _info(letter: DeadLetter, schemas: SchemaStore) -> DeadLetterInfo:
    first = letter.value[:_MAX_BYTES]
    try:
        decoded = event_fields(schemas.decode(letter.value))
    except (SchemaError, TypeError):  # no event, or one with a value that has no form
        decoded = None
    return {
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "time": letter.time * 1000,
        "reason": letter.reason,
        "bytes": _CONTROL.sub(".", first.decode("latin-1")),
        "hex": first.hex(),
        "size": len(letter.value),
        "decoded": decoded,
    }


def _cursor(letter: DeadLetter) -> str:
    return base64.urlsafe_b64encode(json.dumps([letter.time, letter.id]).encode()).decode()


def _before(cursor: str) -> tuple[int, str]:
    try:
        time, id_ = json.loads(base64.urlsafe_b64decode(cursor))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise _no_cursor(cursor) from None
    if type(time) is not int or not 0 <= time < 2**63 or type(id_) is not str or not id_.isprintable():
        raise _no_cursor(cursor)
    return time, id_


def _no_cursor(cursor: str) -> Refusal:
    return Refusal("query", f"cursor: expected one of an earlier answer, got {cursor[:40]!r}", place="cursor")


ENDPOINTS = (Endpoint("GET", "/dead-letters", dead_letters, places="large"),)
