"""Events of claims: the updates of a claim are checked one by one and joined to one event."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from trialstream_schemas.errors import InvalidType, InvalidValue, QueryError, TrialStreamError
from trialstream_schemas.wire.codec import encode
from trialstream_schemas.wire.events import GroupMetadataSet, MetricsLogged, SubjectEvent, TrialEvent, TrialUpdated
from trialstream_schemas.wire.limits import MAX_EVENT_BYTES

from trialstream.arguments import MAPPING_ADVICE
from trialstream.kafka.commands import MakeUpdate, now
from trialstream.protocol import Protocol
from trialstream.updates import Update

__all__ = ["claim_event"]

# Upper bound of the bytes that an event or an update of it grows by when its candidate is known: the uid of a trial,
# the version, the request and the seconds since the start.
_CANDIDATE_BYTES = 128


def claim_event(
    makers: Mapping[str, MakeUpdate], writer: str, attr: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> SubjectEvent:
    """Make the event of a claim; its subject is empty until a candidate is found.

    Args:
        makers: Functions that make the updates that can claim, by name.
        writer: Id of the writer.
        attr: Name of the update; None if `kwargs` has the list `updates`.
        args: Positional arguments of the update, after its subject.
        kwargs: Keyword arguments of the update; or `updates`, a list of what `trialstream.update` returns.

    Returns:
        The event: the update itself, or a `TrialUpdated` of several updates. Metrics alone are a `TrialUpdated` too,
        since each claim has to count in `state_version`. Updates of a group become one update with the values of all.

    Raises:
        QueryError: An update cannot claim.
        TypeError: Arguments do not fit their update.
        InvalidType: `updates` is no list of updates, or an argument has a type that cannot be logged.
        InvalidValue: An argument cannot be logged as it is, or there are no updates, or they do not fit one event.
    """
    if attr is not None or "updates" not in kwargs:
        return _joined([_event(makers, writer, attr, args, kwargs)], writer)
    updates = kwargs["updates"]
    if args or len(kwargs) > 1:
        raise InvalidType("updates: expected no other arguments beside it, or the name of an update as attr")
    if not isinstance(updates, Sequence):
        raise InvalidType(f"updates: expected a list of trialstream.update(...), got {type(updates).__name__}")
    if not updates:
        raise InvalidValue("updates: expected at least one update, got none")
    events = []
    for number, each in enumerate(updates):
        path = f"updates[{number}]"
        if not isinstance(each, Update):
            raise InvalidType(f"{path}: expected a trialstream.update(...), got {type(each).__name__}")
        try:
            events.append(_event(makers, writer, each.attr, each.args, each.kwargs))
        except (TrialStreamError, TypeError) as error:
            raise type(error)(f"{path}: {error}") from None
    return _joined(events, writer)


def _event(
    makers: Mapping[str, MakeUpdate], writer: str, attr: str | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> SubjectEvent:
    """Make the event of one update."""
    if not isinstance(attr, str) or attr not in makers:
        raise QueryError(f"attr: expected one of {', '.join(sorted(makers))}, got {attr!r}")
    try:
        inspect.signature(getattr(Protocol, attr)).bind(None, None, *args, **kwargs)
    except TypeError as error:
        advice = f"; {MAPPING_ADVICE}" if "multiple values" in str(error) else ""
        raise TypeError(f"{attr}: {error}{advice}") from None
    return makers[attr](writer, "", *args, **kwargs)


def _joined(events: list[SubjectEvent], writer: str) -> SubjectEvent:
    """Join the events of updates to one event."""
    first = events[0]
    if len(events) == 1 and not isinstance(first, MetricsLogged):
        return first
    if isinstance(first, GroupMetadataSet):
        values = {key: x for each in events for key, x in cast("GroupMetadataSet", each).values.items()}
        joined: SubjectEvent = replace(first, values=values)
    else:
        # A row without values is no event of its own either.
        logged = [cast("TrialEvent", each) for each in events if not isinstance(each, MetricsLogged) or each.names]
        joined = TrialUpdated(trial="", writer=writer, time=now(), updates=logged)
    size = len(encode(joined)) + _CANDIDATE_BYTES * (1 + len(events))
    if size > MAX_EVENT_BYTES:
        raise InvalidValue(f"updates: expected at most {MAX_EVENT_BYTES} bytes in one claim, got {size}")
    return joined
