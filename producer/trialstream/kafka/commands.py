"""Commands: make the event of each call of the Protocol, checked so that every queued event can be encoded and folded.

Each update function has the name and the parameters of the Protocol's method that it serves. `fetch_and_update_*` uses
the same functions: `TRIAL_UPDATES` and `GROUP_UPDATES` list the updates that can claim, besides those of `rows.py`.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Mapping
from secrets import token_hex
from time import time_ns
from types import TracebackType
from typing import Any

from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.model.aggregators import AggregatorSpec, value_aggregator
from trialstream_schemas.model.attempts import Attempt
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.times import to_micros
from trialstream_schemas.model.trial import Project, Trial, TrialGroup
from trialstream_schemas.model.values import Value, number, size, values
from trialstream_schemas.wire.events import (
    ArgumentsLogged,
    Error,
    GroupCreated,
    GroupMetadataSet,
    MetadataLogged,
    ProjectCreated,
    StatusRecord,
    StatusSet,
    SubjectEvent,
    TagsAdded,
    TrialAttached,
    TrialCreated,
    TrialFinished,
    TrialStarted,
)
from trialstream_schemas.wire.limits import MAX_ERROR_MESSAGE, MAX_ERROR_TRACEBACK, MAX_ERROR_TYPE, MAX_EVENT_BYTES

from trialstream.arguments import MAPPING_ADVICE, resolve

__all__ = [
    "GROUP_UPDATES",
    "TRIAL_UPDATES",
    "MakeUpdate",
    "attach_trial",
    "checked_aggregator",
    "checked_values",
    "create_group",
    "create_project",
    "create_trial",
    "is_successful_exit",
    "new_request",
    "now",
]

MakeUpdate = Callable[..., SubjectEvent]
_INTERRUPTIONS = (KeyboardInterrupt, asyncio.CancelledError)


def now() -> int:
    """Return the present time in microseconds since 1970 UTC."""
    return time_ns() // 1000


def checked_values(given: dict[str, Any], path: str) -> dict[str, Value]:
    """Check the values of a call, one by one and together.

    Args:
        given: Values by name, as the user passed them.
        path: Name of the parameter, for messages.

    Returns:
        The values in their plain form.

    Raises:
        InvalidType: A value has a type that cannot be logged.
        InvalidValue: A value cannot be logged as it is, or the values together do not fit one event.
    """
    plain = values(given, path)
    total = size(plain)
    if total > MAX_EVENT_BYTES:
        raise InvalidValue(
            f"{path}: expected at most {MAX_EVENT_BYTES} bytes in one call, got {total}: "
            "spread the values over several calls"
        )
    return plain


def checked_aggregator(given: object, default: AggregatorSpec) -> AggregatorSpec:
    """Check the aggregator of a call that takes values as keywords.

    Args:
        given: The argument.
        default: The default.

    Returns:
        The argument; the default for None.

    Raises:
        InvalidType: The argument is not an `AggregatorSpec`.
    """
    if given is None:
        return default
    try:
        return AggregatorSpec.check(given, "aggregator")
    except InvalidType as error:
        raise InvalidType(f"{error}; {MAPPING_ADVICE}") from None


def log_trial_start(writer: str, uid: str, *, attempt: Attempt | None = None) -> TrialStarted:
    """Make the event of a trial that starts to run, or of a process that joins an attempt of it."""
    if attempt is None:
        return TrialStarted(trial=uid, writer=writer, time=now())
    if not isinstance(attempt, Attempt):
        raise InvalidType(f"attempt: expected an Attempt or None, got {type(attempt).__name__}")
    return TrialStarted(
        trial=uid,
        writer=writer,
        time=now(),
        attempt=attempt.key,
        rank=attempt.rank,
        world_size=attempt.world_size,
        host=attempt.host,
        resume_step=attempt.resume_step,
        resumes=attempt.resumes,
    )


def log_trial_finish(
    writer: str,
    uid: str,
    exc_type: type[BaseException] | None = None,
    exc_val: BaseException | None = None,
    exc_tb: TracebackType | None = None,
) -> TrialFinished:
    """Make the event of a trial that ended; `elapsed` is set by the caller."""
    kind = exc_type or (type(exc_val) if exc_val is not None else None)
    if kind is not None and not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise InvalidType(f"exc_type: expected an exception class, got {kind!r}")
    if is_successful_exit(exc_type, exc_val):
        kind = None
    interrupted = kind is not None and issubclass(kind, _INTERRUPTIONS)
    # The reason of an interruption, such as the name of a signal; cancellation has messages of its libraries.
    has_reason = isinstance(exc_val, KeyboardInterrupt) and bool(exc_val.args)
    error = None if kind is None or (interrupted and not has_reason) else _exception(kind, exc_val, exc_tb)
    return TrialFinished(trial=uid, writer=writer, time=now(), interrupted=interrupted, error=error)


def is_successful_exit(exc_type: type[BaseException] | None, exc_val: BaseException | None) -> bool:
    """Whether an exception is a `SystemExit` with the code 0 or None; a class without an instance has the code None.

    Args:
        exc_type: Class of the exception, or None, as in `sys.exc_info()`.
        exc_val: The exception, or None.
    """
    kind = exc_type or type(exc_val)
    if not (isinstance(kind, type) and issubclass(kind, SystemExit)):
        return False
    code = exc_val.code if isinstance(exc_val, SystemExit) else exc_val
    return code is None or (isinstance(code, int) and code == 0)  # the rule of Python's own exit: False is 0


def log_trial_arguments(writer: str, uid: str, /, *values: Mapping[str, Any], **kwargs: Any) -> ArgumentsLogged:
    """Make the event that merges values into the parameters."""
    (kwargs,) = resolve("arguments", values, kwargs)
    return ArgumentsLogged(trial=uid, writer=writer, time=now(), values=checked_values(kwargs, "arguments"))


def log_trial_metadata(
    writer: str,
    uid: str,
    /,
    *args: Mapping[str, Any] | AggregatorSpec | None,
    aggregator: AggregatorSpec | None = value_aggregator,
    **kwargs: Any,
) -> MetadataLogged:
    """Make the event that merges values into the metadata."""
    given = None if aggregator is value_aggregator else aggregator
    kwargs, given = resolve("metadata", args, kwargs, aggregator=given)
    spec = checked_aggregator(given, value_aggregator)
    plain = checked_values(kwargs, "metadata")
    if spec.numeric:
        plain = {key: number(x, f"metadata.{key}") for key, x in plain.items()}
    return MetadataLogged(trial=uid, writer=writer, time=now(), values=plain, aggregator=spec)


def add_trial_tags(writer: str, uid: str, /, *values: Mapping[str, Any], **kwargs: Any) -> TagsAdded:
    """Make the event that merges values into the tags."""
    (kwargs,) = resolve("tags", values, kwargs)
    return TagsAdded(trial=uid, writer=writer, time=now(), values=checked_values(kwargs, "tags"))


def set_trial_status(
    writer: str,
    uid: str,
    status: Status | CustomStatus,
    error: str | BaseException | type[BaseException] | None = None,
) -> StatusSet:
    """Make the event that sets the status of a trial."""
    if not isinstance(status, Status | CustomStatus):
        raise InvalidType(f"status: expected a Status or a CustomStatus, got {type(status).__name__}")
    return StatusSet(trial=uid, writer=writer, time=now(), status=_record(status), error=_error(error))


def set_group_metadata(writer: str, uid: str, /, *values: Mapping[str, Any], **kwargs: Any) -> GroupMetadataSet:
    """Make the event that merges values into the metadata of a group."""
    (kwargs,) = resolve("metadata", values, kwargs)
    return GroupMetadataSet(group=uid, writer=writer, time=now(), values=checked_values(kwargs, "metadata"))


TRIAL_UPDATES: dict[str, MakeUpdate] = {
    each.__name__: each
    for each in (
        log_trial_start,
        log_trial_finish,
        log_trial_arguments,
        log_trial_metadata,
        add_trial_tags,
        set_trial_status,
    )
}
GROUP_UPDATES: dict[str, MakeUpdate] = {set_group_metadata.__name__: set_group_metadata}


def attach_trial(writer: str, uid: str, *, project_id: str | None = None, group_id: str | None = None) -> TrialAttached:
    """Make the event that puts a trial into a project or a group; None leaves the one that it has."""
    return TrialAttached(trial=uid, writer=writer, time=now(), project_id=project_id, group_id=group_id)


def new_request() -> str:
    """Return a new, unique id of a request: 26 hexadecimal digits.

    Those of earlier versions have 24, and those of runs 32: `storage/outcomes.py` tells them apart.
    """
    return token_hex(13)


def create_project(writer: str, project: Project) -> ProjectCreated:
    """Make the event that creates a project.

    Raises:
        InvalidValue: The values of the project do not fit one event.
    """
    _check_size("Project", project.metadata, project.tags)
    return ProjectCreated(
        project=project.uid,
        writer=writer,
        time=now(),
        request=new_request(),
        name=project.name,
        description=project.description,
        metadata=project.metadata,
        tags=project.tags,
    )


def create_group(writer: str, group: TrialGroup) -> GroupCreated:
    """Make the event that creates a group.

    Raises:
        InvalidValue: The values of the group do not fit one event.
    """
    _check_size("TrialGroup", group.metadata, group.tags)
    return GroupCreated(
        group=group.uid,
        writer=writer,
        time=now(),
        request=new_request(),
        name=group.name,
        project_id=group.project_id,
        description=group.description,
        metadata=group.metadata,
        tags=group.tags,
    )


def create_trial(writer: str, trial: Trial, *, auto_increment: bool, request: str | None = None) -> TrialCreated:
    """Make the event that creates a trial.

    For a trial that has the request of an undecided creation, each writer makes an equal event and sends it before its
    own events of the trial; the fold applies the first one only.

    Args:
        writer: Id of the writer.
        trial: The trial.
        auto_increment: Whether to create the next revision if the trial exists.
        request: Id of the request of a trial that has none; None for a new one.

    Returns:
        The event.

    Raises:
        InvalidValue: The values of the trial do not fit one event.
    """
    _check_size("Trial", trial.parameters, trial.metadata, trial.tags)
    request = trial.request or request or new_request()
    return TrialCreated(
        trial=f"{trial.hash}~{request}",
        writer=writer,
        time=now() if trial.request is None or trial.created is None else to_micros(trial.created),
        request=request,
        name=trial.name,
        version=trial.version,
        description=trial.description,
        parameters=trial.parameters,
        project_id=trial.project_id,
        group_id=trial.group_id,
        metadata=trial.metadata,
        tags=trial.tags,
        auto_increment=bool(auto_increment),
        status=None if trial.status in (None, Status.CreatedGroup) else _record(trial.status),
    )


def _record(status: Status | CustomStatus) -> StatusRecord:
    return StatusRecord(status.name, status.value)


def _check_size(what: str, *parts: dict[str, Any]) -> None:
    total = sum(map(size, parts))
    if total > MAX_EVENT_BYTES:
        raise InvalidValue(f"{what}: expected values of at most {MAX_EVENT_BYTES} bytes, got {total}")


def _error(error: str | BaseException | type[BaseException] | None) -> Error | None:
    if error is None:
        return None
    if isinstance(error, BaseException):
        return _exception(type(error), error, error.__traceback__)
    if isinstance(error, type) and issubclass(error, BaseException):
        return _exception(error, None, None)
    if isinstance(error, str):
        return Error("", _cut(error, MAX_ERROR_MESSAGE), "")
    raise InvalidType(f"error: expected a text, an exception or its class, got {type(error).__name__}")


def _exception(kind: type[BaseException], error: BaseException | None, tb: TracebackType | None) -> Error:
    try:
        message = "" if error is None else str(error)
    except Exception as fault:  # noqa: BLE001 (a broken __str__ of a user's exception must not prevent logging the end of the trial)
        message = f"<str() of it failed: {fault!r}>"
    lines = traceback.format_exception(kind, error, tb) if tb else []
    return Error(
        _cut(kind.__qualname__, MAX_ERROR_TYPE),
        _cut(message, MAX_ERROR_MESSAGE),
        _cut("".join(lines), MAX_ERROR_TRACEBACK, from_end=True),
    )


def _cut(text: str, limit: int, *, from_end: bool = False) -> str:
    """Cut a text to the length that the fold keeps, and make it valid Unicode, so that any error can be logged."""
    # A lone surrogate becomes an escape of six characters.
    return (text[-limit:] if from_end else text[:limit]).encode(errors="backslashreplace").decode()
