"""The local stack's error; apart, because it needs none of the optional parts."""

from __future__ import annotations

from trialstream_schemas.errors import TrialStreamError

__all__ = ["LocalStackError"]


class LocalStackError(TrialStreamError):
    """The local stack could not be started, found or stopped; the message says what to do."""
