"""Projects, groups and trials.

`Project`, `TrialGroup` and `Trial` are plain values: no call changes the object that it was given. What a trial *is*
(name, version, parameters, project, group) is hashed once, when it is created, and attaching it elsewhere or logging
further arguments does not change its uid.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.model.identity import group_uid, trial_hash
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.values import check_name, check_text, values

__all__ = ["Project", "Trial", "TrialError", "TrialGroup"]


@dataclass(frozen=True)
class TrialError:
    """What went wrong in a trial.

    Attributes:
        type: Name of the exception's class; empty when the user gave a text.
        message: What it says.
        traceback: The formatted traceback, or empty.
        time: When it was logged, UTC.
    """

    type: str
    message: str
    traceback: str
    time: datetime


@dataclass(kw_only=True)
class Project:
    """A project holds groups and trials.

    Attributes:
        name: Its name, which is its uid too.
        description: Free text.
        metadata: Free values.
        tags: Free values to find it by.
        groups: Uids of its groups, as fetched.
        trials: Uids of its trials, as fetched.
        created: When the log took it, UTC; None until it was fetched.
    """

    name: str
    description: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    trials: list[str] = field(default_factory=list)
    created: datetime | None = None

    def __post_init__(self) -> None:
        self.name = check_name(self.name, "Project.name")
        if not self.name:
            raise InvalidValue("Project.name is empty")
        self.description = _text(self.description, "Project.description")
        self.metadata = values(self.metadata, "Project.metadata")
        self.tags = values(self.tags, "Project.tags")

    @property
    def uid(self) -> str:
        """Its name."""
        return self.name


@dataclass(kw_only=True)
class TrialGroup:
    """A group of trials, such as one search.

    Attributes:
        name: Its name.
        project_id: Uid of its project, or None.
        description: Free text.
        metadata: Free values; `set_group_metadata` updates them.
        tags: Free values to find it by.
        trials: Uids of its trials, as fetched.
        created: When the log took it, UTC; None until it was fetched.
        state_version: Counts the updates that the log took; claims compare it.
        writers: Events taken of each writer.
        lost_events: Events that writers numbered and that never reached the log.
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
        self.name = check_name(self.name, "TrialGroup.name")
        if not self.name:
            raise InvalidValue("TrialGroup.name is empty")
        self.project_id = _optional_name(self.project_id, "TrialGroup.project_id")
        self.description = _text(self.description, "TrialGroup.description")
        self.metadata = values(self.metadata, "TrialGroup.metadata")
        self.tags = values(self.tags, "TrialGroup.tags")

    @property
    def uid(self) -> str:
        """Hash of name and project."""
        return group_uid(self.name, self.project_id)


@dataclass(kw_only=True)
class Trial:
    """One run, or the plan of one.

    Attributes:
        name: Its name.
        version: Version of the code or data it stands for, or None.
        parameters: What it is run with; part of its identity when it is created.
        project_id: Uid of its project, or None.
        group_id: Uid of its group, or None.
        description: Free text.
        metadata: By key a value, or the aggregator that accumulates it.
        tags: Free values to find it by.
        hash: Of the definition; taken at creation, never again.
        revision: 0, 1, 2 … among the trials of this hash.
        request: Id of its creation as long as the log has not decided on the revision; it is addressed by this then.
        metrics: The `Aggregator` of each metric; which one depends on what it was logged with.
        chronos: The `Aggregator` of the elapsed seconds of each chrono; `runtime` is the trial's own.
        open_chronos: How many of each are running that have been announced to the log.
        failed_chronos: How many of each ended with an exception.
        status: A `Status` or `CustomStatus`; None until one is set.
        errors: The latest errors, at most `fold.MAX_ERRORS`; `errors_dropped` counts the older ones.
        starts: How many times it was started.
        created: When the log took it, UTC, like all times; None until it was fetched.
        started: First start.
        finished: Latest finish, None while it runs.
        last_seen: Latest event or heartbeat of any of its writers.
        writers: Events taken of each writer (one writer per Protocol and process).
        lost_events: Events that writers numbered and that never reached the log.
        state_version: Counts the updates that the log took, other than metrics, chronos and heartbeats; claims
            compare it.
        rows: Rows of history kept.
        size: Bytes of the document, near enough to bound it by.
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
        if self.hash:  # fetched or folded: checked when it was created
            return
        self.name = check_name(self.name, "Trial.name")
        if not self.name:
            raise InvalidValue("Trial.name is empty")
        self.version = _optional_name(self.version, "Trial.version")
        self.parameters = values(self.parameters, "Trial.parameters")
        self.project_id = _optional_name(self.project_id, "Trial.project_id")
        self.group_id = _optional_name(self.group_id, "Trial.group_id")
        self.description = _text(self.description, "Trial.description")
        self.metadata = values(self.metadata, "Trial.metadata")
        self.tags = values(self.tags, "Trial.tags")
        self.hash = trial_hash(self.name, self.version, self.parameters, self.project_id, self.group_id)

    @property
    def uid(self) -> str:
        """`<hash>_<revision>`, or `<hash>~<request>` as long as the log has not decided on the revision."""
        return f"{self.hash}_{self.revision}" if self.request is None else f"{self.hash}~{self.request}"


def _text(text: object, path: str) -> str:
    if not isinstance(text, str):
        raise InvalidType(f"{path}: a str is needed, not {type(text).__name__}")
    checked = check_text(text, path)
    if len(checked.encode()) > MAX_TEXT_BYTES:
        raise InvalidValue(f"{path}: a text can have {MAX_TEXT_BYTES} bytes at most")
    return checked


# A description goes into one event with all the rest of a definition.
MAX_TEXT_BYTES = 64 * 1024


def _optional_name(name: object, path: str) -> str | None:
    return None if name is None else check_name(name, path)
