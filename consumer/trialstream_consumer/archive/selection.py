"""Which part of the log an export keeps: pure, over the events in their order."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from trialstream_schemas.wire import events

from trialstream_consumer.fold import Changes, Refused, State, fold, resolve

__all__ = ["Members", "Selection"]


@dataclass(frozen=True)
class Selection:
    """What to export: all that meets every given condition.

    Attributes:
        project: Uid of a project.
        trial: Uid of a trial, or a hash: all its revisions.
        since: The broker's append time, milliseconds since 1970 UTC; later or equal.
        until: The same; earlier.
    """

    project: str | None = None
    trial: str | None = None
    since: int | None = None
    until: int | None = None


class Members:
    """Which events a selection keeps. All events are added in a first pass; then `keeps` answers for each."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self.of_subjects = selection.project is not None or selection.trial is not None
        self._state = State()
        self._active: set[str] = set()
        self._ties: dict[str, set[tuple[str, str]]] = defaultdict(set)
        self._group_projects: dict[str, str | None] = {}
        self._hashes: set[str] = set()
        self.trials: set[str] = set()
        self.projects: set[str] = set()
        self.groups: set[str] = set()

    def add(self, event: events.Event | None, timestamp: int) -> None:
        """Look at an event of the log (None: undecodable), in the order of its partition."""
        if self._selection.until is not None and timestamp >= self._selection.until:
            return
        if isinstance(event, events.GroupCreated):
            self._group_projects[event.group] = event.project_id
        if not isinstance(event, events.TrialEvent):
            return
        uid = self._created(event) if isinstance(event, events.TrialCreated) else self._uid(event)
        if uid is None:
            return
        if self._in_time(timestamp):
            self._active.add(uid)
        if isinstance(event, events.TrialCreated | events.TrialAttached):
            ties = (("project", event.project_id), ("group", event.group_id))
            self._ties[uid].update((kind, each) for kind, each in ties if each is not None)

    def _created(self, event: events.TrialCreated) -> str | None:
        """The uid that the fold gives: what is addressed by its creation's request belongs to it."""
        try:
            fold(self._state, event)
        except Refused:
            return None
        self._state.trials.clear()
        self._state.changes = Changes()
        outcome = self._state.outcomes.get(event.request or "")
        return outcome.uid if outcome else None

    def _uid(self, event: events.TrialEvent) -> str:
        return resolve(self._state, event.trial) or event.trial

    def _in_time(self, timestamp: int) -> bool:
        return self._selection.since is None or timestamp >= self._selection.since

    def settle(self) -> None:
        """Decide; after the last `add`."""
        wanted = self._selection
        if wanted.project is not None:
            self.projects.add(wanted.project)
            self.groups.update(each for each, project in self._group_projects.items() if project == wanted.project)
        mine = {("project", each) for each in self.projects} | {("group", each) for each in self.groups}
        self.trials = {
            uid
            for uid in self._active
            if (wanted.trial is None or wanted.trial in (uid, _hash(uid)))
            and (wanted.project is None or mine & self._ties.get(uid, set()))
        }
        self._hashes = {_hash(uid) for uid in self.trials}
        ties = [tie for uid in self.trials for tie in self._ties.get(uid, ())]
        self.groups.update(each for kind, each in ties if kind == "group")
        self.projects.update(each for kind, each in ties if kind == "project")
        self.projects.update(each for group in self.groups if (each := self._group_projects.get(group)) is not None)

    def keeps(self, event: events.Event | None, timestamp: int) -> bool:
        """Whether an event (None: undecodable) is kept."""
        if isinstance(event, events.LogCreated):
            return True
        if self._selection.until is not None and timestamp >= self._selection.until:
            return False
        in_time = self._in_time(timestamp)
        match event:
            case None:
                return in_time and not self.of_subjects
            case events.TrialCreated():  # every one of the hash, since they are counted to give revisions
                return event.hash in self._hashes
            case events.TrialEvent():
                return self._uid(event) in self.trials and (in_time or isinstance(event, events.TrialAttached))
            case events.ProjectCreated():
                return not self.of_subjects or event.project in self.projects
            case events.GroupCreated():
                return not self.of_subjects or event.group in self.groups
            case events.GroupMetadataSet():
                return in_time and (not self.of_subjects or event.group in self.groups)
        return in_time and not self.of_subjects


def _hash(uid: str) -> str:
    return uid.partition("~")[0].partition("_")[0]
