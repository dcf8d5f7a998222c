"""Events of the log as JSON, with bounded lists and texts, and as a line for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from trialstream_schemas.messages import counted, shortened
from trialstream_schemas.wire.events import (
    ArgumentsLogged,
    ChronosFinished,
    ChronoStarted,
    Event,
    MetadataLogged,
    MetricsLogged,
    StatusSet,
    TagsAdded,
    TrialAttached,
    TrialCreated,
    TrialFinished,
    TrialStarted,
    TrialUpdated,
)

from trialstream_console.dashboard.encoding import encoded

__all__ = ["event_fields", "summary"]

_MAX_ITEMS = 100
_MAX_TEXT = 4096
_MAX_SUMMARY = 200
_MAX_NAMES = 5


def event_fields(event: Event) -> Any:
    """Return the fields of an event as JSON; a list that is cut ends with a text that says so.

    Args:
        event: The event.
    """
    fields = {each.name: _bounded(getattr(event, each.name)) for each in dataclasses.fields(event)}
    return {"kind": type(event).__name__, **fields}


def _bounded(value: Any) -> Any:
    """Return a value as JSON, without most of what is long."""
    if isinstance(value, str):
        return shortened(value, _MAX_TEXT)
    if isinstance(value, bytes):
        return encoded(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = {"kind": type(value).__name__} if isinstance(value, Event) else {}
        return kind | {each.name: _bounded(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        found = {str(key): _bounded(each) for key, each in islice(value.items(), _MAX_ITEMS)}
        if len(value) > _MAX_ITEMS:
            found["…"] = f"{len(value) - _MAX_ITEMS} more"
        return {"$dict": found} if any(key.startswith("$") for key in found) else found
    if hasattr(value, "tolist"):  # an array
        return _bounded(value[:_MAX_ITEMS].tolist()) + _more(len(value))
    if isinstance(value, Sequence):
        return [*map(_bounded, value[:_MAX_ITEMS]), *_more(len(value))]
    return encoded(value)


def _more(size: int) -> list[str]:
    return [f"… {size - _MAX_ITEMS} more"] if size > _MAX_ITEMS else []


def summary(event: Event) -> str:
    """Return an event as one line.

    Args:
        event: The event.
    """
    match event:
        case TrialCreated():
            text = event.name
        case TrialStarted():
            rank = "" if event.rank is None else f"rank {event.rank} of {event.world_size}"
            text = ", ".join(filter(None, [rank, event.host]))
        case TrialFinished():
            text = "interrupted" if event.interrupted else _error(event.error) or "completed"
        case ChronoStarted():
            text = event.name
        case ChronosFinished():
            text = f"{_names(event.names)}: {len(event.chronos)}"
        case ArgumentsLogged() | MetadataLogged() | TagsAdded():
            text = _names(list(event.values))
        case MetricsLogged():
            rows = counted(len(event.times), "row")
            steps = event.steps if len(event.steps) else event.float_steps or event.text_steps
            of = f", steps {steps[0]} to {steps[-1]}" if len(steps) > 1 else f", step {steps[0]}" if len(steps) else ""
            text = f"{_names(event.names)}: {rows}{of}"
        case StatusSet():
            text = event.status.name + (f": {_error(event.error)}" if event.error else "")
        case TrialAttached():
            text = ", ".join(filter(None, [event.project_id, event.group_id]))
        case TrialUpdated():
            text = "; ".join(f"{type(each).__name__} {summary(each)}" for each in event.updates[:_MAX_NAMES])
        case _:
            text = ""
    return shortened(text, _MAX_SUMMARY)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def _error(error: Any) -> str:
    return "" if error is None else ": ".join(filter(None, [error.type, error.message]))
