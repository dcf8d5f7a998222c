"""The events of `/live` as they are sent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, TypedDict

from trialstream.protocol import MetricHistory
from trialstream.sync import SyncProtocol

from trialstream_console.dashboard.encoding import dumps, encoded
from trialstream_console.dashboard.shapes import Limits

__all__ = ["RowsEvent", "StateEvent", "TrialsEvent", "live_event", "rows_events", "trials_event"]

_MAX_UIDS = 200
# What takes more is drawn faster from `/series`; up to 64 events wait for a slow client.
_MAX_ROWS, _MAX_VALUES, _MAX_BYTES = 2000, 200_000, 1_000_000
# Of a metric in the document of a trial.
_LEAST_METRIC_BYTES = 150


class TrialsEvent(TypedDict):
    """Trials that changed.

    Attributes:
        uids: Their uids, at most 200.
        more: Whether there are more than these.
    """

    uids: list[str]
    more: bool


class RowsOfName(TypedDict):
    """Rows of a metric.

    Attributes:
        steps: Step of each row; null for a step that is no number.
        times: Time of each row.
        values: Value of each row.
    """

    steps: list[float | int | None]
    times: list[int]
    values: list[Any]


RowsEvent = TypedDict(
    "RowsEvent",
    {
        "trial": str,
        "from": Annotated[int, Limits("Number of the first row of the trial that is new.")],
        "rows_seen": Annotated[int, Limits("Number of its rows now.")],
        "names": Annotated[dict[str, RowsOfName], Limits("The rows by name of the metric.")],
        "more": Annotated[bool, Limits("Whether there are too many rows to send: `/series` with `since` has them.")],
    },
)
RowsEvent.__doc__ = "New rows of a trial."


class StateEvent(TypedDict):
    """The servers: as in `About`."""

    mongo: str
    kafka: str
    live: str


def trials_event(uids: Sequence[str], cursor: str) -> bytes:
    """Return the event of trials that changed.

    Args:
        uids: Their uids.
        cursor: The cursor after the changes.
    """
    event: TrialsEvent = {"uids": list(uids[:_MAX_UIDS]), "more": len(uids) > _MAX_UIDS}
    return live_event("trials", event, cursor)


def _rows_of_name(history: MetricHistory, end: int) -> RowsOfName:
    """Return the rows before a number as JSON."""
    some = slice(None, int(history.rows.searchsorted(end)))
    steps = history.steps[some].tolist()
    return {
        "steps": [each if isinstance(each, int | float) and math.isfinite(each) else None for each in steps],
        "times": history.times[some].astype("int64").tolist(),
        "values": [encoded(each) for each in history.values[some].tolist()],
    }


def rows_events(
    protocol: SyncProtocol, uid: str, begin: int, end: int, wanted: Iterable[frozenset[str]], cursor: str
) -> dict[frozenset[str], bytes]:
    """Read and encode the new rows of a trial, in the thread of the caller.

    Args:
        protocol: The protocol that reads.
        uid: Uid of the trial.
        begin: Number of the first new row.
        end: Number of its rows.
        wanted: What clients want: names of metrics; an empty set for all.
        cursor: The cursor after the rows.

    Returns:
        The event for each of these. One that would be too large has no rows, and `more`.
    """
    asked = set(wanted)
    names = frozenset().union(*asked) if all(asked) else frozenset[str]()
    more = end - begin > _MAX_ROWS
    texts: dict[str, bytes] = {}
    for trial in () if more else protocol.fetch_trials({"uid": uid}, fields=["rows", "size"]):
        more = (end - begin) * (len(names) or trial.size // _LEAST_METRIC_BYTES) > _MAX_VALUES
        histories = {} if more else protocol.fetch_histories([trial], *names, since_row=begin)[uid]
        texts = {name: _encoded(name, history, end) for name, history in histories.items()}
    head = {"trial": uid, "from": begin, "rows_seen": end}
    return {each: _rows_event(head, texts, each, cursor, more=more) for each in asked}


def _rows_event(
    head: Mapping[str, Any], texts: Mapping[str, bytes], names: frozenset[str], cursor: str, *, more: bool
) -> bytes:
    some = [text for name, text in texts.items() if not names or name in names]
    more = more or sum(map(len, some)) > _MAX_BYTES
    begin = dumps({**head, "more": more}).removesuffix(b"}")
    return _sent("rows", b'%s,"names":{%s}}' % (begin, b"" if more else b",".join(some)), cursor)


def _encoded(name: str, history: MetricHistory, end: int) -> bytes:
    return dumps(name) + b":" + dumps(_rows_of_name(history, end))


def live_event(name: str, data: Mapping[str, Any], cursor: str) -> bytes:
    """Return an event as it is sent; JSON has no line breaks.

    Args:
        name: Its name.
        data: Its data.
        cursor: The cursor after it; empty for none.
    """
    return _sent(name, dumps(data), cursor)


def _sent(name: str, data: bytes, cursor: str) -> bytes:
    identity = f"id: {cursor}\n".encode() if cursor else b""
    return b"event: " + name.encode() + b"\n" + identity + b"data: " + data + b"\n\n"
