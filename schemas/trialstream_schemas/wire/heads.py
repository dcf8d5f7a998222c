"""Heads: the ids at the beginning of an encoded event, read without decoding the rest.

The schemas of all events of a subject begin with the same six fields: the subject, the writer, `seq`, `time`,
`if_version` and `request`. A reader that looks for some events of a log reads the heads of the others only, in a
fraction of the time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

from trialstream_schemas.errors import SchemaError
from trialstream_schemas.wire.codec import HEADER_BYTES, MAGIC
from trialstream_schemas.wire.events import Event, SubjectEvent
from trialstream_schemas.wire.frames import PLAIN_TIME, read_subject
from trialstream_schemas.wire.schemas import FINGERPRINTS, PARSED
from trialstream_schemas.wire.varint import EIGHT_BYTES, LENGTH_BITS, read_long

__all__ = ["KINDS", "PREFIX_BYTES", "Head", "known_heads", "read_head", "subject_bytes"]

T = TypeVar("T")

_FIELDS = ("writer", "seq", "time", "if_version", "request")
PREFIX_BYTES = HEADER_BYTES
"""Number of bytes of an encoded event before its head."""


def _has_head(event: type[Event], schema: Any) -> bool:
    return issubclass(event, SubjectEvent) and [each["name"] for each in schema["fields"][1:6]] == [*_FIELDS]


KINDS: dict[bytes, type[Event]] = {
    MAGIC + FINGERPRINTS[event]: event for event, schema in PARSED.items() if _has_head(event, schema)
}
"""The first `PREFIX_BYTES` of an event whose head `read_head` reads → the class of the event."""

# Bits that the bytes of a plain `seq` hold at most.
_PLAIN_BITS = 63


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


def known_heads(records: Iterable[bytes], known: Mapping[bytes, T]) -> Iterator[tuple[T, int] | None]:
    """Read the heads of many events that are not requests, without their texts, if their subjects are known.

    Args:
        records: Encoded events, or any other bytes.
        known: By the `subject_bytes` of events, anything. It may be changed between two records.

    Yields:
        For each record what `known` has for its subject, and the `seq`; None if it has nothing, or if `read_head` must
        read the head.
    """
    get, unpack = known.get, PLAIN_TIME.unpack_from
    # Those of the last record are nearly always as long as those of the next. A key holds the lengths of its texts, so
    # a record that begins with one has that subject.
    seq_at = 0
    for data in records:
        try:
            if (found := get(data[:seq_at])) is None:
                writer_at = PREFIX_BYTES + 1 + (data[PREFIX_BYTES] >> 1)
                seq_at = writer_at + 1 + (data[writer_at] >> 1)
                if (found := get(data[:seq_at])) is None:
                    yield None
                    continue
            seq = byte = data[seq_at]
            at, bits = seq_at + 1, 7
            while byte >= 0x80 and bits < _PLAIN_BITS:
                byte = data[at]
                seq += (byte - 1) << bits  # - 1 removes the continuation bit of the previous byte
                at, bits = at + 1, bits + 7
            time, nulls = unpack(data, at)
        except (IndexError, struct.error):
            yield None
        else:
            if time & LENGTH_BITS == EIGHT_BYTES and not nulls and byte < 0x80 and not seq & 1:
                yield found, seq >> 1
            else:
                yield None


def subject_bytes(data: bytes) -> bytes | None:
    """Return the bytes of an event up to its `seq`, if the texts in them are short: a key for `known_heads`.

    Args:
        data: An event with a head.

    Returns:
        The bytes, which are those of kind, subject and writer; None if a text has more than 63 bytes.
    """
    writer_at = PREFIX_BYTES + 1 + (data[PREFIX_BYTES] >> 1)
    if data[PREFIX_BYTES] >= 0x80 or data[writer_at] >= 0x80:
        return None
    return data[: writer_at + 1 + (data[writer_at] >> 1)]
