"""Limits of events and records, for writers and readers."""

from __future__ import annotations

__all__ = [
    "MAX_ERROR_MESSAGE",
    "MAX_ERROR_TRACEBACK",
    "MAX_ERROR_TYPE",
    "MAX_EVENT_BYTES",
    "MAX_RECORD_BYTES",
]

MAX_EVENT_BYTES = 768 * 1024
"""Bytes of an encoded event, at most.

Kafka refuses batches over 1 MiB (`message.max.bytes`), a default that our topics keep.
"""

MAX_RECORD_BYTES = 1024 * 1024
"""Bytes of a record that is decoded, at most: Kafka's limit of a batch.

A compressed batch of that size can unpack to records of any size.
"""

# The fold keeps these numbers of characters of an error, and a writer sends no more. 32 errors of this size
# (`MAX_ERRORS` of the fold) take less than 1.4 MiB of a trial's document in UTF-8.
MAX_ERROR_TYPE = 256
"""Characters of the name of an error's class, at most."""
MAX_ERROR_MESSAGE = 2048
"""Characters of an error's message, at most."""
MAX_ERROR_TRACEBACK = 8192
"""Characters of an error's traceback, at most."""
