"""The typed events: one dataclass for each `.avsc`, with the same name and fields.

The outbox sets `seq` when it fixes the order in which a writer's events are sent. A field that a later version adds
gets a default in its class, so that events of older writers can be decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.identity import hash_of
from trialstream_schemas.model.values import Value

__all__ = [
    "EVENTS",
    "PARTS",
    "ArgumentsLogged",
    "ChronoStarted",
    "ChronosFinished",
    "Error",
    "Event",
    "GroupCreated",
    "GroupMetadataSet",
    "Heartbeat",
    "LogCreated",
    "MetadataLogged",
    "MetricsLogged",
    "ProjectCreated",
    "StatusRecord",
    "StatusSet",
    "SubjectEvent",
    "TagsAdded",
    "TrialAttached",
    "TrialCreated",
    "TrialEvent",
    "TrialFinished",
    "TrialStarted",
    "TrialUpdated",
    "updates_of",
]


@dataclass(frozen=True, slots=True)
class Error:
    """An error of a trial.

    Attributes:
        type: Name of the exception's class; empty for a text.
        message: Message of the exception, or the text.
        traceback: The formatted traceback, or empty.
    """

    type: str
    message: str
    traceback: str


@dataclass(frozen=True, slots=True)
class StatusRecord:
    """A status of a trial, as the events `StatusSet` and `TrialCreated` carry it.

    Attributes:
        name: Name of the status.
        code: Value of the status.
    """

    name: str
    code: int


@dataclass(slots=True, kw_only=True)
class Event:
    """Base of all events.

    Attributes:
        time: When the call was made, microseconds since 1970 UTC.
    """

    time: int


@dataclass(slots=True, kw_only=True)
class SubjectEvent(Event):
    """Base of the events of a subject: a trial, a group or a project.

    Attributes:
        writer: Id of the writer: one protocol in one process.
        seq: 1, 2, 3 … for each writer and subject; 0 where `request` identifies the event.
        if_version: The event is applied only if the subject's `state_version` equals this number; None for always.
        request: Id under which the outcome is written; None if no outcome is needed.
    """

    SUBJECT: ClassVar[str]
    writer: str
    seq: int = 0
    if_version: int | None = None
    request: str | None = None

    @property
    def subject(self) -> str:
        """Uid of the trial, the group or the project."""
        uid = getattr(self, self.SUBJECT)
        assert isinstance(uid, str)
        return uid

    @property
    def outcome_id(self) -> str:
        """Id of the outcome of the event's request: it names the subject too (see `Outcome`)."""
        return f"{self.subject}~{self.request}/{self.SUBJECT}"


@dataclass(slots=True, kw_only=True)
class TrialEvent(SubjectEvent):
    """Base of the events of a trial.

    Attributes:
        trial: Address of the trial: `<hash>_<revision>`, or `<hash>~<request>` with the request that created it.
    """

    SUBJECT = "trial"
    trial: str

    @property
    def hash(self) -> str:
        """Key of the record in Kafka: all revisions of a trial are in one partition."""
        return hash_of(self.trial)

    @property
    def outcome_id(self) -> str:
        """Id of the outcome of the event's request: the address of the trial that a creation creates."""
        return f"{self.hash}~{self.request}"


@dataclass(slots=True, kw_only=True)
class TrialCreated(TrialEvent):
    """Request to create a trial.

    Attributes:
        status: First status of the trial; None for `Status.CreatedGroup`.
    """

    name: str
    parameters: dict[str, Value]
    auto_increment: bool
    version: str | None = None
    description: str = ""
    project_id: str | None = None
    group_id: str | None = None
    metadata: dict[str, Value] = field(default_factory=dict)
    tags: dict[str, Value] = field(default_factory=dict)
    status: StatusRecord | None = None


@dataclass(slots=True, kw_only=True)
class TrialStarted(TrialEvent):
    """A trial was started or resumed, or a process joined an attempt of it.

    Attributes:
        attempt: Key of the attempt; None for a start of the whole trial, to which the other fields do not apply.
        rank: Rank of the process, or None.
        world_size: Number of ranks of the attempt, or None.
        host: Name of the machine, or empty.
        resume_step: Step from which the attempt resumes, or None.
        resumes: Key of the attempt that wrote the checkpoint, whose place is before this attempt; or None.
    """

    attempt: str | None = None
    rank: int | None = None
    world_size: int | None = None
    host: str = ""
    resume_step: int | float | None = None
    resumes: str | None = None


@dataclass(slots=True, kw_only=True)
class TrialFinished(TrialEvent):
    """A trial ended.

    Attributes:
        interrupted: Whether KeyboardInterrupt or cancellation ended the trial.
        elapsed: Seconds since the start, on the writer's monotonic clock; None if another writer started the trial.
        error: Error that ended the trial, or None.
    """

    interrupted: bool
    elapsed: float | None = None
    error: Error | None = None


