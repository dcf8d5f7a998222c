"""State of a partition: the loaded documents as Python objects, and the changes that are not written yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from trialstream_schemas.model.history import Bucket, Shape
from trialstream_schemas.model.identity import hash_of
from trialstream_schemas.model.outcome import Outcome
from trialstream_schemas.model.times import from_micros
from trialstream_schemas.model.trial import Project, Trial, TrialGroup

from trialstream_consumer.fold.measures import Measures

__all__ = ["BucketKey", "Changes", "Refused", "State", "resolve", "update_last_seen"]

BucketKey: TypeAlias = tuple[str, Shape]
"""Uid of a trial, and a shape of its history."""


class Refused(Exception):
    """The event cannot be folded. The message is the reason in its dead letter and in the outcome of its request."""


@dataclass
class Changes:
    """Entries of a state that differ from the documents.

    Attributes:
        trials: Uids of trials to write.
        groups: Uids of groups to write.
        projects: Uids of projects to write.
        buckets: Keys of open buckets to write.
        filled: Full buckets to write; the state no longer holds them.
        outcomes: New outcomes, in the order of the log.
    """

    trials: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    projects: set[str] = field(default_factory=set)
    buckets: set[BucketKey] = field(default_factory=set)
    filled: list[Bucket] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)


@dataclass
class State:
    """The loaded documents of a partition. None marks a document that was looked up and does not exist.

    Attributes:
        trials: Trials by uid.
        revisions: Next revision by hash; 0 if no trial has the hash.
        groups: Groups by uid (registry partition only).
        projects: Projects by uid (registry partition only).
        buckets: Open buckets by trial and shape.
        outcomes: Outcomes by id.
        sizes: Sizes of fields of groups and projects, by field and uid, bytes.
        measures: Measures of frames that are about to be folded, by `id` of the event: results computed in advance.
        changes: Changes since the last write.
    """

    trials: dict[str, Trial | None] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)
    groups: dict[str, TrialGroup | None] = field(default_factory=dict)
    projects: dict[str, Project | None] = field(default_factory=dict)
    buckets: dict[BucketKey, Bucket | None] = field(default_factory=dict)
    outcomes: dict[str, Outcome | None] = field(default_factory=dict)
    sizes: dict[tuple[str, str], int] = field(default_factory=dict)
    measures: dict[int, Measures] = field(default_factory=dict)
    changes: Changes = field(default_factory=Changes)


def resolve(state: State, address: str) -> str | None:
    """Return the uid of the trial at an address.

    Args:
        state: The state. It holds the outcome whose id is the address.
        address: A uid, or `<hash>~<request>` for the trial that the request created.

    Returns:
        The uid, which has the hash of the address; None if the request created no trial of this hash.
    """
    if "~" not in address:
        return address
    outcome = state.outcomes.get(address)
    uid = outcome.uid if outcome else None
    return uid if uid is not None and hash_of(uid) == hash_of(address) else None


def update_last_seen(trial: Trial, writer: str, micros: int) -> None:
    """Set the `last_seen` of a trial, and of a participant, to a time, unless it is later.

    Args:
        trial: The trial.
        writer: Id of the writer, which may take part in an attempt.
        micros: The time, microseconds since 1970 UTC.
    """
    seen = from_micros(micros)
    if trial.last_seen is None or seen > trial.last_seen:
        trial.last_seen = seen
    participant = trial.participants.get(writer)
    if participant is not None and seen > participant.last_seen:
        participant.last_seen = seen
