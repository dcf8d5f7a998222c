"""Conversion of projects, groups and trials to MongoDB documents and back.

- Times are int64 microseconds since 1970 UTC, because BSON dates have milliseconds only.
- Keys of users are escaped (`model/keys.py`).
- An aggregator is a sub-document with the key `%kind`, which is not the escaped form of any key.
- Both directions are exact: `to(from(document)) == document` and `from(to(object)) == object` (property-tested).
- The fields of attempts are in the documents of trials that have attempts only.
- Earlier versions stored null for `Status.CreatedGroup`, and such documents are read as that status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from trialstream_schemas.model.aggregators import Aggregator, is_aggregator_document
from trialstream_schemas.model.attempts import FormerParticipant, Participant, TrialAttempt
from trialstream_schemas.model.forms import from_document, to_document, values_from_document
from trialstream_schemas.model.keys import escape_key, unescape_key
from trialstream_schemas.model.status import CustomStatus, Status, status_of
from trialstream_schemas.model.times import from_micros, to_micros
from trialstream_schemas.model.trial import Project, Trial, TrialError, TrialGroup

__all__ = [
    "attempts_from_document",
    "error_from_document",
    "former_participants_from_document",
    "group_from_document",
    "group_to_document",
    "partial_group_from_document",
    "partial_project_from_document",
    "partial_trial_from_document",
    "participants_from_document",
    "project_from_document",
    "project_to_document",
    "status_from_document",
    "trial_from_document",
    "trial_to_document",
]


def trial_to_document(trial: Trial) -> dict[str, Any]:
    """The document of a trial."""
    return {
        "_id": trial.uid,
        "hash": trial.hash,
        "revision": trial.revision,
        "name": trial.name,
        "version": trial.version,
        "description": trial.description,
        "project_id": trial.project_id,
        "group_id": trial.group_id,
        "parameters": to_document(trial.parameters),
        "metadata": {
            escape_key(key): each.to_document() if isinstance(each, Aggregator) else to_document(each)
            for key, each in trial.metadata.items()
        },
        "tags": to_document(trial.tags),
        "metrics": _aggregators(trial.metrics),
        "chronos": _aggregators(trial.chronos),
        "open_chronos": to_document(dict(trial.open_chronos)),
        "failed_chronos": to_document(dict(trial.failed_chronos)),
        "status": trial.status and {"name": trial.status.name, "code": trial.status.value},
        "errors": [
            {"type": each.type, "message": each.message, "traceback": each.traceback, "time": to_micros(each.time)}
            for each in trial.errors
        ],
        "errors_dropped": trial.errors_dropped,
        "starts": trial.starts,
        "created": _micros(trial.created),
        "started": _micros(trial.started),
        "finished": _micros(trial.finished),
        "last_seen": _micros(trial.last_seen),
        "writers": dict(trial.writers),
        "lost_events": trial.lost_events,
        "state_version": trial.state_version,
        "rows": trial.rows,
        "size": trial.size,
        **(_attempts(trial) if trial.attempts else {}),
    }


def _attempts(trial: Trial) -> dict[str, Any]:
    return {
        "attempts": [
            {
                "key": each.key,  # the number is the place in the list
                "started": to_micros(each.started),
                "resume_step": each.resume_step,
                "world_size": each.world_size,
            }
            for each in trial.attempts
        ],
        "participants": {
            writer: {
                "attempt": each.attempt,
                "rank": each.rank,
                "host": each.host,
                "joined": to_micros(each.joined),
                "last_seen": to_micros(each.last_seen),
                "status": each.status.name,
                "error": each.error,
            }
            for writer, each in trial.participants.items()
        },
        "former_participants": {writer: list(each) for writer, each in trial.former_participants.items()},
    }


def trial_from_document(document: Mapping[str, Any]) -> Trial:
    """The trial of a document that `trial_to_document` made."""
    return Trial(
        hash=document["hash"],
        revision=document["revision"],
        name=document["name"],
        version=document["version"],
        description=document["description"],
        project_id=document["project_id"],
        group_id=document["group_id"],
        parameters=values_from_document(document["parameters"]),
        metadata={
            unescape_key(key): Aggregator.from_document(each) if is_aggregator_document(each) else from_document(each)
            for key, each in document["metadata"].items()
        },
        tags=values_from_document(document["tags"]),
        metrics={unescape_key(key): Aggregator.from_document(each) for key, each in document["metrics"].items()},
        chronos={unescape_key(key): Aggregator.from_document(each) for key, each in document["chronos"].items()},
        open_chronos=_counts(document["open_chronos"]),
        failed_chronos=_counts(document["failed_chronos"]),
        status=status_from_document(document["status"]),
        errors=[error_from_document(each) for each in document["errors"]],
        errors_dropped=document["errors_dropped"],
        starts=document["starts"],
        attempts=attempts_from_document(document.get("attempts")),
        participants=participants_from_document(document.get("participants")),
        former_participants=former_participants_from_document(document.get("former_participants")),
        created=_time(document["created"]),
        started=_time(document["started"]),
        finished=_time(document["finished"]),
        last_seen=_time(document["last_seen"]),
        writers=dict(document["writers"]),
        lost_events=document["lost_events"],
        state_version=document["state_version"],
        rows=document["rows"],
        size=document["size"],
    )


def status_from_document(stored: Mapping[str, Any] | None) -> Status | CustomStatus:
    """The status of a trial's document; null, as earlier versions stored it, is `Status.CreatedGroup`."""
    # a plain int instead of bson.Int64
    return status_of(stored["name"], int(stored["code"])) if stored else Status.CreatedGroup


