"""The update calls as events: checked here, at the call, so that what is queued can be encoded and folded.

Each function has the name and the parameters of the Protocol's method that it serves. `fetch_and_update_*` uses the
same ones: `TRIAL_UPDATES` and `GROUP_UPDATES` list what can claim.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from trialstream_schemas.errors import InvalidType, InvalidValue
from trialstream_schemas.model.aggregators import AggregatorSpec, value_aggregator
from trialstream_schemas.model.status import CustomStatus, Status
from trialstream_schemas.model.values import Value, number, size, values
from trialstream_schemas.wire.events import (
    ArgumentsLogged,
    Error,
    GroupMetadataSet,
    MetadataLogged,
    StatusRecord,
    StatusSet,
    SubjectEvent,
    TagsAdded,
    TrialFinished,
    TrialStarted,
)
from trialstream_schemas.wire.limits import MAX_ERROR_MESSAGE, MAX_ERROR_TRACEBACK, MAX_ERROR_TYPE, MAX_EVENT_BYTES

__all__ = ["GROUP_UPDATES", "TRIAL_UPDATES", "Update", "checked_values", "now"]

Update = Callable[..., SubjectEvent]
_INTERRUPTIONS = (KeyboardInterrupt, asyncio.CancelledError)


def now() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


def checked_values(given: dict[str, Any], path: str) -> dict[str, Value]:
    """The values of a call, checked one by one and together.

    Raises:
        InvalidType, InvalidValue: see `values.value`; or together they do not fit one event.
    """
    plain = values(given, path)
    total = size(plain)
    if total > MAX_EVENT_BYTES:
        raise InvalidValue(f"{path}: {total} bytes in one call, {MAX_EVENT_BYTES} at most: spread them over several")
    return plain


def log_trial_start(writer: str, uid: str) -> TrialStarted:
    """A trial began to run."""
    return TrialStarted(trial=uid, writer=writer, time=now())


def log_trial_finish(
    writer: str,
    uid: str,
    exc_type: type[BaseException] | None = None,
    exc_val: BaseException | None = None,
    exc_tb: TracebackType | None = None,
) -> TrialFinished:
    """A trial ended."""
    kind = exc_type or (type(exc_val) if exc_val is not None else None)
    if kind is not None and not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise InvalidType(f"exc_type: an exception's class is needed, not {kind!r}")
    interrupted = kind is not None and issubclass(kind, _INTERRUPTIONS)
    error = None if kind is None or interrupted else _exception(kind, exc_val, exc_tb)
    return TrialFinished(trial=uid, writer=writer, time=now(), interrupted=interrupted, error=error)


def log_trial_arguments(writer: str, uid: str, /, **kwargs: Any) -> ArgumentsLogged:
    """Values merged into the parameters."""
    return ArgumentsLogged(trial=uid, writer=writer, time=now(), values=checked_values(kwargs, "arguments"))


def log_trial_metadata(
    writer: str, uid: str, /, aggregator: AggregatorSpec = value_aggregator, **kwargs: Any
) -> MetadataLogged:
    """Values merged into the metadata."""
    lazy = AggregatorSpec.check(aggregator, "aggregator")
    plain = checked_values(kwargs, "metadata")
    if lazy.kind in ("stat", "timeseries"):
        plain = {key: number(x, f"metadata.{key}") for key, x in plain.items()}
    return MetadataLogged(trial=uid, writer=writer, time=now(), values=plain, aggregator=lazy)


def add_trial_tags(writer: str, uid: str, /, **kwargs: Any) -> TagsAdded:
    """Values merged into the tags."""
    return TagsAdded(trial=uid, writer=writer, time=now(), values=checked_values(kwargs, "tags"))


def set_trial_status(
    writer: str, uid: str, status: Status | CustomStatus, error: str | BaseException | None = None
) -> StatusSet:
    """The status of a trial was set."""
    if not isinstance(status, Status | CustomStatus):
        raise InvalidType(f"status: a Status or CustomStatus is needed, not {type(status).__name__}")
    record = StatusRecord(status.name, status.value)
    return StatusSet(trial=uid, writer=writer, time=now(), status=record, error=_error(error))


def set_group_metadata(writer: str, uid: str, /, **kwargs: Any) -> GroupMetadataSet:
    """Values merged into the metadata of a group."""
    return GroupMetadataSet(group=uid, writer=writer, time=now(), values=checked_values(kwargs, "metadata"))


TRIAL_UPDATES: dict[str, Update] = {
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
GROUP_UPDATES: dict[str, Update] = {set_group_metadata.__name__: set_group_metadata}


def _error(error: str | BaseException | None) -> Error | None:
    if error is None:
        return None
    if isinstance(error, BaseException):
        return _exception(type(error), error, error.__traceback__)
    if isinstance(error, str):
        return Error("", _cut(error, MAX_ERROR_MESSAGE), "")
    raise InvalidType(f"error: a text or an exception is needed, not {type(error).__name__}")


def _exception(kind: type[BaseException], error: BaseException | None, tb: TracebackType | None) -> Error:
    try:
        message = "" if error is None else str(error)
    except Exception as fault:  # noqa: BLE001 (a broken __str__ of the user's must not keep the end of a trial from the log)
        message = f"<str() of it failed: {fault!r}>"
    lines = traceback.format_exception(kind, error, tb) if tb else []
    return Error(
        _cut(kind.__qualname__, MAX_ERROR_TYPE),
        _cut(message, MAX_ERROR_MESSAGE),
        _cut("".join(lines), MAX_ERROR_TRACEBACK, from_end=True),
    )


def _cut(text: str, limit: int, *, from_end: bool = False) -> str:
    """What the fold keeps, in valid Unicode: an error is logged whatever it says."""
    # A lone surrogate becomes an escape of six characters.
    return (text[-limit:] if from_end else text[:limit]).encode(errors="backslashreplace").decode()
