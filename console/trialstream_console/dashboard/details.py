"""One trial with all of its fields, as JSON."""

from __future__ import annotations

import math
import time
from typing import Any, NotRequired, TypedDict

from trialstream_schemas.model.aggregators import Aggregator, RingAggregator, StatAggregator
from trialstream_schemas.model.trial import Trial

from trialstream_console.dashboard.encoding import encoded, micros
from trialstream_console.dashboard.statuses import StatusInfo, status_info

__all__ = ["TrialDetail", "detail_of"]

_NOTES = "notes"


class Note(TypedDict):
    """A note of a trial."""

    text: str


class MetricInfo(TypedDict):
    """A metric of a trial.

    Attributes:
        name: Name of the metric.
        count: Number of finite values; the statistics are of these.
        nan: Number of values that are NaN.
        inf: Number of values that are +inf.
        neginf: Number of values that are -inf.
        skipped: Number of the first values, which the statistics leave out.
        last: Last value.
        last_step: Step of the last value.
        min: Minimum.
        max: Maximum.
        avg: Mean.
        sd: Standard deviation.
        best: Best value, of a metric that has one.
        best_step: Step of the best value.
    """

    name: str
    count: int
    nan: int
    inf: int
    neginf: int
    skipped: int
    last: Any
    last_step: Any
    min: float | None
    max: float | None
    avg: float | None
    sd: float | None
    best: NotRequired[Any]
    best_step: NotRequired[Any]


class ChronoInfo(TypedDict):
    """A chrono of a trial; durations are seconds.

    Attributes:
        name: Name of the chrono.
        count: Number of all durations.
        skipped: Number of the first ones, which `avg`, `sd`, `min` and `max` leave out: by default one.
        sum: Sum of all.
        avg: Mean.
        sd: Standard deviation.
        min: The shortest.
        max: The longest.
        last: The last.
        open: Number of those that run.
        failed: Number of those that ended with an exception.
    """

    name: str
    count: int
    skipped: int
    sum: float | None
    avg: float | None
    sd: float | None
    min: float | None
    max: float | None
    last: float | None
    open: int
    failed: int


class ErrorInfo(TypedDict):
    """An error of a trial."""

    type: str
    message: str
    traceback: str
    time: int | None


class AttemptInfo(TypedDict):
    """An attempt of a trial."""

    key: str
    started: int | None
    resume_step: float | int | None
    world_size: int | None


class ParticipantInfo(TypedDict):
    """A process that takes part in an attempt.

    Attributes:
        writer: Id of the writer.
        attempt: Number of the attempt.
        rank: Rank of the process; null for a helper.
        host: Name of the machine.
        joined: When it started.
        last_seen: When it was last seen.
        status: `Running` until it ends.
        error: Class and message of the exception that ended it; empty without one.
        latest: Whether it is in the latest attempt.
    """

    writer: str
    attempt: int
    rank: int | None
    host: str
    joined: int | None
    last_seen: int | None
    status: str
    error: str
    latest: bool


class WriterInfo(TypedDict):
    """A writer of a trial, and the number of its latest event."""

    writer: str
    events: int


class TrialDetail(TypedDict):
    """A trial with all of its fields.

    Attributes:
        uid: Uid of the trial.
        name: Its name.
        version: Its version.
        description: Its description.
        project: Uid of its project.
        group: Uid of its group.
        status: Its status.
        created: When it was created.
        started: When it was first started.
        finished: When it finished.
        last_seen: When it was last seen.
        parameters: Its parameters.
        metadata: Its metadata; what accumulates values is a summary of them.
        tags: Its tags.
        notes: Its notes.
        metrics: Its metrics.
        chronos: Its chronos.
        errors: Its latest errors.
        errors_dropped: Number of older errors.
        attempts: Its attempts.
        participants: The processes of its attempts.
        writers: Its writers.
        starts: Number of times that it was started.
        lost_events: Number of events that never reached the log.
        rows: Number of rows of its history.
        size: Size of its document, bytes.
        state_version: Number of its updates.
    """

    uid: str
    name: str
    version: str | None
    description: str
    project: str | None
    group: str | None
    status: StatusInfo
    created: int | None
    started: int | None
    finished: int | None
    last_seen: int | None
    parameters: dict[str, Any]
    metadata: dict[str, Any]
    tags: dict[str, Any]
    notes: list[Note]
    metrics: list[MetricInfo]
    chronos: list[ChronoInfo]
    errors: list[ErrorInfo]
    errors_dropped: int
    attempts: list[AttemptInfo]
    participants: list[ParticipantInfo]
    writers: list[WriterInfo]
    starts: int
    lost_events: int
    rows: int
    size: int
    state_version: int


