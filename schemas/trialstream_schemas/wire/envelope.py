"""Bounds of an event's envelope: the ids and numbers by which an event is routed, looked up and told from others.

They are checked before anything is looked up by them. All other names and values are checked where they are folded.
Ids of this length fit all that any version has written.
"""

from __future__ import annotations

import re
import reprlib

from trialstream_schemas.model.values import INT64_MAX, INT64_MIN, MAX_NAME_BYTES
from trialstream_schemas.wire.events import Event, GroupCreated, SubjectEvent, TrialEvent
from trialstream_schemas.wire.limits import MAX_ADDRESS, MAX_ID

__all__ = ["REQUEST", "WRITER", "envelope_fault"]

WRITER = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_ID}}}")
"""Pattern of the ids of writers, which are keys in documents."""

REQUEST = re.compile(rf"[^~/]{{1,{MAX_ID}}}")
"""Pattern of requests: without the separators of ids of outcomes, which tell the request from its subject."""


def envelope_fault(event: Event) -> str | None:
    """Check the envelope of an event.

    Args:
        event: The event.

    Returns:
        The reason for a dead letter, which names the field; None if the envelope is within the bounds.
    """
    if not INT64_MIN <= event.time <= INT64_MAX:
        return f"time: expected an integer of 64 bits, got one of {event.time.bit_length()} bits"
    if not isinstance(event, SubjectEvent):
        return None
    if isinstance(event, TrialEvent):
        if len(event.trial) > MAX_ADDRESS:
            return f"trial: expected an address of at most {MAX_ADDRESS} characters, got {len(event.trial)}"
    else:
        project_id = event.project_id if isinstance(event, GroupCreated) else None
        for field, name in ((event.SUBJECT, event.subject), ("project_id", project_id or "")):
            if (size := len(name.encode())) > MAX_NAME_BYTES:
                return f"{field}: expected at most {MAX_NAME_BYTES} bytes in UTF-8, got {size}"
    if len(event.writer) > MAX_ID:
        return f"writer: expected an id of at most {MAX_ID} characters, got {len(event.writer)}"
    if not INT64_MIN <= event.seq <= INT64_MAX:
        return f"seq: expected an integer of 64 bits, got one of {event.seq.bit_length()} bits"
    if event.request is not None and not REQUEST.fullmatch(event.request):
        return f"request: expected 1 to {MAX_ID} characters without '~' and '/', got {reprlib.repr(event.request)}"
    return None
