"""Needs of a batch: the entries that must be in the state before its events can be folded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from trialstream_schemas.wire.events import (
    Event,
    GroupCreated,
    GroupMetadataSet,
    ProjectCreated,
    SubjectEvent,
    TrialCreated,
    TrialEvent,
)

from trialstream_consumer.fold.history import shapes_of
from trialstream_consumer.fold.state import BucketKey

__all__ = ["Needs", "needs"]


@dataclass
class Needs:
    """Entries of the state that the fold reads. A trial may be named by its uid or by an address `<hash>~<request>`.

    Attributes:
        trials: Uids and addresses of trials.
        hashes: Hashes of trials whose next revision is needed.
        groups: Uids of groups.
        projects: Uids of projects.
        shapes: Keys of open buckets; the trial of a key may be named by an address.
        outcomes: Ids of outcomes: those of requests, and the addresses of trials that name a request.
    """

    trials: set[str] = field(default_factory=set)
    hashes: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    projects: set[str] = field(default_factory=set)
    shapes: set[BucketKey] = field(default_factory=set)
    outcomes: set[str] = field(default_factory=set)


def needs(events: Iterable[Event]) -> Needs:
    """Return the entries that the fold of these events reads."""
    found = Needs()
    for event in events:
        if isinstance(event, SubjectEvent) and event.request is not None:
            found.outcomes.add(event.outcome_id)
        match event:
            case TrialCreated():
                found.hashes.add(event.hash)
            case TrialEvent():
                found.trials.add(event.trial)
                if "~" in event.trial:
                    found.outcomes.add(event.trial)
                found.shapes.update((event.trial, shape) for shape in shapes_of(event))
            case ProjectCreated():
                found.projects.add(event.project)
            case GroupCreated():
                found.groups.add(event.group)
                if event.project_id is not None:
                    found.projects.add(event.project_id)
            case GroupMetadataSet():
                found.groups.add(event.group)
    return found
