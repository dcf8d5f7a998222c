"""The fold: what an event makes of the state of a partition.

Invariants, each tested as a property:

- **Pure.** The result depends on the state and the events alone: no clock, no randomness, no I/O.
- **Cut-free.** Folding a log in one batch or in many, from memory or from documents read back, gives the same state.
- **Exactly once.** An event of a writer counts once, however often it comes: `seq` at most the mark, or a known
  request, is skipped. A `seq` that leaves a gap is applied, and the gap is counted on the trial as `lost_events`.
- **All or nothing.** An event that is refused changes nothing but its writer's mark; it becomes a dead letter.

The state is advanced in place: whoever holds it drops it when the batch cannot be written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, TypeAlias

from trialstream_schemas.errors import TrialStreamError
from trialstream_schemas.model.aggregators import (
    Aggregator,
    AggregatorSpec,
    RingAggregator,
    TimeSeriesAggregator,
    ValueAggregator,
)
from trialstream_schemas.model.columns import extremes, shifted
from trialstream_schemas.model.history import Bucket, Rows, Shape
from trialstream_schemas.model.outcome import Outcome
from trialstream_schemas.model.status import Status, status_of
from trialstream_schemas.model.times import check_micros, from_micros
from trialstream_schemas.model.trial import Project, Trial, TrialError, TrialGroup
from trialstream_schemas.model.values import INT64_MAX, check_name, key_size, size, values
from trialstream_schemas.wire.events import (
    ArgumentsLogged,
    ChronosFinished,
    ChronoStarted,
    Error,
    Event,
    GroupCreated,
    GroupMetadataSet,
    Heartbeat,
    LogCreated,
    MetadataLogged,
    MetricsLogged,
    ProjectCreated,
    StatusSet,
    SubjectEvent,
    TagsAdded,
    TrialAttached,
    TrialCreated,
    TrialEvent,
    TrialFinished,
    TrialStarted,
)
from trialstream_schemas.wire.limits import MAX_ERROR_MESSAGE, MAX_ERROR_TRACEBACK, MAX_ERROR_TYPE

__all__ = ["BucketKey", "Changes", "Needs", "Refused", "State", "fold", "fold_rows", "needs"]

BucketKey: TypeAlias = tuple[str, Shape]

# MongoDB takes 16 MiB; the rest is room for what `size` only estimates.
MAX_DOCUMENT_BYTES = 12 * 1024 * 1024
# 32 errors of at most 10,496 characters stay under 1.4 MiB of UTF-8: room beside the 12 MiB, so that no end of a trial
# is refused for the size of its traceback.
MAX_ERRORS = 32
# Their marks take 1.2 MB at most, beside the 12 MiB too, so that a writer that comes late can still end a trial.
MAX_WRITERS = 16 * 1024
# The fixed fields of a trial's document with its runtime, and what an entry adds to it beside its key and value.
_FIXED_BYTES = 8 * 1024
_ENTRY_BYTES = 64
_HASH = re.compile(r"[0-9a-f]{32}")
_WRITER = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TIMESERIES = TimeSeriesAggregator.lazy()
# These do not count in a trial's state_version: they are many, and no claim depends on them.
_UNCOUNTED = (MetricsLogged, ChronoStarted, ChronosFinished, Heartbeat)


class Refused(Exception):
    """The event cannot be folded; its message is the dead letter's reason."""


@dataclass
class Changes:
    """What has to be written so that the documents equal the state."""

    trials: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    projects: set[str] = field(default_factory=set)
    buckets: set[BucketKey] = field(default_factory=set)
    filled: list[Bucket] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)


@dataclass
class State:
    """State of a partition, as far as it was loaded. None stands for what is known not to exist.

    Attributes:
        trials: By uid.
        revisions: By hash, the revision that the next creation gets.
        groups: By uid (registry).
        projects: By uid (registry).
        buckets: The open one of each trial and shape.
        outcomes: By request.
        changes: What has changed since the last write.
    """

    trials: dict[str, Trial | None] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)
    groups: dict[str, TrialGroup | None] = field(default_factory=dict)
    projects: dict[str, Project | None] = field(default_factory=dict)
    buckets: dict[BucketKey, Bucket | None] = field(default_factory=dict)
    outcomes: dict[str, Outcome | None] = field(default_factory=dict)
    changes: Changes = field(default_factory=Changes)


