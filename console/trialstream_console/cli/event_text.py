"""Events of a stream as lines of text, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from trialstream import events
from trialstream.streaming.items import LogEvent
from trialstream.streaming.rows import Row, Rows
from trialstream_schemas.messages import counted, shortened
from trialstream_schemas.model.forms import to_json

__all__ = ["event_record", "event_text"]

_MAX_TEXT = 300
_MAX_NAMES = 8
# Fields that all events have, which the place or the columns of a line show.
_ENVELOPE = ("trial", "project", "group", "writer", "seq", "time", "if_version", "request")


def event_text(item: LogEvent) -> str:
    """Return an event as one line: when it was appended, what it is about, its kind, and its contents in short.

    Args:
        item: The event.
    """
    about = item.trial or item.group or item.project or ""
    time = item.appended.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
    return f"{time}  {about}  {item.kind}  {shortened(_contents(item.event), _MAX_TEXT)}".rstrip()


def _contents(event: object) -> str:
    match event:
        case Rows():
            steps = [each for each in (event.steps[0], event.steps[-1]) if each is not None]
            last = {name: column[-1] for name, column in event.values.items()}
            at = f", step {steps[0]}" + (f" to {steps[-1]}" if len(event) > 1 else "") if steps else ""
            return f"{counted(len(event), 'row')}{at}: {_values(last)}"
        case Row():
            at = "" if event.step is None else f"step {event.step}: "
            return at + _values(event.values)
        case events.StatusSet():
            return f"{event.status.name} ({event.status.code})" + _error(event.error)
        case events.TrialFinished():
            how = "interrupted" if event.interrupted else "failed" if event.error else "completed"
            return how + ("" if event.elapsed is None else f" after {event.elapsed:.3g} s") + _error(event.error)
        case events.ChronosFinished():
            return f"{counted(len(event.chronos), 'time')}: {_names(event.names)}"
        case events.TrialUpdated():
            return "; ".join(f"{type(each).__name__} {_contents(each)}" for each in event.updates)
        case events.MetricsLogged():
            return f"{counted(len(event.times), 'row')}: {_names(event.names)}"
        case _ if is_dataclass(event):
            given = {each.name: getattr(event, each.name) for each in fields(event) if each.name not in _ENVELOPE}
            return ", ".join(f"{name}={_short(x)}" for name, x in given.items() if x not in (None, "", {}, False))
    return ""


def _error(error: events.Error | None) -> str:
    return "" if error is None else f": {error.type}: {error.message}"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def _values(values: Mapping[str, float]) -> str:
    shown = [f"{name} {x:.6g}" for name, x in [*values.items()][:_MAX_NAMES]]
    more = f" and {len(values) - _MAX_NAMES} more" if len(values) > _MAX_NAMES else ""
    return ", ".join(shown) + more


def _short(x: object) -> str:
    return shortened(repr(x), 80)


def event_record(item: LogEvent) -> dict[str, Any]:
    """Return an event as a JSON object; NaN, ±inf and bytes are objects with one key, as in an export.

    Args:
        item: The event.
    """
    place = {"topic": item.topic, "partition": item.partition, "offset": item.offset}
    about = {"trial": item.trial, "project": item.project, "group": item.group}
    appended = item.appended.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {**place, "appended": appended, **about, "kind": item.kind, "event": _json(item.event)}


def _json(x: Any) -> Any:
    match x:
        case Rows():
            columns = {name: to_json(column.tolist()) for name, column in x.values.items()}
            steps = to_json(x.steps.tolist())
            return {"writer": x.writer, "steps": steps, "times": [*map(_micros, x.times.tolist())], "values": columns}
        case Row():
            values = {name: to_json(each) for name, each in x.values.items()}
            return {"writer": x.writer, "step": to_json(x.step), "time": _micros(x.time), "values": values}
        case _ if is_dataclass(x) and not isinstance(x, type):
            found = {each.name: _json(getattr(x, each.name)) for each in fields(x)}
            return {"kind": type(x).__name__, **found} if isinstance(x, events.SubjectEvent) else found
        case str() | bytes() | None:
            return to_json(x)
        case Mapping():
            return {name: to_json(each) for name, each in x.items()}
        case Sequence():
            return [*map(_json, x)]
    return to_json(x)


def _micros(time: Any) -> str:
    return str(time.isoformat(timespec="microseconds").removesuffix("+00:00")) + "Z"