@dataclass(slots=True, kw_only=True)
class ChronoStarted(TrialEvent):
    """A chrono was started, and has run long enough to be announced; a shorter one is in `ChronosFinished` only."""

    name: str
    aggregator: AggregatorSpec


@dataclass(slots=True, kw_only=True)
class ChronosFinished(TrialEvent):
    """A frame of finished chronos; the `.avsc` describes the columns."""

    names: Sequence[str]
    aggregators: Sequence[AggregatorSpec]
    announced: Sequence[int]
    failed: Sequence[int]
    chronos: Sequence[int]
    times: Sequence[int]
    elapsed: Sequence[float]


@dataclass(slots=True, kw_only=True)
class ArgumentsLogged(TrialEvent):
    """Values to merge into the parameters of a trial."""

    values: dict[str, Value]


@dataclass(slots=True, kw_only=True)
class MetadataLogged(TrialEvent):
    """Values to merge into the metadata of a trial."""

    values: dict[str, Value]
    aggregator: AggregatorSpec


@dataclass(slots=True, kw_only=True)
class TagsAdded(TrialEvent):
    """Values to merge into the tags of a trial."""

    values: dict[str, Value]


@dataclass(slots=True, kw_only=True)
class MetricsLogged(TrialEvent):
    """A frame of metrics: one row for each call, one column for each name.

    Attributes:
        aggregator: Specification of the aggregator of metrics that have none yet.
        names: Names of the metrics.
        times: Time of each row, microseconds after `time`.
        columns: For each name, the value of each row: an array of doubles; any sequence can be encoded.
        steps: Step of each row, where the steps are integers.
        float_steps: Step of each row, where the steps are floats.
        text_steps: Step of each row, where the steps are text. All three are empty where rows have no step.
    """

    aggregator: AggregatorSpec
    names: Sequence[str]
    times: Sequence[int]
    columns: Sequence[Sequence[float]]
    steps: Sequence[int] = ()
    float_steps: Sequence[float] = ()
    text_steps: Sequence[str] = ()


@dataclass(slots=True, kw_only=True)
class StatusSet(TrialEvent):
    """The status of a trial was set."""

    status: StatusRecord
    error: Error | None = None


@dataclass(slots=True, kw_only=True)
class TrialAttached(TrialEvent):
    """A trial was attached to a project or a group; None keeps the project or group that the trial has."""

    project_id: str | None = None
    group_id: str | None = None


@dataclass(slots=True, kw_only=True)
class Heartbeat(TrialEvent):
    """The writer of a running trial is alive."""


@dataclass(slots=True, kw_only=True)
class TrialUpdated(TrialEvent):
    """Several updates of a trial, applied in their order: all of them or none.

    Attributes:
        updates: Events of the types in `PARTS`, with the trial and the writer of this event; `seq` is 0, and there is
            neither `if_version` nor `request`.
    """

    updates: Sequence[TrialEvent]


PARTS: tuple[type[TrialEvent], ...] = (
    TrialStarted,
    TrialFinished,
    ArgumentsLogged,
    MetadataLogged,
    MetricsLogged,
    TagsAdded,
    StatusSet,
)
"""The events that can be updates of `TrialUpdated`."""


def updates_of(event: SubjectEvent) -> Sequence[SubjectEvent]:
    """Return the updates that an event consists of: those of `TrialUpdated`, or the event itself."""
    return event.updates if isinstance(event, TrialUpdated) else [event]


@dataclass(slots=True, kw_only=True)
class LogCreated(Event):
    """The identity of a log, which is the first event of the registry.

    Attributes:
        log: Id of the log, made when its topics were created.
        partitions: Number of partitions of the trials topic.
    """

    log: str
    partitions: int


@dataclass(slots=True, kw_only=True)
class ProjectCreated(SubjectEvent):
    """Request to create a project."""

    SUBJECT = "project"
    project: str
    name: str
    description: str = ""
    metadata: dict[str, Value] = field(default_factory=dict)
    tags: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class GroupCreated(SubjectEvent):
    """Request to create a group."""

    SUBJECT = "group"
    group: str
    name: str
    project_id: str | None = None
    description: str = ""
    metadata: dict[str, Value] = field(default_factory=dict)
    tags: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class GroupMetadataSet(SubjectEvent):
    """Values to merge into the metadata of a group."""

    SUBJECT = "group"
    group: str
    values: dict[str, Value]


EVENTS: tuple[type[Event], ...] = (
    TrialCreated,
    TrialStarted,
    TrialFinished,
    ChronoStarted,
    ChronosFinished,
    ArgumentsLogged,
    MetadataLogged,
    MetricsLogged,
    TagsAdded,
    StatusSet,
    TrialAttached,
    Heartbeat,
    TrialUpdated,
    LogCreated,
    ProjectCreated,
    GroupCreated,
    GroupMetadataSet,
)
