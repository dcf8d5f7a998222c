"""Checks of what creations take: a new object has no values that its creation does not carry.

A new object is one that the user has made. An object that a call has returned has a time of creation, and values that
the log has given it. A creation may take such an object too, as to run a trial again; it uses the carried fields only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.messages import shown
from trialstream_schemas.model.aggregators import Aggregator
from trialstream_schemas.model.identity import digest
from trialstream_schemas.model.trial import Project, Trial, TrialGroup
from trialstream_schemas.model.values import check_text

from trialstream.reading.checks import definition, is_new

__all__ = ["new_group", "new_project", "new_trial", "request_of_run", "undecided_trial"]

# Maximum length of the id of a run, characters.
_MAX_RUN_ID = 200

# Fields that the creations carry; of a trial, the hash is computed from them.
_PROJECT = ("name", "description", "metadata", "tags")
_GROUP = (*_PROJECT, "project_id")
_TRIAL = (*_GROUP, "group_id", "version", "parameters", "status")
# Field of a trial → the method that logs it.
_LOGGED_BY = {
    "metrics": "log_trial_metrics",
    "chronos": "log_trial_chrono_start",
    "errors": "set_trial_status",
    "starts": "log_trial_start",
    "attempts": "log_trial_start",
    "participants": "log_trial_start",
    "started": "log_trial_start",
    "finished": "log_trial_finish",
}


def new_project(project: Project) -> Project:
    """Return the project that a creation makes.

    Args:
        project: A new project, or one that a call has returned.

    Returns:
        The project, checked again, since its dicts may have changed.

    Raises:
        InvalidType: A field has a type that cannot be logged.
        InvalidValue: A field cannot be stored, or a new project has a value that a creation does not carry.
    """
    if project.created is None:
        _refuse_others(project, _PROJECT)
    return Project(**_values(project, _PROJECT))


def new_group(group: TrialGroup) -> TrialGroup:
    """Return the group that a creation makes; parameter and errors as for `new_project`."""
    if group.created is None:
        _refuse_others(group, _GROUP)
    return TrialGroup(**_values(group, _GROUP))


def new_trial(trial: Trial) -> Trial:
    """Return the trial that a creation makes.

    Args:
        trial: A new trial; or one that a call has returned, to create its next revision, which has the definition, the
            description, the tags and the plain metadata of that trial, and the status `CreatedGroup`.

    Returns:
        The trial, checked again, since its dicts may have changed.

    Raises:
        InvalidType: A field has a type that cannot be logged.
        InvalidValue: A field cannot be stored, or a new trial has a value that a creation does not carry.
    """
    if is_new(trial):
        _refuse_others(trial, (*_TRIAL, "hash"))
        definition(trial)  # checks the hash
        return Trial(**_values(trial, _TRIAL))
    carried = _values(trial, _TRIAL)
    # Values that the earlier revision accumulated are not part of the new one.
    if isinstance(trial.metadata, Mapping):
        carried["metadata"] = {key: each for key, each in trial.metadata.items() if not isinstance(each, Aggregator)}
    return replace(Trial(**{**carried, "status": None}), hash=trial.hash)


def undecided_trial(trial: Trial) -> Trial:
    """Return a trial whose creation is sent again, since the log may not have decided its revision.

    Args:
        trial: A trial with a request.

    Returns:
        The trial, checked again: the user may have made or changed it.

    Raises:
        InvalidType: A field has a type that cannot be logged.
        InvalidValue: A field cannot be stored.
    """
    if not isinstance(trial.created, datetime | None):
        raise InvalidType(f"Trial.created: expected a datetime or None, got {type(trial.created).__name__}")
    checked = Trial(**_values(trial, _TRIAL))
    return replace(checked, hash=str(trial.hash), request=trial.request, created=trial.created)


def request_of_run(run_id: str, trial: Trial) -> str:
    """Return the id of the request by which all processes of a training run create a trial.

    Args:
        run_id: Id of the run.
        trial: The trial; the id of the request depends on its definition, too.

    Returns:
        The id: 32 hexadecimal digits, unlike that of a new request.

    Raises:
        InvalidType: The id of the run is not a str.
        InvalidValue: The id of the run is empty, too long, or has a lone surrogate.
    """
    if not isinstance(run_id, str):
        raise InvalidType(f"run_id: expected a str or None, got {type(run_id).__name__}")
    text = check_text(run_id, "run_id")
    if not 1 <= len(text) <= _MAX_RUN_ID:
        raise InvalidValue(f"run_id: expected 1 to {_MAX_RUN_ID} characters, got {len(text)}")
    return digest("run", text, trial.hash)


def _values(given: Project | TrialGroup | Trial, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(given, name) for name in names}


def _refuse_others(given: Project | TrialGroup | Trial, carried: tuple[str, ...]) -> None:
    """Refuse values of fields that a creation does not carry; None and the default of a field are no values."""
    kind = type(given).__name__
    for field in dataclasses.fields(given):
        value = getattr(given, field.name)
        if field.name in carried or value is None:
            continue
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if not (isinstance(value, type(default)) and value == default):
            method = _LOGGED_BY.get(field.name) if isinstance(given, Trial) else None
            todo = f"log it with {method} after the creation" if method else "leave it out, since the log decides it"
            raise InvalidValue(f"{kind}.{field.name}: expected no value in a new {kind}, got {shown(value)}: {todo}")
