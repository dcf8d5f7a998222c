"""Limits of events and records that writers and readers share."""

from __future__ import annotations

__all__ = [
    "MAX_ERROR_MESSAGE",
    "MAX_ERROR_TRACEBACK",
    "MAX_ERROR_TYPE",
    "MAX_EVENT_BYTES",
    "MAX_RECORD_BYTES",
]

# Kafka refuses batches over 1 MiB (`message.max.bytes`) unless its topics say otherwise; our topics keep that default.
MAX_EVENT_BYTES = 768 * 1024
# Kafka's own limit of a batch. A compressed batch of that size can unpack to records of any size.
MAX_RECORD_BYTES = 1024 * 1024

# Characters of an error that the fold keeps; a writer sends no more than these. 32 errors of this size (the fold's
# MAX_ERRORS) take less than 1.4 MiB of a trial's document in UTF-8.
MAX_ERROR_TYPE = 256
MAX_ERROR_MESSAGE = 2048
MAX_ERROR_TRACEBACK = 8192
