"""Creations of trials, projects and groups: each returns a uid, and whether a trial, project or group was created."""

from __future__ import annotations

import re

from trialstream_schemas.model.status import Status, status_of
from trialstream_schemas.model.times import from_micros
from trialstream_schemas.model.trial import Project, Trial, TrialGroup
from trialstream_schemas.model.values import check_name, check_optional_name, values
from trialstream_schemas.wire.events import GroupCreated, ProjectCreated, TrialCreated

from trialstream_consumer.fold.document_size import grow, initial_size
from trialstream_consumer.fold.state import Refused, State

__all__ = ["create_group", "create_project", "create_trial"]

_HASH = re.compile(r"[0-9a-f]{32}")


def create_trial(state: State, event: TrialCreated) -> tuple[str | None, bool]:
    """Create the next revision of a trial.

    Returns:
        The uid of the new revision, and True; or None and False if the trial exists and the event does not request the
        next revision.

    Raises:
        Refused: The hash is invalid, or the document would be too large; the state is unchanged.
        InvalidType: A value is invalid; the state is unchanged.
        InvalidValue: A name, a value or the time is invalid; the state is unchanged.
    """
    if not _HASH.fullmatch(event.hash):
        raise Refused(f"hash of the trial: expected 32 hexadecimal digits, got {event.hash!r}")
    revision = state.revisions.get(event.hash, 0)
    if revision and not event.auto_increment:
        return None, False
    time = from_micros(event.time)
    trial = Trial(
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
    grow(trial, initial_size(trial))
    state.revisions[event.hash] = revision + 1
    state.trials[trial.uid] = trial
    state.changes.trials.add(trial.uid)
    return trial.uid, True


def create_project(state: State, event: ProjectCreated) -> tuple[str, bool]:
    """Create a project, unless it exists.

    Returns:
        The uid of the project, and whether the project is new.

    Raises:
        Refused: The uid is not the name; the state is unchanged.
        InvalidType: A value is invalid; the state is unchanged.
        InvalidValue: A name, a value or the time is invalid; the state is unchanged.
    """
    if state.projects.get(event.project):
        return event.project, False
    project = Project(
        name=event.name,
        description=event.description,
        metadata=dict(event.metadata),
        tags=dict(event.tags),
        created=from_micros(event.time),
    )
    if project.uid != event.project:
        raise Refused(f"project: expected its name {event.name!r} as its uid, got {event.project!r}")
    state.projects[project.uid] = project
    state.changes.projects.add(project.uid)
    return project.uid, True


def create_group(state: State, event: GroupCreated) -> tuple[str, bool]:
    """Create a group, unless it exists.

    Returns:
        The uid of the group, and whether the group is new.

    Raises:
        Refused: There is no such project, or the uid is not the hash of name and project; the state is unchanged.
        InvalidType: A value is invalid; the state is unchanged.
        InvalidValue: A name, a value or the time is invalid; the state is unchanged.
    """
    if state.groups.get(event.group):
        return event.group, False
    if event.project_id is not None and not state.projects.get(event.project_id):
        raise Refused(f"there is no project {event.project_id!r}")
    group = TrialGroup(
        name=event.name,
        project_id=event.project_id,
        description=event.description,
        metadata=dict(event.metadata),
        tags=dict(event.tags),
        created=from_micros(event.time),
    )
    if group.uid != event.group:
        raise Refused(f"group: expected the hash of its name and project {group.uid!r} as its uid, got {event.group!r}")
    state.groups[group.uid] = group
    state.changes.groups.add(group.uid)
    return group.uid, True
