"""Selection of the events that an export keeps: a pure computation over the events in their order."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from trialstream_schemas.model.identity import hash_of
from trialstream_schemas.wire import events
from trialstream_schemas.wire.envelope import envelope_fault

from trialstream_consumer.fold import Changes, Refused, State, fold, resolve

__all__ = ["Members", "Selection"]


@dataclass(frozen=True)
class Selection:
    """Conditions of an export; None is no condition, and all others must be met.

    Attributes:
        project: Uid of a project.
        trial: Uid of a trial, or a hash for all its revisions.
        since: Earliest append time of the broker, inclusive, milliseconds since 1970 UTC.
        until: Latest append time of the broker, exclusive, milliseconds since 1970 UTC.
    """

    project: str | None = None
    trial: str | None = None
    since: int | None = None
    until: int | None = None


class Members:
    """The events that a selection keeps.

    In a first pass over the log, `add` is called with every event. Then `settle` is called. In a second pass, `keeps`
    decides for each event.

    Args:
        selection: The conditions.

    Attributes:
        of_subjects: Whether the selection names a project or a trial.
        trials: Uids of the trials whose events are kept.
        projects: Uids of the projects that are kept.
        groups: Uids of the groups that are kept.
    """

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self.of_subjects = selection.project is not None or selection.trial is not None
        # Holds the outcomes of creations, to resolve the addresses of trials.
        self._state = State()
        # Uids of the trials that have events in the selected time.
        self._active: set[str] = set()
        # Uid of a trial → the projects and groups in which it ever was, as pairs of "project" or "group" and the uid.
        self._ties: dict[str, set[tuple[str, str]]] = defaultdict(set)
        # Uid of a group → uid of its project.
        self._group_projects: dict[str, str | None] = {}
        # Hashes of the trials whose events are kept.
        self._hashes: set[str] = set()
        self.trials: set[str] = set()
        self.projects: set[str] = set()
        self.groups: set[str] = set()

    def add(self, event: events.Event | None, timestamp: int) -> None:
        """Add an event, in the order of its partition.

        Args:
            event: The event, or None for a record that cannot be decoded.
            timestamp: Append time of the broker, milliseconds since 1970 UTC.
        """
        if self._selection.until is not None and timestamp >= self._selection.until:
            return
        if event is None or envelope_fault(event):  # a dead letter, whose ids may be of any length
            return
        if isinstance(event, events.GroupCreated):
            self._group_projects[event.group] = event.project_id
        if not isinstance(event, events.TrialEvent):
            return
        uid = self._uid_of_creation(event) if isinstance(event, events.TrialCreated) else self._uid_of(event)
        if uid is None:
            return
        if self._is_since(timestamp):
            self._active.add(uid)
        if isinstance(event, events.TrialCreated | events.TrialAttached):
            ties = (("project", event.project_id), ("group", event.group_id))
            self._ties[uid].update((kind, each) for kind, each in ties if each is not None)

    def _uid_of_creation(self, event: events.TrialCreated) -> str | None:
        """Fold a creation, to keep its outcome: later events may name the trial by the creation's request.

        Returns:
            The uid of the new trial; None if the creation made none.
        """
        try:
            fold(self._state, event)
        except Refused:
            return None
        self._state.trials.clear()
        self._state.changes = Changes()
        outcome = self._state.outcomes.get(event.outcome_id)
        return outcome.uid if outcome else None

    def _uid_of(self, event: events.TrialEvent) -> str:
        return resolve(self._state, event.trial) or event.trial

    def _is_since(self, timestamp: int) -> bool:
        return self._selection.since is None or timestamp >= self._selection.since

    def settle(self) -> None:
        """Find the trials, projects and groups to keep: to be called once, after the last `add`."""
        wanted = self._selection
        if wanted.project is not None:
            self.projects.add(wanted.project)
            self.groups.update(each for each, project in self._group_projects.items() if project == wanted.project)
        selected = {("project", each) for each in self.projects} | {("group", each) for each in self.groups}
        self.trials = {
            uid
            for uid in self._active
            if (wanted.trial is None or wanted.trial in (uid, hash_of(uid)))
            and (wanted.project is None or selected & self._ties.get(uid, set()))
        }
        self._hashes = {hash_of(uid) for uid in self.trials}
        ties = [tie for uid in self.trials for tie in self._ties.get(uid, ())]
        self.groups.update(each for kind, each in ties if kind == "group")
        self.projects.update(each for kind, each in ties if kind == "project")
        self.projects.update(each for group in self.groups if (each := self._group_projects.get(group)) is not None)

    def keeps(self, event: events.Event | None, timestamp: int) -> bool:
        """Whether an event is kept: to be called after `settle`.

        Args:
            event: The event, or None for a record that cannot be decoded.
            timestamp: Append time of the broker, milliseconds since 1970 UTC.
        """
        if isinstance(event, events.LogCreated):
            return True
        if self._selection.until is not None and timestamp >= self._selection.until:
            return False
        is_since = self._is_since(timestamp)
        match event:
            case None:
                return is_since and not self.of_subjects
            case events.TrialCreated():  # all creations of the hash: the fold counts them to give revisions
                return event.hash in self._hashes
            case events.TrialEvent():
                return self._uid_of(event) in self.trials and (is_since or _ties_rows(event))
            case events.ProjectCreated():
                return not self.of_subjects or event.project in self.projects
            case events.GroupCreated():
                return not self.of_subjects or event.group in self.groups
            case events.GroupMetadataSet():
                return is_since and (not self.of_subjects or event.group in self.groups)
        return is_since and not self.of_subjects


def _ties_rows(event: events.TrialEvent) -> bool:
    """Whether an event says to which project, group or attempt the later events of a trial belong."""
    if isinstance(event, events.TrialAttached):
        return True
    updates = events.updates_of(event)
    return any(isinstance(each, events.TrialStarted) and each.attempt is not None for each in updates)
