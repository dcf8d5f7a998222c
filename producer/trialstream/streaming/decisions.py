"""Decisions of the log: which trial an event is about, where the trial belongs, and what is a repetition.

They are those of the fold, made from the log alone:

- a creation gives a trial its revision, once for each request;
- `TrialAttached` moves a trial to another project or group;
- an event whose `seq` is not above the mark of its writer, or whose request is decided, is a repetition;
- an event of a trial that does not exist is refused, as is one whose ids are out of bounds.

The fold also refuses events for their content, such as a claim that lost; here they are taken. The mark of a writer
moves by the head of an event, so the decisions are the same whether the rest of the event is decoded or not.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

from trialstream_schemas.errors import TrialStreamError
from trialstream_schemas.model.identity import hash_of
from trialstream_schemas.model.times import check_micros
from trialstream_schemas.model.values import INT64_MAX, check_name
from trialstream_schemas.wire.creations import group_of, project_of, trial_of
from trialstream_schemas.wire.envelope import REQUEST, WRITER, envelope_fault
from trialstream_schemas.wire.events import (
    GroupCreated,
    GroupMetadataSet,
    ProjectCreated,
    SubjectEvent,
    TrialAttached,
    TrialCreated,
)
from trialstream_schemas.wire.limits import MAX_ADDRESS, MAX_ID, MAX_WRITERS

__all__ = ["Left", "Mark", "Place", "RegistryDecisions", "TrialDecisions", "TrialState", "attach"]


class Left(Enum):
    """Reason for which an event is left out."""

    REPEATED = "the log has it before, or it creates nothing"
    REFUSED = "it is a dead letter of the fold"


class Mark:
    """Mark of a writer.

    Attributes:
        seq: The `seq` of its last event.
    """

    __slots__ = ("seq",)

    def __init__(self, seq: int) -> None:
        self.seq = seq


class _Marked:
    """Something with marks of writers: a trial or a group."""

    __slots__ = ("marks",)

    def __init__(self) -> None:
        self.marks: dict[str, Mark] = {}

    def take(self, writer: str, seq: int) -> Left | None:
        """Move the mark of a writer to a `seq`; return why the event is left out, None if it is taken."""
        mark = self.marks.get(writer)
        if mark is None:
            if not 1 <= seq <= INT64_MAX or len(self.marks) >= MAX_WRITERS or not WRITER.fullmatch(writer):
                return Left.REFUSED
            self.marks[writer] = Mark(seq)
        elif seq <= mark.seq:
            return Left.REPEATED if seq >= 1 else Left.REFUSED
        elif seq > INT64_MAX:
            return Left.REFUSED
        else:
            mark.seq = seq
        return None


Place: TypeAlias = tuple[str | None, str | None, str | None]
"""Uids of the trial, the project and the group that an event belongs to."""


class TrialState(_Marked):
    """Decisions of the log about a trial so far.

    Attributes:
        uid: Uid of the trial.
        place: The uids of the trial, of its project and of its group.
        wanted: Whether the reader wants the events of the trial; set by the reader.
        marks: By writer, its mark.
    """

    __slots__ = ("place", "uid", "wanted")

    def __init__(self, uid: str, project: str | None, group: str | None) -> None:
        super().__init__()
        self.uid = uid
        self.place: Place = uid, project, group
        self.wanted = False


class TrialDecisions:
    """The decisions of one partition of the trials topic. Events are passed in the order of the log."""

    def __init__(self) -> None:
        self._trials: dict[str, TrialState] = {}
        self._revisions: dict[str, int] = {}
        # By `<hash>~<request>`, the uid of the trial that a creation made; None for one that made none.
        self._created: dict[str, str | None] = {}
        # Ids of the outcomes of all other requests.
        self._decided: set[str] = set()

    def create(self, event: TrialCreated) -> TrialState | Left:
        """Decide a creation.

        Args:
            event: The creation, in the partition of its hash.
        """
        if envelope_fault(event) or event.request is None:
            return Left.REFUSED
        id_ = event.outcome_id
        if id_ in self._created or id_ in self._decided:
            return Left.REPEATED
        self._created[id_] = None
        revision = self._revisions.get(event.hash, 0)
        if revision and not event.auto_increment:
            return Left.REPEATED
        try:
            trial = trial_of(event, revision)
        except TrialStreamError:
            return Left.REFUSED
        self._revisions[event.hash] = revision + 1
        self._created[id_] = trial.uid
        self._trials[trial.uid] = state = TrialState(trial.uid, trial.project_id, trial.group_id)
        return state

    def take(self, address: str, writer: str, seq: int, request: str | None) -> TrialState | Left:
        """Decide any other event by its head.

        Args:
            address: Address of the trial.
            writer: Id of the writer.
            seq: Its number.
            request: Id of its request, or None.
        """
        trial = self._trials.get(address) or self._trials.get(self._created.get(address) or "")
        if request is not None:
            if len(address) > MAX_ADDRESS or len(writer) > MAX_ID or not REQUEST.fullmatch(request):
                return Left.REFUSED
            id_ = f"{hash_of(address)}~{request}"
            if id_ in self._decided or id_ in self._created:
                return Left.REPEATED
            self._decided.add(id_)
            return Left.REFUSED if trial is None else trial
        if trial is None:
            return Left.REFUSED
        return trial.take(writer, seq) or trial

    def resolve(self, address: str) -> str | None:
        """Return the uid of the trial at an address, None if there is none yet."""
        return self._created.get(address) if "~" in address else address


def attach(trial: TrialState, event: TrialAttached) -> bool:
    """Move a trial to the project and group that an event names.

    Args:
        trial: The trial of the event.
        event: An event that was taken.

    Returns:
        Whether the event can be applied.
    """
    try:
        check_micros(event.time)
        _, project, group = trial.place
        project = project if event.project_id is None else check_name(event.project_id, "project_id")
        group = group if event.group_id is None else check_name(event.group_id, "group_id")
    except TrialStreamError:
        return False
    trial.place = trial.uid, project, group
    return True


class _GroupState(_Marked):
    __slots__ = ("project",)

    def __init__(self, project: str | None) -> None:
        super().__init__()
        self.project = project


class RegistryDecisions:
    """The decisions of the registry: projects and groups. Events are passed in the order of the log."""

    def __init__(self) -> None:
        self._projects: set[str] = set()
        self._groups: dict[str, _GroupState] = {}
        self._decided: set[str] = set()

    def take(self, event: SubjectEvent) -> Place | Left:
        """Decide an event.

        Args:
            event: An event of a project or a group.

        Returns:
            Where the event belongs, or why it is left out.
        """
        if envelope_fault(event):
            return Left.REFUSED
        if event.request is not None:
            if event.outcome_id in self._decided:
                return Left.REPEATED
            self._decided.add(event.outcome_id)
        try:
            match event:
                case ProjectCreated(request=str()):
                    return self._create_project(event)
                case GroupCreated(request=str()):
                    return self._create_group(event)
                case GroupMetadataSet() if (group := self._groups.get(event.group)) is not None:
                    left = group.take(event.writer, event.seq) if event.request is None else None
                    return left or (None, group.project, event.group)
        except TrialStreamError:
            pass
        return Left.REFUSED

    def _create_project(self, event: ProjectCreated) -> Place | Left:
        if event.project in self._projects:
            return Left.REPEATED
        self._projects.add(project_of(event).uid)
        return None, event.project, None

    def _create_group(self, event: GroupCreated) -> Place | Left:
        if event.group in self._groups:
            return Left.REPEATED
        if event.project_id is not None and event.project_id not in self._projects:
            return Left.REFUSED
        group = group_of(event)
        self._groups[group.uid] = _GroupState(group.project_id)
        return None, group.project_id, group.uid
