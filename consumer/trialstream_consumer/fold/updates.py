"""Updates of trials and groups: all events but creations."""

from __future__ import annotations

import copy

from trialstream_schemas.errors import TrialStreamError
from trialstream_schemas.model.aggregators import Aggregator
from trialstream_schemas.model.status import status_of
from trialstream_schemas.model.times import check_micros, from_micros
from trialstream_schemas.model.trial import Trial, TrialError, TrialGroup
from trialstream_schemas.model.values import check_name, values
from trialstream_schemas.wire.events import (
    ArgumentsLogged,
    ChronosFinished,
    ChronoStarted,
    Error,
    GroupMetadataSet,
    Heartbeat,
    MetadataLogged,
    MetricsLogged,
    StatusSet,
    TagsAdded,
    TrialAttached,
    TrialEvent,
    TrialFinished,
    TrialStarted,
    TrialUpdated,
)
from trialstream_schemas.wire.limits import MAX_ERROR_MESSAGE, MAX_ERROR_TRACEBACK, MAX_ERROR_TYPE

from trialstream_consumer.fold.attempts import apply_finish, apply_start
from trialstream_consumer.fold.chronos import apply_chrono_start, apply_chronos
from trialstream_consumer.fold.document_size import MAX_ERRORS, merge, merge_into_group
from trialstream_consumer.fold.exactly_once import apply_once, refuse
from trialstream_consumer.fold.history import shapes_of
from trialstream_consumer.fold.metadata import apply_metadata
from trialstream_consumer.fold.metrics import apply_metrics
from trialstream_consumer.fold.state import Refused, State, resolve, update_last_seen

__all__ = ["update_group", "update_trial"]


def update_group(state: State, event: GroupMetadataSet) -> None:
    """Fold an update of a group.

    Raises:
        Refused: The event cannot be folded; the group is unchanged but for the writer's mark.
    """
    group = state.groups.get(event.group)
    if group is None:
        refuse(state, event, None, f"there is no group {event.group!r}")
    apply_once(state, event, event.group, group, state.changes.groups, _apply_to_group)


def _apply_to_group(state: State, group: TrialGroup, event: GroupMetadataSet) -> None:
    merge_into_group(state, group, values(event.values, "metadata"))


def update_trial(state: State, event: TrialEvent) -> None:
    """Fold an update of a trial.

    Raises:
        Refused: The event cannot be folded; the trial is unchanged but for the writer's mark.
    """
    uid = resolve(state, event.trial)
    trial = state.trials.get(uid) if uid else None
    if uid is None or trial is None:
        refuse(state, event, None, f"there is no trial {event.trial!r}")
    apply_once(state, event, uid, trial, state.changes.trials, _apply_to_trial)


def _apply_to_trial(state: State, trial: Trial, event: TrialEvent) -> None:
    """Apply an event to a trial. All checks that can refuse the event come before the first change."""
    time = event.time
    check_micros(time)
    match event:
        case MetricsLogged():
            time += apply_metrics(state, trial, event)
        case ChronosFinished():
            time += apply_chronos(state, trial, event)
        case ChronoStarted():
            apply_chrono_start(trial, event)
        case TrialStarted():
            apply_start(trial, event)
        case TrialFinished():
            apply_finish(trial, event)
            _add_error(trial, event.error, event.time)
        case ArgumentsLogged():
            merge(trial, trial.parameters, values(event.values, "parameters"))
        case TagsAdded():
            merge(trial, trial.tags, values(event.values, "tags"))
        case MetadataLogged():
            apply_metadata(state, trial, event)
        case StatusSet():
            trial.status = status_of(event.status.name, event.status.code)
            _add_error(trial, event.error, event.time)
        case TrialAttached():
            _attach(trial, event)
        case Heartbeat():
            pass
        case TrialUpdated():
            _apply_all(state, trial, event)
        case _:
            raise Refused(f"{type(event).__name__}: expected an event that this version folds; upgrade the consumer")
    update_last_seen(trial, event.writer, time)


def _apply_all(state: State, trial: Trial, event: TrialUpdated) -> None:
    """Apply several updates in their order: to copies, which replace the originals if no update is refused.

    Raises:
        Refused: One of the updates cannot be folded, or names another trial or writer; the state is unchanged.
    """
    draft = _draft_of(trial)
    keys = [(trial.uid, shape) for shape in shapes_of(event)]
    copies = State(buckets={key: copy.deepcopy(state.buckets.get(key)) for key in keys})
    for i, each in enumerate(event.updates):
        envelope = each.trial, each.writer, each.seq, each.if_version, each.request
        if envelope != (event.trial, event.writer, 0, None, None):
            raise Refused(f"updates[{i}]: expected the trial and writer of the event, seq 0 and no request")
        try:
            _apply_to_trial(copies, draft, each)
        except (Refused, TrialStreamError) as error:
            raise Refused(f"updates[{i}]: {error}") from None
    vars(trial).update(vars(draft))
    state.buckets.update((key, copies.buckets[key]) for key in copies.changes.buckets)
    state.changes.buckets |= copies.changes.buckets
    state.changes.filled += copies.changes.filled


def _draft_of(trial: Trial) -> Trial:
    """Copy what updates change in place. The values of parameters, tags and metadata are only ever replaced."""
    draft = copy.copy(trial)
    for name in ("parameters", "tags", "open_chronos", "failed_chronos", "writers", "former_participants"):
        setattr(draft, name, dict(getattr(trial, name)))
    draft.metadata = {key: copy.deepcopy(x) if isinstance(x, Aggregator) else x for key, x in trial.metadata.items()}
    draft.metrics, draft.chronos = copy.deepcopy(trial.metrics), copy.deepcopy(trial.chronos)
    draft.participants = copy.deepcopy(trial.participants)
    draft.errors, draft.attempts = [*trial.errors], [*trial.attempts]
    return draft


def _attach(trial: Trial, event: TrialAttached) -> None:
    project_id = trial.project_id if event.project_id is None else check_name(event.project_id, "project_id")
    group_id = trial.group_id if event.group_id is None else check_name(event.group_id, "group_id")
    trial.project_id, trial.group_id = project_id, group_id


def _add_error(trial: Trial, error: Error | None, time: int) -> None:
    """Add an error to a trial, and drop the oldest error if there are more than `MAX_ERRORS`."""
    if error is None:
        return
    # The end of a traceback names the failing line.
    texts = error.type[:MAX_ERROR_TYPE], error.message[:MAX_ERROR_MESSAGE], error.traceback[-MAX_ERROR_TRACEBACK:]
    trial.errors.append(TrialError(*texts, from_micros(time)))
    if len(trial.errors) > MAX_ERRORS:
        trial.errors.pop(0)
        trial.errors_dropped += 1