@dataclass
class Needs:
    """What has to be loaded before events can be folded; the requests include those in trial addresses."""

    trials: set[str] = field(default_factory=set)
    hashes: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    projects: set[str] = field(default_factory=set)
    shapes: set[BucketKey] = field(default_factory=set)
    requests: set[str] = field(default_factory=set)


def needs(events: Iterable[Event]) -> Needs:
    """What the events look at. Addresses `<hash>~<request>` stand among trials and shapes as they are."""
    found = Needs()
    for event in events:
        if isinstance(event, SubjectEvent) and event.request is not None:
            found.requests.add(event.request)
        match event:
            case TrialCreated():
                found.hashes.add(event.hash)
            case TrialEvent():
                found.trials.add(event.trial)
                _, _, creator = event.trial.partition("~")
                if creator:
                    found.requests.add(creator)
                found.shapes.update((event.trial, shape) for shape in _shapes(event))
            case ProjectCreated():
                found.projects.add(event.project)
            case GroupCreated():
                found.groups.add(event.group)
                if event.project_id is not None:
                    found.projects.add(event.project_id)
            case GroupMetadataSet():
                found.groups.add(event.group)
    return found


def resolve(state: State, address: str) -> str | None:
    """Uid of the trial at an address: itself, or what the request in `<hash>~<request>` created."""
    _, _, creator = address.partition("~")
    if not creator:
        return address
    outcome = state.outcomes.get(creator)
    return outcome.uid if outcome else None


def fold(state: State, event: Event) -> None:
    """Advance the state by one event.

    Raises:
        Refused: the event cannot be folded: its dead letter's reason.
    """
    if isinstance(event, SubjectEvent) and event.request is not None and state.outcomes.get(event.request):
        return
    match event:
        case LogCreated():
            pass  # says which log this is: whoever folds has compared it already
        case TrialCreated():
            _command(state, event, _create_trial)
        case TrialEvent():
            _fold_trial(state, event)
        case ProjectCreated():
            _command(state, event, _create_project)
        case GroupCreated():
            _command(state, event, _create_group)
        case GroupMetadataSet():
            _fold_group(state, event)
        case _:
            raise Refused(f"no fold for {type(event).__name__}")


# --- Creation


def _command(state: State, event: Any, create: Any) -> None:
    """Decide a request once: its outcome is its mark."""
    if event.request is None:
        raise Refused(f"{type(event).__name__} without a request")
    try:
        uid, applied = create(state, event)
    except (Refused, TrialStreamError) as refused:
        _outcome(state, Outcome(event.request, None, applied=False, reason=str(refused)))
        raise Refused(str(refused)) from None
    _outcome(state, Outcome(event.request, uid, applied))


def _outcome(state: State, outcome: Outcome) -> None:
    state.outcomes[outcome.request] = outcome
    state.changes.outcomes.append(outcome)


def _create_trial(state: State, event: TrialCreated) -> tuple[str | None, bool]:
    if not _HASH.fullmatch(event.hash):
        raise Refused(f"not the hash of a trial: {event.hash!r}")
    revision = state.revisions.get(event.hash, 0)
    if revision and not event.auto_increment:
        return None, False
    time = from_micros(event.time)
    trial = Trial(
        hash=event.hash,
        revision=revision,
        name=check_name(event.name, "name"),
        version=_optional(event.version, "version"),
        description=event.description,
        project_id=_optional(event.project_id, "project_id"),
        group_id=_optional(event.group_id, "group_id"),
        parameters=values(event.parameters, "parameters"),
        metadata=dict(values(event.metadata, "metadata")),
        tags=values(event.tags, "tags"),
        created=time,
        last_seen=time,
    )
    trial.size = _FIXED_BYTES + len(event.description.encode())
    trial.size += size(trial.parameters) + size(trial.metadata) + size(trial.tags)
    if trial.size > MAX_DOCUMENT_BYTES:
        raise Refused(_too_large(trial))
    state.revisions[event.hash] = revision + 1
    state.trials[trial.uid] = trial
    state.changes.trials.add(trial.uid)
    return trial.uid, True


def _create_project(state: State, event: ProjectCreated) -> tuple[str, bool]:
    if state.projects.get(event.project):
        return event.project, False
    project = Project(
        name=event.name,
        description=event.description,
        metadata=dict(event.metadata),
        tags=dict(event.tags),
        created=from_micros(event.time),
    )
    if project.uid != event.project:
        raise Refused(f"project {event.project!r} is called {event.name!r}")
    state.projects[project.uid] = project
    state.changes.projects.add(project.uid)
    return project.uid, True