def detail_of(trial: Trial) -> TrialDetail:
    """Return a trial as JSON.

    Args:
        trial: The trial, with all fields.
    """
    latest = len(trial.attempts)
    return {
        "uid": trial.uid,
        "name": trial.name,
        "version": trial.version,
        "description": trial.description,
        "project": trial.project_id,
        "group": trial.group_id,
        "status": status_info(trial.status, trial.last_seen, time.time()),
        "created": micros(trial.created),
        "started": micros(trial.started),
        "finished": micros(trial.finished),
        "last_seen": micros(trial.last_seen),
        "parameters": _by_name(trial.parameters),
        "metadata": _by_name(trial.metadata),
        "tags": _by_name(trial.tags),
        "notes": _notes(trial.metadata.get(_NOTES)),
        "metrics": [_metric(name, each) for name, each in sorted(trial.metrics.items())],
        "chronos": [
            _chrono(name, trial.chronos.get(name), trial)
            for name in sorted({*trial.chronos, *trial.open_chronos, *trial.failed_chronos})
        ],
        "errors": [
            {"type": each.type, "message": each.message, "traceback": each.traceback, "time": micros(each.time)}
            for each in trial.errors
        ],
        "errors_dropped": trial.errors_dropped,
        "attempts": [
            {
                "key": each.key,
                "started": micros(each.started),
                "resume_step": each.resume_step,
                "world_size": each.world_size,
            }
            for each in trial.attempts
        ],
        "participants": [
            {
                "writer": writer,
                "attempt": each.attempt,
                "rank": each.rank,
                "host": each.host,
                "joined": micros(each.joined),
                "last_seen": micros(each.last_seen),
                "status": str(each.status),
                "error": each.error or "",
                "latest": each.attempt == latest,
            }
            for writer, each in trial.participants.items()
        ],
        "writers": [{"writer": writer, "events": events} for writer, events in trial.writers.items()],
        "starts": trial.starts,
        "lost_events": trial.lost_events,
        "rows": trial.rows,
        "size": trial.size,
        "state_version": trial.state_version,
    }


def _by_name(values: dict[str, Any]) -> dict[str, Any]:
    """Convert values by name: these names are keys also if they begin with `$`."""
    return {name: encoded(each) for name, each in values.items()}


def _notes(found: Any) -> list[Note]:
    if not isinstance(found, RingAggregator):
        return []
    return [{"text": each} for each in found.values if isinstance(each, str)]


def _metric(name: str, found: Aggregator) -> MetricInfo:
    info: MetricInfo = {
        "name": name,
        "count": _count(found, "count"),
        "nan": _count(found, "nan"),
        "inf": _count(found, "inf"),
        "neginf": _count(found, "neginf"),
        "skipped": len(_skipped(found)),
        "last": encoded(getattr(found, "last", None)),
        "last_step": encoded(getattr(found, "last_step", None)),
        "min": _finite(found, "min"),
        "max": _finite(found, "max"),
        "avg": _finite(found, "avg"),
        "sd": _finite(found, "sd"),
    }
    if hasattr(found, "best"):
        info["best"], info["best_step"] = encoded(found.best), encoded(getattr(found, "best_step", None))
    return info


def _chrono(name: str, found: Aggregator | None, trial: Trial) -> ChronoInfo:
    skipped = _skipped(found)
    return {
        "name": name,
        "count": _count(found, "count") + len(skipped),
        "skipped": len(skipped),
        "sum": None if found is None else _finite_or_none(sum(skipped, _finite(found, "sum") or 0.0)),
        "avg": _finite(found, "avg"),
        "sd": _finite(found, "sd"),
        "min": _finite(found, "min"),
        "max": _finite(found, "max"),
        "last": _finite(found, "last"),
        "open": trial.open_chronos.get(name, 0),
        "failed": trial.failed_chronos.get(name, 0),
    }


def _count(found: Aggregator | None, field: str) -> int:
    return int(getattr(found, field, 0) or 0)


def _skipped(found: Aggregator | None) -> list[float]:
    return found.skipped_values if isinstance(found, StatAggregator) else []


def _finite(found: Aggregator | None, field: str) -> float | None:
    return _finite_or_none(getattr(found, field, None))


def _finite_or_none(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
