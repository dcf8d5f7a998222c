"""The trial, project or group that a creation makes, for the fold and for readers of the log."""

from __future__ import annotations

import re

from trialstream_schemas.errors import InvalidValue
from trialstream_schemas.model.status import Status, status_of
from trialstream_schemas.model.times import from_micros
from trialstream_schemas.model.trial import Project, Trial, TrialGroup
from trialstream_schemas.model.values import check_name, check_optional_name, values
from trialstream_schemas.wire.events import GroupCreated, ProjectCreated, TrialCreated

__all__ = ["group_of", "project_of", "trial_of"]

_HASH = re.compile(r"[0-9a-f]{32}")


def trial_of(event: TrialCreated, revision: int) -> Trial:
    """Make the trial that a creation creates.

    Args:
        event: The creation.
        revision: The next revision of the hash.

    Raises:
        InvalidType: A value is invalid.
        InvalidValue: The hash, a name, a value or the time is invalid.
    """
    if not _HASH.fullmatch(event.hash):
        raise InvalidValue(f"hash of the trial: expected 32 hexadecimal digits, got {event.hash!r}")
    time = from_micros(event.time)
    return Trial(
        hash=event.hash,
        revision=revision,
        name=check_name(event.name, "name"),
        version=check_optional_name(event.version, "version"),
        description=event.description,
        project_id=check_optional_name(event.project_id, "project_id"),
        group_id=check_optional_name(event.group_id, "group_id"),
        parameters=values(event.parameters, "parameters"),
        metadata=dict(values(event.metadata, "metadata")),
        tags=values(event.tags, "tags"),
        status=Status.CreatedGroup if event.status is None else status_of(event.status.name, event.status.code),
        created=time,
        last_seen=time,
    )


def project_of(event: ProjectCreated) -> Project:
    """Make the project that a creation creates.

    Args:
        event: The creation.

    Raises:
        InvalidType: A value is invalid.
        InvalidValue: A name, a value or the time is invalid, or the uid is not the name.
    """
    project = Project(
        name=event.name,
        description=event.description,
        metadata=dict(event.metadata),
        tags=dict(event.tags),
        created=from_micros(event.time),
    )
    if project.uid != event.project:
        raise InvalidValue(f"project: expected its name {event.name!r} as its uid, got {event.project!r}")
    return project


def group_of(event: GroupCreated) -> TrialGroup:
    """Make the group that a creation creates.

    Args:
        event: The creation.

    Raises:
        InvalidType: A value is invalid.
        InvalidValue: A name, a value or the time is invalid, or the uid is not the hash of name and project.
    """
    group = TrialGroup(
        name=event.name,
        project_id=event.project_id,
        description=event.description,
        metadata=dict(event.metadata),
        tags=dict(event.tags),
        created=from_micros(event.time),
    )
    if group.uid != event.group:
        raise InvalidValue(
            f"group: expected the hash of its name and project {group.uid!r} as its uid, got {event.group!r}"
        )
    return group
