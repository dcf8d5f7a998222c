"""Heads: the ids at the beginning of an encoded event, read without decoding the rest.

The schemas of all events of a subject begin with the same six fields: the subject, the writer, `seq`, `time`,
`if_version` and `request`. A reader that looks for some events of a log reads the heads of the others only, in a
fraction of the time.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.codec import HEADER_BYTES, MAGIC
from trialstream_schemas.wire.events import Event, SubjectEvent
from trialstream_schemas.wire.frames import read_subject
from trialstream_schemas.wire.schemas import FINGERPRINTS, PARSED
from trialstream_schemas.wire.varint import read_long

__all__ = ["KINDS", "PREFIX_BYTES", "Head", "read_head"]

_FIELDS = ("writer", "seq", "time", "if_version", "request")
PREFIX_BYTES = HEADER_BYTES
"""Number of bytes of an encoded event before its head."""


def _has_head(event: type[Event], schema: Any) -> bool:
    return issubclass(event, SubjectEvent) and [each["name"] for each in schema["fields"][1:6]] == [*_FIELDS]


KINDS: dict[bytes, type[Event]] = {
    MAGIC + FINGERPRINTS[event]: event for event, schema in PARSED.items() if _has_head(event, schema)
}
"""The first `PREFIX_BYTES` of an event whose head `read_head` reads → the class of the event."""

# The bytes of a `time` of eight bytes, as all times from 1988 to 3111 take, and of null for `if_version` and `request`:
# the bits that tell the length of an integer, and all bits of the last two bytes.
_PLAIN_MASK = int.from_bytes(b"\x80" * 8 + b"\xff\xff", "little")
_PLAIN = int.from_bytes(b"\x80" * 7 + b"\0\0\0", "little")
_PLAIN_BYTES = 10


Head: TypeAlias = tuple[str, str, int, str | None]
"""Head of an event: address of the trial, or uid of the group or project; writer; `seq`; request, or None."""


def read_head(data: bytes) -> Head:
    """Read the head of an event.

    Args:
        data: An event whose first `PREFIX_BYTES` are one of `KINDS`.

    Raises:
        SchemaError: The bytes are no head.
    """
    try:
        subject, at = read_subject(data, PREFIX_BYTES)
        seq, at = read_long(data, at)
        if int.from_bytes(data[at : at + _PLAIN_BYTES], "little") & _PLAIN_MASK == _PLAIN:
            return subject.trial, subject.writer, seq, None
        _, at = read_long(data, at)
        branch, at = read_long(data, at)
        if branch:
            _, at = read_long(data, at)
        branch, at = read_long(data, at)
        request = None
        if branch:
            size, at = read_long(data, at)
            if not 0 <= size <= len(data) - at:
                raise SchemaError(f"a text of {size} bytes where {len(data) - at} follow")
            request = data[at : at + size].decode()
    except (IndexError, UnicodeError) as error:
        raise SchemaError(f"expected the head of an event, got {error}") from error
    return subject.trial, subject.writer, seq, request
