"""Projects, groups and trials.

`Project`, `TrialGroup` and `Trial` are plain values: no call of a protocol changes an object that is passed to it. Two
objects are equal if all their fields are. The hash of an object is that of its uid, so equal objects have equal hashes;
do not change the name or the project of an object in a set.

The definition of a trial (name, version, parameters, project, group) is hashed once, when the trial is created: its uid
stays the same when the trial is attached to another project or group, and when more arguments are logged.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.messages import shown
from trialstream_schemas.model.attempts import FormerParticipant, Participant, TrialAttempt
from trialstream_schemas.model.identity import group_uid, trial_hash
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.values import (
    INT64_MAX,
    check_name,
    check_optional_name,
    check_text,
    value,
    values,
)

__all__ = [
    "MAX_TEXT_BYTES",
    "RUNTIME_CHRONO",
    "OwnHash",
    "Project",
    "Trial",
    "TrialError",
    "TrialGroup",
    "check_identity",
]

MAX_TEXT_BYTES = 64 * 1024
"""Maximum length of a description in UTF-8, bytes: one event has room for it and the rest of a definition."""

RUNTIME_CHRONO = "runtime"
"""Name of the trial's own chrono, which users' chronos cannot have."""


class OwnHash(str):
    """Hash that a new trial has computed from its definition.

    A hash that is a plain `str` was passed to `Trial`, as that of each fetched trial is. `dataclasses.replace` keeps
    the type.
    """

    __slots__ = ()


@dataclass(frozen=True)
class TrialError:
    """An error of a trial.

    Attributes:
        type: Name of the exception's class; empty when the user logged a text.
        message: Message of the exception, or the text.
        traceback: The formatted traceback; empty when there is none.
        time: When the error was logged, UTC.
    """

    type: str
    message: str
    traceback: str
    time: datetime


@dataclass(kw_only=True)
class Project:
    """A project: a named collection of groups and trials.

    Attributes:
        name: Name of the project, which is its uid too; at most 1,024 bytes in UTF-8, not empty.
        description: Any text of at most `MAX_TEXT_BYTES`; None becomes the empty text.
        metadata: Any values by name.
        tags: Any values by name, for queries.
        groups: Uids of the project's groups, once fetched.
        trials: Uids of the project's trials, once fetched.
        created: When the call that created the project was made, UTC; None until the project is fetched.

    Raises:
        InvalidType: A field has a type that cannot be logged; the message names the field.
        InvalidValue: A field has a value that cannot be stored; the message names the field.
    """

    name: str
    description: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    trials: list[str] = field(default_factory=list)
    created: datetime | None = None

    def __post_init__(self) -> None:
        self.name = _name(self.name, "Project.name")
        self.description = _text(self.description, "Project.description")
        self.metadata = values(self.metadata, "Project.metadata")
        self.tags = values(self.tags, "Project.tags")

    def __hash__(self) -> int:
        return hash(self.uid)

    @property
    def uid(self) -> str:
        """Uid of the project: its name."""
        return self.name


@dataclass(kw_only=True)
class TrialGroup:
    """A group of trials, such as one search.

    Attributes:
        name: Name of the group, at most 1,024 bytes in UTF-8, not empty.
        project_id: Uid of the group's project, or None.
        description: Any text of at most `MAX_TEXT_BYTES`; None becomes the empty text.
        metadata: Any values by name; `set_group_metadata` updates them.
        tags: Any values by name, for queries.
        trials: Uids of the group's trials, once fetched.
        created: When the call that created the group was made, UTC; None until the group is fetched.
        state_version: Number of updates that were applied to the group; a claim names the number that it expects.
        writers: Writer id → number of its latest event that was applied.
        lost_events: Number of events that writers numbered and that never reached the log.

    Raises:
        InvalidType: A field has a type that cannot be logged; the message names the field.
        InvalidValue: A field has a value that cannot be stored; the message names the field.
    """

    name: str
    project_id: str | None = None
    description: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    trials: list[str] = field(default_factory=list)
    created: datetime | None = None
    state_version: int = 0
    writers: dict[str, int] = field(default_factory=dict)
    lost_events: int = 0

    def __post_init__(self) -> None:
        self.name = _name(self.name, "TrialGroup.name")
        self.project_id = check_optional_name(self.project_id, "TrialGroup.project_id")
        self.description = _text(self.description, "TrialGroup.description")
        self.metadata = values(self.metadata, "TrialGroup.metadata")
        self.tags = values(self.tags, "TrialGroup.tags")

    def __hash__(self) -> int:
        return hash(self.uid)

    @property
    def uid(self) -> str:
        """Uid of the group: a hash of its name and its project."""
        return group_uid(self.name, self.project_id)


@dataclass(kw_only=True)
class Trial:
    """A trial: one training run, or the plan of one.

    Attributes:
        name: Name of the trial, at most 1,024 bytes in UTF-8, not empty.
        version: Version of the code or the data, or None; a number becomes its text, so 3 and "3" are one version.
        parameters: Arguments of the run, by name; those at creation are part of the trial's identity.
        project_id: Uid of the trial's project, or None.
        group_id: Uid of the trial's group, or None.
        description: Any text of at most `MAX_TEXT_BYTES`; None becomes the empty text.
        metadata: By name, a value or the `Aggregator` that accumulates the logged values.
        tags: Any values by name, for queries.
        hash: Hash of the definition (name, version, parameters, project, group), computed once, at creation.
        revision: 0, 1, 2 … among the trials of this hash.
        request: Id of the creating request until the log has decided the revision; the uid contains it until then.
        metrics: Metric → `Aggregator` of the logged values; its kind depends on the log call.
        chronos: Chrono → `Aggregator` of the elapsed seconds; `runtime` is the trial's own.
        open_chronos: Chrono → how many of that name are running and were announced to the log.
        failed_chronos: Chrono → how many of that name ended with an exception.
        status: The latest status, a `Status` or a `CustomStatus`. Of a new trial, the first one, where None means
            `Status.CreatedGroup`; it sets neither `started` nor `finished`.
        errors: The latest errors, at most 32 (`MAX_ERRORS` of the fold), oldest first.
        errors_dropped: Number of older errors, which are not kept.
        starts: Number of times that the trial was started; the starts of all ranks of an attempt count once.
        attempts: Attempts in the order of their numbers; empty if no start has named one.
        participants: Writer id → state of the writer in its attempt, in the order in which they joined.
        former_participants: Writer id → attempt and rank of participants of earlier attempts whose state was dropped,
            since there were more than 2,048 (`MAX_PARTICIPANTS` of the fold).
        created: When the call that created the trial was made, UTC; None until the trial is fetched.
        started: Time of the first start, UTC.
        finished: Time of the first finish since the latest start, UTC; None until then.
        last_seen: Time of the latest event or heartbeat of any writer, UTC.
        writers: Writer id → number of its latest event that was applied (one writer for each protocol and process).
        lost_events: Number of events that writers numbered and that never reached the log.
        state_version: Number of updates that were applied to the trial, other than metrics, chronos and heartbeats;
            a claim counts once, and names the number that it expects.
        rows: Number of rows in the history.
        size: Estimated size of the stored document, bytes; the limit of documents is applied to this number.

    Raises:
        InvalidType: A field has a type that cannot be logged; the message names the field.
        InvalidValue: A field has a value that cannot be stored; the message names the field.
    """

    name: str
    version: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    project_id: str | None = None
    group_id: str | None = None
    description: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    hash: str = ""
    revision: int = 0
    request: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    chronos: dict[str, Any] = field(default_factory=dict)
    open_chronos: dict[str, int] = field(default_factory=dict)
    failed_chronos: dict[str, int] = field(default_factory=dict)
    status: Status | CustomStatus | None = None
    errors: list[TrialError] = field(default_factory=list)
    errors_dropped: int = 0
    starts: int = 0
    attempts: list[TrialAttempt] = field(default_factory=list)
    participants: dict[str, Participant] = field(default_factory=dict)
    former_participants: dict[str, FormerParticipant] = field(default_factory=dict)
    created: datetime | None = None
    started: datetime | None = None
    finished: datetime | None = None
    last_seen: datetime | None = None
    writers: dict[str, int] = field(default_factory=dict)
    lost_events: int = 0
    state_version: int = 0
    rows: int = 0
    size: int = 0

    def __post_init__(self) -> None:
        _check_address(self)
        if self.hash:  # fetched or folded: the other fields were checked at creation
            return
        self.name = _name(self.name, "Trial.name")
        self.version = _version(self.version, "Trial.version")
        self.parameters = values(self.parameters, "Trial.parameters")
        self.project_id = check_optional_name(self.project_id, "Trial.project_id")
        self.group_id = check_optional_name(self.group_id, "Trial.group_id")
        self.description = _text(self.description, "Trial.description")
        self.metadata = values(self.metadata, "Trial.metadata")
        self.tags = values(self.tags, "Trial.tags")
        if not isinstance(self.status, Status | CustomStatus | None):
            raise InvalidType(f"Trial.status: expected a Status or a CustomStatus, got {type(self.status).__name__}")
        self.hash = OwnHash(trial_hash(self.name, self.version, self.parameters, self.project_id, self.group_id))

    def __hash__(self) -> int:
        return hash(self.uid)

    @property
    def uid(self) -> str:
        """Uid of the trial: `<hash>_<revision>`, or `<hash>~<request>` until the log has decided the revision."""
        return f"{self.hash}_{self.revision}" if self.request is None else f"{self.hash}~{self.request}"

    @property
    def ranks(self) -> dict[int, Participant]:
        """The ranks of the latest attempt, ascending; of several processes with one rank, the one that joined last."""
        latest = [each for each in self.participants.values() if each.attempt == len(self.attempts)]
        by_rank = {each.rank: each for each in latest if each.rank is not None}
        return dict(sorted(by_rank.items()))

    def attempt_of(self, writer: str) -> int:
        """Return the number of the attempt in which a writer takes part.

        Args:
            writer: Id of the writer.

        Returns:
            The number; 0 if the writer takes part in none.
        """
        found = self.participants.get(writer) or self.former_participants.get(writer)
        return 0 if found is None else found.attempt


def check_identity(given: Project | TrialGroup | Trial) -> None:
    """Check the fields of which a uid is made: the user may have passed anything for them, or changed them since.

    Args:
        given: A project, a group or a trial.

    Raises:
        InvalidType: A field has another type; the message names it.
        InvalidValue: A field has a value that is part of no uid; the message names it.
    """
    match given:
        case Project():
            _name(given.name, "Project.name")
        case TrialGroup():
            _name(given.name, "TrialGroup.name")
            check_optional_name(given.project_id, "TrialGroup.project_id")
        case Trial():
            _check_address(given)


def _check_address(trial: Trial) -> None:
    check_name(trial.hash, "Trial.hash")
    revision = trial.revision
    if type(revision) is not int:
        raise InvalidType(f"Trial.revision: expected an int, got {type(revision).__name__}")
    if not 0 <= revision <= INT64_MAX:
        raise InvalidValue(f"Trial.revision: expected 0 to {INT64_MAX}, got {shown(revision)}")
    if trial.request is not None:
        check_name(trial.request, "Trial.request")


def _name(name: object, path: str) -> str:
    checked = check_name(name, path)
    if not checked:
        raise InvalidValue(f"{path}: expected a name, got an empty str")
    return checked


def _text(text: object, path: str) -> str:
    if text is None:
        return ""
    if not isinstance(text, str):
        raise InvalidType(f"{path}: expected a str, got {type(text).__name__}")
    checked = check_text(text, path)
    if (size := len(checked.encode())) > MAX_TEXT_BYTES:
        raise InvalidValue(f"{path}: expected at most {MAX_TEXT_BYTES} bytes in UTF-8, got {size}")
    return checked


def _version(version: object, path: str) -> str | None:
    if isinstance(version, bool) or not isinstance(version, numbers.Real):
        return check_optional_name(version, path)
    plain = value(version, path)
    if isinstance(plain, float) and not math.isfinite(plain):
        raise InvalidValue(f"{path}: expected a str or a finite number, got {plain}")
    return str(plain)
