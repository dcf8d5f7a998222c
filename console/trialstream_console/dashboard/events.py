"""The events of a trial, as the log has them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Annotated, Any, Literal, TypedDict

import anyio.to_thread
from trialstream_consumer.replay.trial_log import TrialRecord
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.events import EVENTS, SubjectEvent

from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.endpoints import Endpoint
from trialstream_console.dashboard.event_fields import event_fields, summary
from trialstream_console.dashboard.pasts import Past, kind_of, past_of
from trialstream_console.dashboard.refusals import Refusal
from trialstream_console.dashboard.shapes import Limits

__all__ = ["ENDPOINTS"]

_NAMES = [each.__name__ for each in EVENTS if issubclass(each, SubjectEvent) and each.SUBJECT == "trial"]
_UNREADABLE = "unreadable"


class EventRow(TypedDict):
    """An event of the log.

    Attributes:
        partition: Number of its partition.
        offset: Its offset.
        time: When the call was made, by the clock of the writer.
        appended: When the broker appended it.
        kind: Name of its class; `unreadable` if it cannot be decoded.
        writer: Id of its writer.
        seq: Its number among the events of the writer; 0 of a request.
        summary: The event as one line.
        fields: Its fields; long lists and texts are cut.
    """

    partition: int
    offset: int
    time: int
    appended: int
    kind: str
    writer: str
    seq: int
    summary: str
    fields: dict[str, Any]


class EventPage(TypedDict):
    """Events of a trial.

    Attributes:
        events: The events.
        cursor: Place of the next ones; null if there are no more now.
        kinds: The kinds of all events of the trial, in the order of their names.
    """

    events: list[EventRow]
    cursor: str | None
    kinds: list[str]


async def events(
    context: Context,
    uid: str,
    cursor: Annotated[str, Limits("Place of the first one, as an earlier answer has it.", most=32)] = "",
    limit: Annotated[int, Limits("Maximum number of events.", 1, 1000)] = 100,
    kinds: Annotated[str, Limits("Names of classes, separated by commas; empty for all.", most=1024)] = "",
    order: Annotated[Literal["oldest", "newest"], Limits("Which event comes first.")] = "newest",
) -> EventPage:
    """The events of a trial, as the log has them, repetitions and refused ones too."""
    wanted = frozenset(filter(None, kinds.split(",")))
    if unknown := wanted.difference(_NAMES, [_UNREADABLE]):
        raise Refusal("query", f"kinds: expected some of {', '.join(_NAMES)}, got {min(unknown)!r}", place="kinds")
    if cursor and not (cursor.isascii() and cursor.isdecimal()):
        raise Refusal("query", f"cursor: expected one of an earlier answer, got {cursor!r}", place="cursor")
    past = await past_of(context, uid)
    return await anyio.to_thread.run_sync(partial(_page, past, cursor, limit, wanted, order == "newest"))


def _page(past: Past, cursor: str, limit: int, wanted: frozenset[str], is_newest_first: bool) -> EventPage:
    if not past.is_alone:  # which trial an address means is decided by the fold
        past.states.at(past.log.records[-1].timestamp if past.log.records else 0, lambda _: None, lambda: False)
    kinds = _kinds(past)
    records: Iterable[TrialRecord] = reversed(past.log.records) if is_newest_first else past.log.records
    found: list[EventRow] = []
    for record in records:
        if cursor and (record.offset >= int(cursor) if is_newest_first else record.offset <= int(cursor)):
            continue
        kind = kind_of(record.value)
        if kind and wanted and wanted.isdisjoint((kind, _UNREADABLE)):  # only its bytes tell that one is unreadable
            continue
        row = _row(past, record)
        if row is None or (wanted and row["kind"] not in wanted):
            continue
        if len(found) == limit:
            return {"events": found, "cursor": str(found[-1]["offset"]), "kinds": kinds}
        found.append(row)
    return {"events": found, "cursor": None, "kinds": kinds}


def _kinds(past: Past) -> list[str]:
    """Return the kinds of all events of the trial; of each, events are decoded until one is the trial's."""
    found: set[str] = set()
    for record in past.log.records:
        if kind_of(record.value) not in found and (row := _row(past, record)) is not None:
            found.add(row["kind"])
    return sorted(found)


def _row(past: Past, record: TrialRecord) -> EventRow | None:
    """Return a record as JSON; None if it is of another trial."""
    row: EventRow = {
        "partition": past.log.partition,
        "offset": record.offset,
        "time": record.timestamp * 1000,
        "appended": record.timestamp * 1000,
        "kind": _UNREADABLE,
        "writer": "",
        "seq": 0,
        "summary": "",
        "fields": {},
    }
    try:
        event = past.log.schemas.decode(record.value)
        if not past.has(event) or not isinstance(event, SubjectEvent):
            return None
        fields = event_fields(event)
    except (SchemaError, TypeError) as error:
        row["summary"] = str(error)
        return row
    row["time"], row["kind"] = event.time, fields.pop("kind")
    row["writer"], row["seq"], row["summary"], row["fields"] = event.writer, event.seq, summary(event), fields
    return row


ENDPOINTS = (Endpoint("GET", "/trials/{uid}/events", events, places="expensive"),)
