"""Creations of trials, projects and groups: each returns a uid, and whether a trial, project or group was created."""

from __future__ import annotations

from trialstream_schemas.wire.creations import group_of, project_of, trial_of
from trialstream_schemas.wire.events import GroupCreated, ProjectCreated, TrialCreated

from trialstream_consumer.fold.document_size import grow, initial_size
from trialstream_consumer.fold.state import Refused, State

__all__ = ["create_group", "create_project", "create_trial"]


def create_trial(state: State, event: TrialCreated) -> tuple[str | None, bool]:
    """Create the next revision of a trial.

    Returns:
        The uid of the new revision, and True; or None and False if the trial exists and the event does not request the
        next revision.

    Raises:
        Refused: The document would be too large; the state is unchanged.
        InvalidType: A value is invalid; the state is unchanged.
        InvalidValue: The hash, a name, a value or the time is invalid; the state is unchanged.
    """
    revision = state.revisions.get(event.hash, 0)
    if revision and not event.auto_increment:
        return None, False
    trial = trial_of(event, revision)
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
        InvalidType: A value is invalid; the state is unchanged.
        InvalidValue: A name, a value or the time is invalid, or the uid is not the name; the state is unchanged.
    """
    if state.projects.get(event.project):
        return event.project, False
    project = project_of(event)
    state.projects[project.uid] = project
    state.changes.projects.add(project.uid)
    return project.uid, True


def create_group(state: State, event: GroupCreated) -> tuple[str, bool]:
    """Create a group, unless it exists.

    Returns:
        The uid of the group, and whether the group is new.

    Raises:
        Refused: There is no such project; the state is unchanged.
        InvalidType: A value is invalid; the state is unchanged.
        InvalidValue: A name, a value or the time is invalid, or the uid is not the hash of name and project; the state
            is unchanged.
    """
    if state.groups.get(event.group):
        return event.group, False
    if event.project_id is not None and not state.projects.get(event.project_id):
        raise Refused(f"there is no project {event.project_id!r}")
    group = group_of(event)
    state.groups[group.uid] = group
    state.changes.groups.add(group.uid)
    return group.uid, True
