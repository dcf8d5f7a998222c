"""Projects, groups, trials and their status; identity.

`Project`, `TrialGroup` and `Trial` are plain values: no call changes the object that it was given. What a trial *is*
(name, version, parameters, project, group) is hashed once, when it is created, and attaching it elsewhere or logging
further arguments does not change its uid.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.values import INT64_MAX, INT64_MIN, Value, check_name, check_text, values

__all__ = [
    "CustomStatus",
    "Project",
    "Status",
    "Trial",
    "TrialError",
    "TrialGroup",
    "canonical",
    "check_micros",
    "digest",
    "from_micros",
    "group_uid",
    "to_micros",
    "trial_hash",
]

# 128 bits: among 10^15 definitions a collision is less likely than 10^-8.
_HASH_BYTES = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def canonical(x: Value) -> bytes:
    """One byte string per value, whatever the order of its keys; values of different type or nesting never share one.

    Every part is tagged with its type and led by its length or count, so nothing can run into its neighbour. NaN is one
    value, whatever its payload bits; -0.0 is not 0.0.
    """
    match x:
        case None:
            return b"n"
        case bool():
            return b"b1" if x else b"b0"
        case int():
            digits = str(x).encode()
            return b"i%d:%b" % (len(digits), digits)
        case float():
            return b"d" + struct.pack(">d", math.nan if math.isnan(x) else x)
        case str():
            text = x.encode()
            return b"s%d:%b" % (len(text), text)
        case bytes():
            return b"y%d:%b" % (len(x), x)
        case list():
            return b"l%d:" % len(x) + b"".join(map(canonical, x))
        case dict():
            items = sorted((key.encode(), canonical(each)) for key, each in x.items())
            return b"m%d:" % len(items) + b"".join(b"%d:%b%b" % (len(key), key, each) for key, each in items)


def digest(*parts: Value) -> str:
    """Hash of the parts: 32 hexadecimal digits of BLAKE2b (RFC 7693) over their canonical form."""
    return hashlib.blake2b(canonical(list(parts)), digest_size=_HASH_BYTES).hexdigest()


def group_uid(name: str, project_id: str | None) -> str:
    """The uid of a group."""
    return digest(name, project_id)


def trial_hash(
    name: str, version: str | None, parameters: dict[str, Value], project_id: str | None, group_id: str | None
) -> str:
    """The hash that all revisions of a trial share."""
    return digest(name, version, parameters, project_id, group_id)


def to_micros(time: datetime) -> int:
    """Microseconds since 1970 UTC; a time without a zone is taken as local, as `datetime` does."""
    return (time.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The time, in UTC, that lies that many microseconds after 1970.

    Raises:
        InvalidValue: it is before the year 1 or after the year 9999.
    """
    check_micros(micros)
    return _EPOCH + timedelta(microseconds=micros)


def check_micros(micros: int) -> None:
    """Check that a time lies in the calendar, without making it.

    Raises:
        InvalidValue: see `from_micros`.
    """
    if not _FIRST_MICROS <= micros <= _LAST_MICROS:
        raise InvalidValue(f"no calendar reaches {micros} microseconds from 1970")


# The first and the last microsecond of `datetime`.
_FIRST_MICROS = to_micros(datetime.min.replace(tzinfo=UTC))
_LAST_MICROS = to_micros(datetime.max.replace(tzinfo=UTC))


class Status(Enum):
    """What a trial or group is doing; the hundreds say the kind: created, running, failed, ended."""

    CreatedGroup = 0
    RunningGroup = 100
    Running = 101
    ErrorGroup = 200
    Interrupted = 201
    Exception = 202
    Broken = 203
    FinishedGroup = 300
    Suspended = 301
    Completed = 302


@dataclass(frozen=True)
class CustomStatus:
    """A status of the user's own.

    Raises:
        InvalidValue: the name is one of `Status`, or the value does not fit 64 bits.
    """

    name: str
    value: int

    def __post_init__(self) -> None:
        check_name(self.name, "status")
        if type(self.value) is not int:
            raise InvalidType(f"status {self.name!r}: the value must be an int, not {type(self.value).__name__}")
        if not INT64_MIN <= self.value <= INT64_MAX:
            raise InvalidValue(f"status {self.name!r}: the value does not fit 64 bits")
        if self.name in Status.__members__:
            raise InvalidValue(f"status {self.name!r} is built in: use Status.{self.name}")


def status_of(name: str, code: int) -> Status | CustomStatus:
    """The status that a document or an event names."""
    return Status[name] if name in Status.__members__ else CustomStatus(name, code)


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
