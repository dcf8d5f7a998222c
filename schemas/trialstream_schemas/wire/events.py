"""The typed events: one dataclass per `.avsc`, with the same name and fields.

`seq` is given by the outbox, when it is decided in which order the events of a writer go out. Fields that later
versions add have defaults here, so that events of an older writer still make one.
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
]


@dataclass(frozen=True, slots=True)
class Error:
    """What went wrong: class of the exception (empty for a text), message, traceback."""

    type: str
    message: str
    traceback: str


@dataclass(frozen=True, slots=True)
class StatusRecord:
    """A status by name and number."""

    name: str
    code: int


@dataclass(slots=True, kw_only=True)
class Event:
    """What all events share.

    Attributes:
        time: Microseconds since 1970 UTC.
    """

    time: int


@dataclass(slots=True, kw_only=True)
class SubjectEvent(Event):
    """An event of a trial, a group or a project.

    Attributes:
        writer: Id of the Protocol and process that wrote it.
        seq: 1, 2, 3 … per writer and subject; 0 where `request` identifies the event.
        if_version: Apply only if the subject's `state_version` still is this one.
        request: Id under which the outcome is written.
    """

    SUBJECT: ClassVar[str]
    writer: str
    seq: int = 0
    if_version: int | None = None
    request: str | None = None

    @property
    def subject(self) -> str:
        """Uid of the trial, group or project."""
        uid = getattr(self, self.SUBJECT)
        assert isinstance(uid, str)
        return uid


@dataclass(slots=True, kw_only=True)
class TrialEvent(SubjectEvent):
    """An event of a trial; `trial` is `<hash>_<revision>`, or `<hash>~<request>` of its creation."""

    SUBJECT = "trial"
    trial: str

    @property
    def hash(self) -> str:
        """Key of the record in Kafka: all revisions of a trial lie in one partition."""
        return hash_of(self.trial)


@dataclass(slots=True, kw_only=True)
class TrialCreated(TrialEvent):
    """A trial was asked for."""

    name: str
    parameters: dict[str, Value]
    auto_increment: bool
    version: str | None = None
    description: str = ""
    project_id: str | None = None
    group_id: str | None = None
    metadata: dict[str, Value] = field(default_factory=dict)
    tags: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class TrialStarted(TrialEvent):
    """A trial began to run, or went on."""


@dataclass(slots=True, kw_only=True)
class TrialFinished(TrialEvent):
    """A trial ended; `elapsed` in seconds on the writer's monotonic clock, None if another writer started it."""

    interrupted: bool
    elapsed: float | None = None
    error: Error | None = None


@dataclass(slots=True, kw_only=True)
class ChronoStarted(TrialEvent):
    """A chrono was started and has run for a while since; one that is finished sooner is not announced."""

    name: str
    aggregator: AggregatorSpec


@dataclass(slots=True, kw_only=True)
class ChronosFinished(TrialEvent):
    """A frame of finished chronos: see the `.avsc`."""

    names: Sequence[str]
    aggregators: Sequence[AggregatorSpec]
    announced: Sequence[int]
    failed: Sequence[int]
    chronos: Sequence[int]
    times: Sequence[int]
    elapsed: Sequence[float]


@dataclass(slots=True, kw_only=True)
class ArgumentsLogged(TrialEvent):
    """Values merged into the parameters."""

    values: dict[str, Value]


@dataclass(slots=True, kw_only=True)
class MetadataLogged(TrialEvent):
    """Values merged into the metadata."""

    values: dict[str, Value]
    aggregator: AggregatorSpec


@dataclass(slots=True, kw_only=True)
class TagsAdded(TrialEvent):
    """Values merged into the tags."""

    values: dict[str, Value]


@dataclass(slots=True, kw_only=True)
class MetricsLogged(TrialEvent):
    """A frame of metrics: one row per call, one column per name.

    At most one of `steps`, `float_steps` and `text_steps` holds a step for each row; none where rows have no step.
    Columns are arrays of doubles; other sequences can be written too.
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
    """A trial was put into a project or a group; None leaves the one it has."""

    project_id: str | None = None
    group_id: str | None = None


@dataclass(slots=True, kw_only=True)
class Heartbeat(TrialEvent):
    """The writer of a started trial is alive."""


@dataclass(slots=True, kw_only=True)
class LogCreated(Event):
    """First record of the registry: which log this is, and over how many partitions its trials are spread."""

    log: str
    partitions: int


@dataclass(slots=True, kw_only=True)
class ProjectCreated(SubjectEvent):
    """A project was asked for."""

    SUBJECT = "project"
    project: str
    name: str
    description: str = ""
    metadata: dict[str, Value] = field(default_factory=dict)
    tags: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class GroupCreated(SubjectEvent):
    """A group was asked for."""

    SUBJECT = "group"
    group: str
    name: str
    project_id: str | None = None
    description: str = ""
    metadata: dict[str, Value] = field(default_factory=dict)
    tags: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class GroupMetadataSet(SubjectEvent):
    """Values merged into the metadata of a group."""

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
    LogCreated,
    ProjectCreated,
    GroupCreated,
    GroupMetadataSet,
)
