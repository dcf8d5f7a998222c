"""The chronos of a trial as intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple, TypedDict

import anyio.to_thread
import numpy as np
from trialstream.sync import SyncProtocol
from trialstream_schemas.errors import SchemaError
from trialstream_schemas.model.trial import Trial
from trialstream_schemas.wire.events import ChronosFinished, TrialUpdated

from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.endpoints import Endpoint
from trialstream_console.dashboard.pasts import Past, kind_of, past_of

__all__ = ["ENDPOINTS"]

_MAX_SPANS = 2000
_KINDS = ("", ChronosFinished.__name__, TrialUpdated.__name__)


class Span(TypedDict):
    """A chrono that has ended.

    Attributes:
        name: Its name.
        writer: Id of its writer.
        rank: Rank of the writer; null without one.
        start: When it was started.
        seconds: How long it took.
        failed: Whether it is known that it ended with an exception.
    """

    name: str
    writer: str
    rank: int | None
    start: int
    seconds: float
    failed: bool


class Timeline(TypedDict):
    """The chronos of a trial.

    Attributes:
        spans: The first and the last ones of each name, by their start.
        total: Number of all.
    """

    spans: list[Span]
    total: int


class _Chrono(NamedTuple):
    name: str
    writer: str
    end: int
    seconds: float
    failed: bool


async def timeline(context: Context, uid: str) -> Timeline:
    """The chronos of a trial as intervals: at most 2,000, the first and the last of each name.

    They are those of the events of the log; while Kafka is away, those with a history.
    """
    trial = await context.trial(uid, ["attempts", "participants", "former_participants"])
    if context.kafka == "ok":
        past = await past_of(context, uid)
        chronos = await anyio.to_thread.run_sync(partial(_logged, past))
    else:
        chronos = await context.in_thread(partial(_of_history, trial))
    return await context.compute(_timeline, trial, chronos)


def _timeline(trial: Trial, chronos: dict[str, list[_Chrono]]) -> Timeline:
    ranks = {writer: each.rank for writer, each in trial.former_participants.items()}
    ranks |= {writer: each.rank for writer, each in trial.participants.items()}
    kept = [each for of_name in chronos.values() for each in _ends(of_name, _MAX_SPANS // len(chronos))]
    spans: list[Span] = [
        {
            "name": each.name,
            "writer": each.writer,
            "rank": ranks.get(each.writer),
            "start": each.end - round(each.seconds * 1e6),
            "seconds": each.seconds,
            "failed": each.failed,
        }
        for each in kept[:_MAX_SPANS]
    ]
    spans.sort(key=lambda each: each["start"])
    return {"spans": spans, "total": sum(map(len, chronos.values()))}


def _ends(chronos: list[_Chrono], most: int) -> list[_Chrono]:
    """Return the first and the last ones."""
    most = max(most, 2)
    return chronos if len(chronos) <= most else chronos[: most // 2] + chronos[-(most // 2) :]


def _logged(past: Past) -> dict[str, list[_Chrono]]:
    found: defaultdict[str, list[_Chrono]] = defaultdict(list)
    marks: dict[str, int] = {}
    for record in past.log.records:
        if kind_of(record.value) not in _KINDS:
            continue
        try:
            event = past.log.schemas.decode(record.value)
        except SchemaError:
            continue
        if not past.has(event) or not isinstance(event, ChronosFinished | TrialUpdated):
            continue
        if event.request is None:
            if event.seq <= marks.get(event.writer, 0):
                continue  # a repetition
            marks[event.writer] = event.seq
        for each in event.updates if isinstance(event, TrialUpdated) else [event]:
            if isinstance(each, ChronosFinished):
                for chrono in _of_frame(each):
                    found[chrono.name].append(chrono)
    return dict(found)


def _of_frame(event: ChronosFinished) -> Iterator[_Chrono]:
    """Return the chronos of a frame, which counts failed ones by name; none of an inconsistent one."""
    counts = [event.chronos.count(i) for i in range(len(event.names))]
    for i, time, elapsed in zip(event.chronos, event.times, event.elapsed, strict=False):
        if 0 <= i < min(len(counts), len(event.failed)) and np.isfinite(elapsed):
            yield _Chrono(event.names[i], event.writer, event.time + time, elapsed, event.failed[i] == counts[i])


def _of_history(trial: Trial, protocol: SyncProtocol) -> dict[str, list[_Chrono]]:
    histories = protocol.fetch_histories([trial], section="chronos", max_points=_MAX_SPANS).get(trial.uid, {})
    return {
        name: [
            _Chrono(name, str(writer), int(time), float(seconds), False)
            for writer, time, seconds in zip(
                each.writers, each.times.astype("datetime64[us]").astype(np.int64), each.values, strict=True
            )
            if np.isfinite(seconds)
        ]
        for name, each in histories.items()
    }


ENDPOINTS = (Endpoint("GET", "/trials/{uid}/timeline", timeline, places="expensive"),)