def error_from_document(stored: Mapping[str, Any]) -> TrialError:
    """An error of a trial's document."""
    return TrialError(stored["type"], stored["message"], stored["traceback"], from_micros(stored["time"]))


def attempts_from_document(stored: Sequence[Mapping[str, Any]] | None) -> list[TrialAttempt]:
    """The attempts of a stored list; None, as trials without attempts have it, is no attempt."""
    return [
        TrialAttempt(each["key"], number, from_micros(each["started"]), each["resume_step"], each["world_size"])
        for number, each in enumerate(stored or (), 1)
    ]


def participants_from_document(stored: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Participant]:
    """The participants of a stored dict, by writer; none for None."""
    return {
        writer: Participant(
            each["attempt"],
            each["rank"],
            each["host"],
            from_micros(each["joined"]),
            from_micros(each["last_seen"]),
            Status[each["status"]],
            each["error"],
        )
        for writer, each in (stored or {}).items()
    }


def former_participants_from_document(stored: Mapping[str, Sequence[Any]] | None) -> dict[str, FormerParticipant]:
    """The former participants of a stored dict, by writer; none for None."""
    return {writer: FormerParticipant(*each) for writer, each in (stored or {}).items()}


def group_to_document(group: TrialGroup) -> dict[str, Any]:
    """The document of a group, without its trials: readers find the trials by `group_id`."""
    return {
        "_id": group.uid,
        "name": group.name,
        "project_id": group.project_id,
        "description": group.description,
        "metadata": to_document(group.metadata),
        "tags": to_document(group.tags),
        "created": _micros(group.created),
        "state_version": group.state_version,
        "writers": dict(group.writers),
        "lost_events": group.lost_events,
    }


def group_from_document(document: Mapping[str, Any]) -> TrialGroup:
    """The group of a document that `group_to_document` made; `trials` is empty."""
    return TrialGroup(
        name=document["name"],
        project_id=document["project_id"],
        description=document["description"],
        metadata=values_from_document(document["metadata"]),
        tags=values_from_document(document["tags"]),
        created=_time(document["created"]),
        state_version=document["state_version"],
        writers=dict(document["writers"]),
        lost_events=document["lost_events"],
    )


def project_to_document(project: Project) -> dict[str, Any]:
    """The document of a project, without its groups and trials: readers find those by `project_id`."""
    return {
        "_id": project.uid,
        "name": project.name,
        "description": project.description,
        "metadata": to_document(project.metadata),
        "tags": to_document(project.tags),
        "created": _micros(project.created),
    }


def project_from_document(document: Mapping[str, Any]) -> Project:
    """The project of a document that `project_to_document` made; `groups` and `trials` are empty."""
    return Project(
        name=document["name"],
        description=document["description"],
        metadata=values_from_document(document["metadata"]),
        tags=values_from_document(document["tags"]),
        created=_time(document["created"]),
    )


def partial_trial_from_document(document: Mapping[str, Any]) -> Trial:
    """The trial of a document that lacks fields, which get their defaults; `hash`, `revision` and `name` are there."""
    trial = trial_from_document({**_TRIAL, **document})
    if "status" not in document:
        trial.status = None
    return trial


def partial_group_from_document(document: Mapping[str, Any]) -> TrialGroup:
    """The group of a document that lacks fields, which get their defaults; `name` and `project_id` are there."""
    return group_from_document({**_GROUP, **document})


def partial_project_from_document(document: Mapping[str, Any]) -> Project:
    """The project of a document that lacks fields, which get their defaults; `name` is there."""
    return project_from_document({**_PROJECT, **document})


def _aggregators(given: Mapping[str, Aggregator]) -> dict[str, Any]:
    return {escape_key(key): each.to_document() for key, each in given.items()}


def _counts(given: Mapping[str, Any]) -> dict[str, int]:
    return {unescape_key(key): int(each) for key, each in given.items()}


def _micros(time: datetime | None) -> int | None:
    return None if time is None else to_micros(time)


def _time(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


# Documents of objects with defaults only, which complete documents that lack fields.
_TRIAL = trial_to_document(Trial(name="default"))
_GROUP = group_to_document(TrialGroup(name="default"))
_PROJECT = project_to_document(Project(name="default"))
