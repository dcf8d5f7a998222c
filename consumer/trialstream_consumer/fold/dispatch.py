"""Dispatch: one event to the function that folds it."""

from __future__ import annotations

from trialstream_schemas.wire.events import (
    Event,
    GroupCreated,
    GroupMetadataSet,
    LogCreated,
    ProjectCreated,
    SubjectEvent,
    TrialCreated,
    TrialEvent,
)

from trialstream_consumer.fold.creation import create_group, create_project, create_trial
from trialstream_consumer.fold.exactly_once import create_once, is_decided
from trialstream_consumer.fold.state import Refused, State
from trialstream_consumer.fold.updates import update_group, update_trial

__all__ = ["fold"]


def fold(state: State, event: Event) -> None:
    """Advance the state by one event.

    Args:
        state: The state; it holds the `needs` of the event.
        event: The next event of the partition.

    Raises:
        Refused: The event cannot be folded; the message is the reason in its dead letter.
    """
    if isinstance(event, SubjectEvent) and event.request is not None and is_decided(state, event):
        return
    match event:
        case TrialCreated():
            create_once(state, event, create_trial)
        case TrialEvent():
            update_trial(state, event)
        case ProjectCreated():
            create_once(state, event, create_project)
        case GroupCreated():
            create_once(state, event, create_group)
        case GroupMetadataSet():
            update_group(state, event)
        case LogCreated():
            pass  # it identifies the log, which the caller has compared with the projection's
        case _:
            raise Refused(f"{type(event).__name__}: expected an event that this version folds; upgrade the consumer")