def _create_group(state: State, event: GroupCreated) -> tuple[str, bool]:
    if state.groups.get(event.group):
        return event.group, False
    if event.project_id is not None and not state.projects.get(event.project_id):
        raise Refused(f"there is no project {event.project_id!r}")
    group = TrialGroup(
        name=event.name,
        project_id=event.project_id,
        description=event.description,
        metadata=dict(event.metadata),
        tags=dict(event.tags),
        created=from_micros(event.time),
    )
    if group.uid != event.group:
        raise Refused(f"group {event.group!r} is not what its name and project hash to")
    state.groups[group.uid] = group
    state.changes.groups.add(group.uid)
    return group.uid, True


# --- Updates


def _fold_group(state: State, event: GroupMetadataSet) -> None:
    group = state.groups.get(event.group)
    if group is None:
        raise _refuse(state, event, None, f"there is no group {event.group!r}")
    if _seen(event, group):
        return
    state.changes.groups.add(group.uid)
    if _outdated(state, event, group):
        return
    try:
        given = values(event.values, "metadata")
        if size({**group.metadata, **given}) > MAX_DOCUMENT_BYTES:
            raise Refused(f"the document of group {group.uid} would pass {MAX_DOCUMENT_BYTES} bytes")
    except (Refused, TrialStreamError) as refused:
        raise _refuse(state, event, group.uid, str(refused)) from None
    group.metadata.update(given)
    _applied(state, event, group)


def _fold_trial(state: State, event: TrialEvent) -> None:
    uid = resolve(state, event.trial)
    trial = state.trials.get(uid) if uid else None
    if trial is None:
        raise _refuse(state, event, None, f"there is no trial {event.trial!r}")
    if _seen(event, trial):
        return
    assert uid is not None
    state.changes.trials.add(uid)
    if _outdated(state, event, trial):
        return
    try:
        _apply(state, trial, event)
    except (Refused, TrialStreamError) as refused:
        raise _refuse(state, event, trial.uid, str(refused)) from None
    _applied(state, event, trial)


def _seen(event: SubjectEvent, subject: Trial | TrialGroup) -> bool:
    """Whether the event was folded before; if not, mark it."""
    if event.request is not None:  # its outcome is its mark
        return False
    if event.seq < 1:
        raise Refused(f"neither a request nor a seq of 1 or more: {event.seq}")
    mark = subject.writers.get(event.writer)
    if mark is None:
        if not _WRITER.fullmatch(event.writer):
            raise Refused(f"not the id of a writer: {event.writer!r}")
        if len(subject.writers) >= MAX_WRITERS:
            raise Refused(f"{subject.uid} has {MAX_WRITERS} writers already")
        mark = 0
    if event.seq <= mark:
        return True
    subject.lost_events = min(subject.lost_events + event.seq - mark - 1, INT64_MAX)
    subject.writers[event.writer] = event.seq
    return False


def _outdated(state: State, event: SubjectEvent, subject: Trial | TrialGroup) -> bool:
    if event.if_version is None or event.if_version == subject.state_version:
        return False
    if event.request is not None:
        _outcome(state, Outcome(event.request, subject.uid, applied=False))
    return True


def _applied(state: State, event: SubjectEvent, subject: Trial | TrialGroup) -> None:
    if not isinstance(event, _UNCOUNTED):
        subject.state_version += 1
    if event.request is not None:
        _outcome(state, Outcome(event.request, subject.uid, applied=True))


def _refuse(state: State, event: SubjectEvent, uid: str | None, reason: str) -> Refused:
    """The refusal, told to who waits for the outcome too."""
    if event.request is not None:
        _outcome(state, Outcome(event.request, uid, applied=False, reason=reason))
    return Refused(reason)


