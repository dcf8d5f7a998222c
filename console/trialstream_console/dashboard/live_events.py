"""The events of `/live` as they are sent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray
from trialstream.protocol import MetricHistory

from trialstream_console.dashboard.encoding import dumps, encoded
from trialstream_console.dashboard.shapes import Limits

__all__ = [
    "MAX_UIDS",
    "RowsEvent",
    "StateEvent",
    "TrialsEvent",
    "encoded_event",
    "live_event",
    "rows_of_name",
    "trials_event",
]

MAX_UIDS = 200
"""Maximum number of trials in an event."""


class TrialsEvent(TypedDict):
    """Trials that changed.

    Attributes:
        uids: Their uids, at most 200.
        more: Whether there are more than these.
    """

    uids: list[str]
    more: bool


class RowCounts(TypedDict):
    """Numbers of rows.

    Attributes:
        total: Number of all rows.
        nan: Number of rows whose value is NaN.
        inf: Number of rows whose value is +inf.
        neginf: Number of rows whose value is -inf.
    """

    total: int
    nan: int
    inf: int
    neginf: int


class RowsOfName(TypedDict):
    """Rows of a metric.

    Attributes:
        steps: Step of each row; null for a step that is no number.
        times: Time of each row.
        values: Value of each row.
        counts: Numbers of all rows, where only those that a plot needs are here.
    """

    steps: list[float | int | None]
    times: list[int]
    values: list[Any]
    counts: NotRequired[RowCounts]


RowsEvent = TypedDict(
    "RowsEvent",
    {
        "trial": str,
        "from": Annotated[int, Limits("Number of the first row of the trial that is new.")],
        "rows_seen": Annotated[int, Limits("Number of its rows now.")],
        "names": Annotated[dict[str, RowsOfName], Limits("The rows by name of the metric.")],
        "more": Annotated[bool, Limits("Whether the rows are not sent: `/series` with `since` has them.")],
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
    event: TrialsEvent = {"uids": list(uids[:MAX_UIDS]), "more": len(uids) > MAX_UIDS}
    return live_event("trials", event, cursor)


def rows_of_name(history: MetricHistory, some: slice | NDArray[np.intp]) -> RowsOfName:
    """Return some rows as JSON.

    Args:
        history: Rows of a metric.
        some: Which of them.
    """
    steps = history.steps[some].tolist()
    return {
        "steps": [each if isinstance(each, int | float) and math.isfinite(each) else None for each in steps],
        "times": history.times[some].astype("int64").tolist(),
        "values": [encoded(each) for each in history.values[some].tolist()],
    }


def live_event(name: str, data: Mapping[str, Any], cursor: str) -> bytes:
    """Return an event as it is sent; JSON has no line breaks.

    Args:
        name: Its name.
        data: Its data.
        cursor: The cursor after it; empty for none.
    """
    return encoded_event(name, dumps(data), cursor)


def encoded_event(name: str, data: bytes, cursor: str) -> bytes:
    """Return an event whose data is encoded, as it is sent.

    Args:
        name: Its name.
        data: Its data as JSON.
        cursor: The cursor after it; empty for none.
    """
    identity = f"id: {cursor}\n".encode() if cursor else b""
    return b"event: " + name.encode() + b"\n" + identity + b"data: " + data + b"\n\n"
