"""Limits of events and records, for writers and readers."""

from __future__ import annotations

__all__ = [
    "MAX_ADDRESS",
    "MAX_ERROR_MESSAGE",
    "MAX_ERROR_TRACEBACK",
    "MAX_ERROR_TYPE",
    "MAX_EVENT_BYTES",
    "MAX_ID",
    "MAX_RECORD_BYTES",
    "MAX_SCHEMAS_BYTES",
    "MAX_VALUES",
    "MAX_WRITERS",
]

MAX_EVENT_BYTES = 768 * 1024
"""Maximum size of an encoded event, bytes.

Kafka refuses batches over 1 MiB (`message.max.bytes`), a default that the topics keep.
"""

MAX_RECORD_BYTES = 1024 * 1024
"""Maximum size of a record that is decoded, bytes: as large as Kafka's limit of a batch.

Larger records can arrive, because Kafka limits the compressed size of a batch only.
"""

MAX_ID = 64
"""Maximum length of the id of a writer or a request, characters: those that are made here have 12 to 32."""

MAX_ADDRESS = 128
"""Maximum length of the address of a trial, characters: a hash has 32, and the longest request 64."""

MAX_VALUES = MAX_EVENT_BYTES // 4 + 1024
"""Maximum number of values of an event that is decoded, records and their fields among them.

No writer makes an event with more: `values.size` counts at least 8 bytes for each value, which is a record and its
field, and the rest are the fields of the event. While it is decoded, a value takes 300 bytes at most (measured).
"""

MAX_SCHEMAS_BYTES = 2 * 1024 * 1024
"""Maximum size of the schemas of other versions that a log has, bytes of JSON: those of a hundred versions.

They take 40 times as much memory.
"""

MAX_WRITERS = 16 * 1024
"""Maximum number of writers of a trial or a group: their marks take at most 1.2 MB in a document."""

# Writers cut an error to these limits, and the fold does so again. 32 errors of this size (`MAX_ERRORS` of the fold)
# take less than 1.4 MiB of a trial's document in UTF-8.
MAX_ERROR_TYPE = 256
"""Maximum length of the name of an error's class, characters."""
MAX_ERROR_MESSAGE = 2048
"""Maximum length of an error's message, characters."""
MAX_ERROR_TRACEBACK = 8192
"""Maximum length of an error's traceback, characters."""