def _apply(state: State, trial: Trial, event: TrialEvent) -> None:
    """Check all that can be refused, then change the trial."""
    time = event.time
    check_micros(time)
    match event:
        case MetricsLogged():
            time += _apply_metrics(state, trial, event)
        case ChronosFinished():
            time += _apply_chronos(state, trial, event)
        case ChronoStarted():
            _aggregators(trial, trial.chronos, [event.name], [event.aggregator])
            trial.open_chronos[event.name] = trial.open_chronos.get(event.name, 0) + 1
        case TrialStarted():
            trial.status = Status.Running
            trial.started = trial.started or from_micros(event.time)
            trial.finished = None
            trial.starts += 1
        case TrialFinished():
            _apply_finish(trial, event)
        case ArgumentsLogged():
            _merge(trial, trial.parameters, values(event.values, "parameters"))
        case TagsAdded():
            _merge(trial, trial.tags, values(event.values, "tags"))
        case MetadataLogged():
            _apply_metadata(state, trial, event)
        case StatusSet():
            trial.status = status_of(event.status.name, event.status.code)
            _add_error(trial, event.error, event.time)
        case TrialAttached():
            project_id, group_id = _optional(event.project_id, "project_id"), _optional(event.group_id, "group_id")
            trial.project_id = trial.project_id if project_id is None else project_id
            trial.group_id = trial.group_id if group_id is None else group_id
        case Heartbeat():
            pass
        case _:
            raise Refused(f"no fold for {type(event).__name__}")
    _see(trial, time)


def _see(trial: Trial, micros: int) -> None:
    seen = from_micros(micros)
    if trial.last_seen is None or seen > trial.last_seen:
        trial.last_seen = seen


def _apply_finish(trial: Trial, event: TrialFinished) -> None:
    finished = from_micros(event.time)
    elapsed = event.elapsed
    if elapsed is None and trial.started is not None:
        elapsed = max(0.0, (finished - trial.started).total_seconds())  # two clocks: they may disagree
    if elapsed is not None:
        trial.chronos.setdefault("runtime", _RUNTIME()).extend([elapsed])
    _add_error(trial, event.error, event.time)
    trial.finished = finished
    if event.interrupted:
        trial.status = Status.Interrupted
    elif event.error is not None:
        trial.status = Status.Exception
    else:
        trial.status = Status.Completed


def _apply_metrics(state: State, trial: Trial, event: MetricsLogged) -> int:
    """Fold a frame; return the latest of its `times`."""
    times, names, columns = event.times, event.names, event.columns
    rows = len(times)
    steps = event.steps or event.float_steps or event.text_steps
    if not rows or not names:
        raise Refused("a frame without rows or names")
    if len(columns) != len(names) or any([len(column) != rows for column in columns]):
        raise Refused(f"a frame of {rows} rows and {len(names)} names whose columns have other lengths")
    if not _are_distinct(tuple(names)):
        raise Refused("a frame that names a metric twice")
    if len(steps) not in (0, rows) or bool(event.steps) + bool(event.float_steps) + bool(event.text_steps) > 1:
        raise Refused("a frame whose steps are not one per row and of one type")
    for step in event.text_steps:
        check_name(step, "step")
    earliest, latest = extremes(times)
    check_micros(event.time + earliest)
    check_micros(event.time + latest)
    last_step = steps[-1] if steps else None
    growth = _step_growth(trial, event, last_step)
    aggregators = _aggregators(trial, trial.metrics, names, [event.aggregator] * len(names), growth)
    for aggregator, column in zip(aggregators, columns, strict=True):
        aggregator.extend(column, last_step)
    for shape in _shapes(event):
        _keep(state, trial, event, shape, steps, shifted(times, event.time), columns)
    return latest


def fold_rows(state: State, frames: Sequence[MetricsLogged]) -> bool:
    """Fold frames of one row each that follow one another in a trial, at once, if they are as nearly all are.

    The state is the same, to the bit, as if each were folded by itself.

    Args:
        state: The state.
        frames: Without a request or an `if_version`; of one trial, named by its uid, one writer, the same names and
            aggregator; all with steps that are integers, or all without steps.

    Returns:
        Whether they were; if not, nothing was changed: fold each by itself.
    """
    first, count = frames[0], len(frames)
    trial = state.trials.get(first.trial)
    mark = trial.writers.get(first.writer) if trial else None
    if trial is None or mark is None or [each.seq for each in frames] != list(range(mark + 1, mark + 1 + count)):
        return False
    names = tuple(first.names)
    held = [trial.metrics.get(name) for name in names]
    series = [each for each in held if type(each) is TimeSeriesAggregator and type(each.last_step) is not str]
    if not names or len(series) != len(names) or not _are_distinct(names) or first.aggregator != _TIMESERIES:
        return False
    rows = [each.columns for each in frames]
    steps = [step for each in frames for step in each.steps]
    if set(map(len, rows)) != {len(names)} or set(map(len, chain.from_iterable(rows))) != {1}:
        return False
    if len(steps) not in (0, count):
        return False
    times = [each.time + each.times[0] for each in frames]
    latest = max(times)
    try:
        for time in (latest, min(times), max(each.time for each in frames), min(each.time for each in frames)):
            check_micros(time)
    except TrialStreamError:
        return False
    columns = [[float(column[0]) for column in same] for same in zip(*rows, strict=True)]
    for aggregator, column in zip(series, columns, strict=True):
        aggregator.extend_each(column, steps[-1] if steps else None)
    for shape in _shapes(first):
        _keep(state, trial, first, shape, steps, times, columns)
    trial.writers[first.writer] = mark + count
    state.changes.trials.add(first.trial)
    _see(trial, latest)
    return True


