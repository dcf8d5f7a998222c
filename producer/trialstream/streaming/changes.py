"""The items of a watch: a change of a trial, and the changes of one look."""

from __future__ import annotations

from dataclasses import dataclass

from trialstream_schemas.model.trial import Trial

__all__ = ["TrialChange", "TrialChanges"]


@dataclass(frozen=True)
class TrialChange:
    """A trial that matches the query of a watch and has changed, or does not match any more.

    Attributes:
        uid: Uid of the trial.
        trial: The trial as it is after the change, with the fields of the watch; None if it does not exist any more.
        matches: Whether the query matches it.
    """

    uid: str
    trial: Trial | None
    matches: bool


@dataclass(frozen=True)
class TrialChanges:
    """The changes that a watch has seen in one look.

    Attributes:
        changes: One for each trial, in the order in which they first changed; in a reset, ordered by uid.
        reset: Whether everything is sent again from here on, because earlier changes may be missing: what is not among
            the changes from here to the next cursor does not match.
        cursor: The position after these changes; None in a reset that goes on with the next changes.
    """

    changes: tuple[TrialChange, ...]
    reset: bool
    cursor: str | None
