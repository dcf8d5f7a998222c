"""Pauses between polls of MongoDB, while callers wait for events to be folded."""

from __future__ import annotations

__all__ = ["is_refresh_due", "pause"]

# Pauses between polls, seconds. A fold takes at least 5 ms and usually 10 ms: polls are frequent after the first pause,
# and become rarer later.
_PAUSES = (0.004, *(0.001,) * 12, *(0.002,) * 8, 0.004, 0.008, 0.016, 0.032, 0.05)
# An event that is not folded after this many polls may be folded into another projection.
_PUNCTUAL_POLLS = 21


def pause(polls: int) -> float:
    """Return the pause after this number of polls, seconds."""
    return _PAUSES[min(polls, len(_PAUSES) - 1)]


def is_refresh_due(polls: int) -> bool:
    """Whether the live projection should be looked up again after this number of polls."""
    return polls == 0 or polls > _PUNCTUAL_POLLS
