"""The classes of events, as `trialstream.stream` returns them; docs/events.md describes them."""

from __future__ import annotations

from trialstream_schemas.wire.events import (
    ArgumentsLogged,
    ChronosFinished,
    ChronoStarted,
    Error,
    GroupCreated,
    GroupMetadataSet,
    Heartbeat,
    MetadataLogged,
    MetricsLogged,
    ProjectCreated,
    StatusRecord,
    StatusSet,
    SubjectEvent,
    TagsAdded,
    TrialAttached,
    TrialCreated,
    TrialEvent,
    TrialFinished,
    TrialStarted,
    TrialUpdated,
)

__all__ = [
    "ArgumentsLogged",
    "ChronoStarted",
    "ChronosFinished",
    "Error",
    "GroupCreated",
    "GroupMetadataSet",
    "Heartbeat",
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
]
