"""Exactly once, all or nothing: marks of writers, claimed versions, and outcomes of requests.

- An event without a request is identified by its writer and `seq`. The trial or group that it names holds the last
  `seq` folded of each writer: the writer's mark.
- An event with a request is identified by the request and its subject. Its outcome is recorded once, whether it is
  applied or refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, TypeVar

from trialstream_schemas.errors import TrialStreamError
from trialstream_schemas.messages import shortened
from trialstream_schemas.model.outcome import Outcome
from trialstream_schemas.model.trial import Trial, TrialGroup
from trialstream_schemas.model.values import INT64_MAX
from trialstream_schemas.wire.envelope import WRITER
from trialstream_schemas.wire.events import ChronosFinished, ChronoStarted, Heartbeat, MetricsLogged, SubjectEvent
from trialstream_schemas.wire.limits import MAX_ID, MAX_WRITERS

from trialstream_consumer.fold.state import Refused, State

__all__ = ["apply_once", "create_once", "is_decided", "refuse"]

# Events that do not count in `state_version`: there are many of them, and no claim depends on them.
_UNVERSIONED = (MetricsLogged, ChronoStarted, ChronosFinished, Heartbeat)

_Subject = TypeVar("_Subject", Trial, TrialGroup)
_Event = TypeVar("_Event", bound=SubjectEvent)


def is_decided(state: State, event: SubjectEvent) -> bool:
    """Whether the request of an event has an outcome."""
    return state.outcomes.get(event.outcome_id) is not None


def apply_once(
    state: State,
    event: _Event,
    uid: str,
    subject: _Subject,
    changed: set[str],
    apply: Callable[[State, _Subject, _Event], None],
) -> None:
    """Apply an update to its trial or group, unless it was folded before or claims another version.

    Args:
        state: The state.
        event: The update; its request, if it has one, is not decided yet.
        uid: Uid of the subject.
        subject: The trial or group of the event.
        changed: Uids of changed subjects; the uid is added.
        apply: Applies the event, or raises an error and changes nothing.

    Raises:
        Refused: The event cannot be folded; nothing of the subject has changed except the writer's mark.
    """
    if event.request is None:
        if 1 <= event.seq <= subject.writers.get(event.writer, 0):
            return  # a duplicate
        _advance_mark(event, subject)
    changed.add(uid)
    if event.if_version is not None and event.if_version != subject.state_version:
        _record_outcome(state, event, uid, applied=False)
        return
    try:
        apply(state, subject, event)
    except (Refused, TrialStreamError) as error:
        refuse(state, event, uid, str(error))
    if not isinstance(event, _UNVERSIONED):
        subject.state_version += 1
    if event.request is not None:
        _record_outcome(state, event, uid, applied=True)


def _advance_mark(event: SubjectEvent, subject: Trial | TrialGroup) -> None:
    """Move the mark of an event's writer to the event's `seq`, and count skipped numbers as lost events.

    Args:
        event: An event without a request that is no duplicate.
        subject: The trial or group of the event.

    Raises:
        Refused: The event has no valid `seq` or writer, or the subject has too many writers; the subject is unchanged.
    """
    seq, writer = event.seq, event.writer
    if seq < 1:
        raise Refused(f"seq: expected 1 or more in an event without a request, got {seq}")
    mark = subject.writers.get(writer)
    if mark is None:
        if not WRITER.fullmatch(writer):
            raise Refused(f"writer: expected 1 to {MAX_ID} letters, digits, '-' and '_', got {writer!r}")
        if len(subject.writers) >= MAX_WRITERS:
            raise Refused(f"{subject.uid}: expected at most {MAX_WRITERS} writers, got {writer!r} as one more")
        mark = 0
    subject.lost_events = min(subject.lost_events + seq - mark - 1, INT64_MAX)
    subject.writers[writer] = seq


def create_once(state: State, event: _Event, create: Callable[[State, _Event], tuple[str | None, bool]]) -> None:
    """Create a trial, group or project, and record the outcome of the request.

    Args:
        state: The state.
        event: The creation; its request is not decided yet.
        create: Returns the uid of the new or existing subject, and whether the subject is new; or raises an error and
            changes nothing.

    Raises:
        Refused: The event cannot be folded.
    """
    if event.request is None:
        raise Refused(f"request: expected an id in {type(event).__name__}, got None")
    try:
        uid, applied = create(state, event)
    except (Refused, TrialStreamError) as error:
        refuse(state, event, None, str(error))
    _record_outcome(state, event, uid, applied=applied)


def refuse(state: State, event: SubjectEvent, uid: str | None, reason: str) -> NoReturn:
    """Refuse an event, and record the refusal as the outcome of its request.

    Raises:
        Refused: Always, with the reason.
    """
    reason = shortened(reason)
    _record_outcome(state, event, uid, applied=False, reason=reason)
    raise Refused(reason) from None


def _record_outcome(
    state: State, event: SubjectEvent, uid: str | None, *, applied: bool, reason: str | None = None
) -> None:
    """Record the outcome of an event's request, if it has one."""
    if event.request is not None:
        outcome = state.outcomes[event.outcome_id] = Outcome(event.outcome_id, uid, applied, reason)
        state.changes.outcomes.append(outcome)