@lru_cache(maxsize=4096)
def _are_distinct(names: tuple[str, ...]) -> bool:
    return len(set(names)) == len(names)


def _step_growth(trial: Trial, event: MetricsLogged, step: float | str | None) -> int:
    """Bytes by which the document grows for the last step, which each time series keeps and which may be a text."""
    text = type(step) is str
    growth = 0
    for name in event.names:
        held = trial.metrics.get(name)
        if type(held) is TimeSeriesAggregator:
            if text or type(held.last_step) is str:  # else both take the same
                growth += size(step) - size(held.last_step)
        elif held is None and text and event.aggregator.kind == TimeSeriesAggregator.kind:
            growth += size(step) - size(None)
    return growth


def _apply_chronos(state: State, trial: Trial, event: ChronosFinished) -> int:
    """Fold a frame of chronos; return the latest of its `times`."""
    names, rows = event.names, len(event.chronos)
    if not rows or rows != len(event.times) or rows != len(event.elapsed):
        raise Refused("a frame of chronos whose columns have different lengths")
    if not len(names) == len(event.aggregators) == len(event.announced) == len(event.failed) == len(set(names)):
        raise Refused("a frame of chronos whose names and their aggregators and counts differ in number")
    if not all(0 <= i < len(names) for i in event.chronos):
        raise Refused("a frame of chronos with a row of no name")
    if not all(0 <= n <= rows for n in (*event.announced, *event.failed)):
        raise Refused("a frame of chronos with a count beyond its rows")
    latest = max(event.times)
    check_micros(event.time + min(event.times))
    check_micros(event.time + latest)
    aggregators = _aggregators(trial, trial.chronos, names, event.aggregators)
    shapes = {shape.names[0]: shape for shape in _shapes(event)}
    rows_of: list[list[int]] = [[] for _ in names]
    for row, i in enumerate(event.chronos):
        rows_of[i].append(row)
    for i, name in enumerate(names):
        mine = rows_of[i]
        elapsed = [event.elapsed[row] for row in mine]
        aggregators[i].extend(elapsed)
        if name in shapes:
            _keep(state, trial, event, shapes[name], (), [event.time + event.times[row] for row in mine], [elapsed])
        still_open = trial.open_chronos.get(name, 0) - event.announced[i]
        if still_open > 0:
            trial.open_chronos[name] = still_open
        else:
            trial.open_chronos.pop(name, None)
        if event.failed[i] > 0:
            trial.failed_chronos[name] = trial.failed_chronos.get(name, 0) + event.failed[i]
    return latest


def _apply_metadata(state: State, trial: Trial, event: MetadataLogged) -> None:
    given = values(event.values, "metadata")
    made = {key: _known(event.aggregator) for key in given}
    merged: dict[str, Any] = {}
    accumulated: list[tuple[Aggregator, Any]] = []
    growth = 0
    for key, x in given.items():
        held = trial.metadata.get(key)
        if not isinstance(held, Aggregator):
            if isinstance(made[key], ValueAggregator):
                merged[key] = x
                continue
            held = merged[key] = made[key]
        if held.numeric and not isinstance(x, (int, float)):
            raise Refused(f"metadata.{key}: {type(held).__name__} takes numbers, not {type(x).__name__}")
        accumulated.append((held, x))
        if isinstance(held, RingAggregator):  # its document holds the last one twice
            growth += size(x) - (size(held.values[0]) if len(held.values) == held.size else 0)
            growth += size(x) - size(held.last)
    _merge(trial, trial.metadata, merged, growth)
    for aggregator, x in accumulated:
        aggregator.extend([float(x)] if aggregator.numeric else [x])
    for shape in _shapes(event):
        if isinstance(given[shape.names[0]], (int, float)):
            _keep(state, trial, event, shape, (), [event.time], [[float(given[shape.names[0]])]])  # type: ignore[arg-type]


