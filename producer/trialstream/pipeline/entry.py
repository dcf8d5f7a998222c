"""An entry of the backlog: one event and its encoding."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.codec import encode as encode_event
from trialstream_schemas.wire.events import SubjectEvent, TrialEvent

from trialstream.spool.folder import Segment
from trialstream.spool.segment import SpooledEvent

__all__ = ["Entry"]

logger = logging.getLogger("trialstream")

# Memory of an entry without its encoded event, bytes.
_ENTRY_BYTES = 512


@dataclass(slots=True)
class Entry:
    """An event that waits to be acknowledged.

    Attributes:
        topic: The topic of the log that the event goes to.
        key: Key of the record.
        event: The event; None once it is encoded.
        size: Estimated memory, bytes.
        encoded: The event in single-object encoding; None before `encode`, empty if it cannot be encoded.
        number: Number of the entry in the backlog, counted from 0.
        segment: The segment of the spool that also holds the event; None if no segment does.
        removed: Whether the entry has left the backlog, acknowledged or dropped.
        request: Id of the event's request; None if the event is no request.
        unsure: Whether an attempt to send the event ended without an answer: Kafka may have it.
    """

    topic: Literal["registry", "trials"]
    key: bytes
    event: SubjectEvent | None
    size: int
    encoded: bytes | None = None
    number: int = 0
    segment: Segment | None = None
    removed: bool = False
    request: str | None = None
    unsure: bool = False

    @classmethod
    def of(cls, event: SubjectEvent, size: int) -> Entry:
        """Make the entry of an event that takes `size` bytes of memory."""
        if isinstance(event, TrialEvent):
            return cls("trials", event.hash.encode(), event, size, request=event.request)
        return cls("registry", event.subject.encode(), event, size, request=event.request)

    @classmethod
    def from_spool(cls, spooled: SpooledEvent, number: int, segment: Segment) -> Entry:
        """Make the entry of an event that was read from a segment."""
        topic, key, value = spooled
        return cls(topic, key, None, len(value) + _ENTRY_BYTES, value, number, segment)

    def encode(self) -> bytes:
        """Encode the event once and return its bytes: empty if the event does not fit its schema.

        The Protocol checks its arguments, so an event that does not fit is a defect of trialstream; this is logged.
        """
        # Sender and spiller may encode the same entry at once: `encoded` is set before `event` is cleared.
        event = self.event
        if event is not None:
            try:
                self.encoded = encode_event(event)
            except SchemaError:
                logger.exception("trialstream lost an event that cannot be encoded; please report this")
                self.encoded = b""
            self.event = None
        assert self.encoded is not None
        return self.encoded

    def to_spool(self) -> SpooledEvent:
        """The event as the spool stores it."""
        return SpooledEvent(self.topic, self.key, self.encode())
