"""The output that a trial has captured."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypedDict

from trialstream_schemas.model.aggregators import RingAggregator

from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.endpoints import Endpoint
from trialstream_console.dashboard.shapes import Limits

__all__ = ["ENDPOINTS"]

# The metadata of one stream; of a rank of a distributed run, its name has the rank.
_KEY = re.compile(r"(?:rank(\d{1,9})/)?output/(.+)", re.DOTALL)


class Output(TypedDict):
    """The last part of what a process has printed.

    Attributes:
        stream: Name of the stream of the text.
        rank: Rank of the process that has printed it; null for one without a rank.
        streams: Names of the streams that there are, of the rank.
        ranks: Ranks that have captured something; null stands for processes without a rank.
        text: The text of the stream.
        truncated: Whether older text may be left out.
    """

    stream: str
    rank: int | None
    streams: list[str]
    ranks: list[int | None]
    text: str
    truncated: bool


async def output(
    context: Context,
    uid: str,
    stream: Annotated[str, Limits("Name of the stream; `stdout` or the first one if it is empty.", most=1024)] = "",
    rank: Annotated[int | None, Limits("Rank of the process; without it, no rank or the first one.", 0, 10**9)] = None,
) -> Output:
    """The last part of what a process of the trial has printed, as the trial keeps it."""
    trial = await context.trial(uid, ["metadata"])
    return await context.compute(_output, trial.metadata, stream, rank)


def _output(metadata: dict[str, Any], stream: str, rank: int | None) -> Output:
    streams: dict[tuple[int | None, str], RingAggregator] = {}
    for key, value in metadata.items():
        if isinstance(value, RingAggregator) and (parts := _KEY.fullmatch(key)):
            streams[None if parts[1] is None else int(parts[1]), parts[2]] = value
    ranks = sorted({of for of, _ in streams}, key=lambda of: -1 if of is None else of)
    if rank is None and ranks:
        rank = ranks[0]
    names = sorted(name for of, name in streams if of == rank)
    if not stream:
        stream = "stdout" if "stdout" in names or not names else names[0]
    pieces = streams.get((rank, stream))
    return {
        "stream": stream,
        "rank": rank,
        "streams": names,
        "ranks": ranks,
        "text": "" if pieces is None else "".join(map(str, pieces.values)),
        "truncated": pieces is not None and len(pieces.values) >= pieces.size,
    }


ENDPOINTS = (Endpoint("GET", "/trials/{uid}/output", output, places="large", etag=True),)