# --- Parts


_RUNTIME = AggregatorSpec("stat", 0)


def _known(lazy: AggregatorSpec) -> Aggregator:
    try:
        return lazy()
    except (TrialStreamError, ValueError, TypeError) as error:
        raise Refused(str(error)) from None


def _optional(name: str | None, path: str) -> str | None:
    return None if name is None else check_name(name, path)


def _aggregators(
    trial: Trial, held: dict[str, Aggregator], names: Sequence[str], lazies: Sequence[AggregatorSpec], growth: int = 0
) -> list[Aggregator]:
    """The aggregators of the names, made where the trial has none; the first that the log names for a name stays."""
    if not growth and all([name in held for name in names]):  # the way of almost all frames
        return [held[name] for name in names]
    made: dict[str, Aggregator] = {}
    for name, lazy in zip(names, lazies, strict=True):
        if name not in held:
            made[check_name(name, "name")] = each = _known(lazy)
            # A chrono's name stands among the open and the failed ones too.
            growth += _ENTRY_BYTES + (3 if held is trial.chronos else 1) * key_size(name) + each.reserved
    _grow(trial, growth)
    held.update(made)
    return [held[name] for name in names]


def _grow(trial: Trial, growth: int) -> None:
    if trial.size + growth > MAX_DOCUMENT_BYTES and growth > 0:
        raise Refused(_too_large(trial))
    trial.size += growth


def _too_large(trial: Trial) -> str:
    return f"the document of trial {trial.uid} would pass {MAX_DOCUMENT_BYTES} bytes"


def _bytes(x: Any) -> int:
    return x.reserved if isinstance(x, Aggregator) else size(x)


def _merge(trial: Trial, held: dict[str, Any], given: dict[str, Any], growth: int = 0) -> None:
    for key, x in given.items():
        growth += _bytes(x) - _bytes(held[key]) if key in held else _ENTRY_BYTES + key_size(key) + _bytes(x)
    _grow(trial, growth)
    held.update(given)


def _add_error(trial: Trial, error: Error | None, time: int) -> None:
    if error is None:
        return
    # The end of a traceback names the failing line.
    texts = error.type[:MAX_ERROR_TYPE], error.message[:MAX_ERROR_MESSAGE], error.traceback[-MAX_ERROR_TRACEBACK:]
    trial.errors.append(TrialError(*texts, from_micros(time)))
    if len(trial.errors) > MAX_ERRORS:
        trial.errors.pop(0)
        trial.errors_dropped += 1


# Shapes know what is derived from them, which takes longer than a frame of one row.
_shape = lru_cache(maxsize=4096)(Shape)


def _shapes(event: TrialEvent) -> list[Shape]:
    """The shapes of the history that an event adds to; it is kept for what the event aggregates to a time series."""
    match event:
        case MetricsLogged() if event.aggregator == _TIMESERIES:
            kind = "int" if event.steps else "float" if event.float_steps else "text" if event.text_steps else "none"
            return [_shape("metrics", tuple(event.names), kind)]
        case ChronosFinished():
            pairs = zip(event.names, event.aggregators, strict=False)
            return [_shape("chronos", (name,), "none") for name, lazy in pairs if lazy == _TIMESERIES]
        case MetadataLogged() if event.aggregator == _TIMESERIES:
            return [_shape("metadata", (key,), "none") for key in event.values]
    return []


def _keep(
    state: State,
    trial: Trial,
    event: TrialEvent,
    shape: Shape,
    steps: Sequence[Any],
    times: Sequence[int],
    columns: Sequence[Sequence[float]],
) -> None:
    """Add rows to the history of a trial."""
    key = trial.uid, shape
    bucket = state.buckets.get(key)
    if bucket is None:
        bucket = state.buckets[key] = Bucket(*key)
    filled = bucket.append(Rows(shape, trial.rows, event.writer, steps, times, columns))
    trial.rows += len(times)
    if filled:
        state.changes.filled += filled
    state.changes.buckets.add(key)
