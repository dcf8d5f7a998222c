"""The pace at which MongoDB is polled for what a fold will bring."""

from __future__ import annotations

__all__ = ["is_late", "pause"]

# Pauses between polls, seconds. A fold takes 5 ms at least and 10 ms as a rule: polls are frequent from then on, and
# become rarer later.
_PAUSES = (0.004, *(0.001,) * 12, *(0.002,) * 8, 0.004, 0.008, 0.016, 0.032, 0.05)
# After so many polls an event is late, and may be folded into another projection.
_PUNCTUAL_POLLS = 21


def pause(polls: int) -> float:
    """Seconds to wait before the next poll, after so many polls."""
    return _PAUSES[min(polls, len(_PAUSES) - 1)]


def is_late(polls: int) -> bool:
    """Whether, after so many polls, the live projection should be looked up again."""
    return polls == 0 or polls > _PUNCTUAL_POLLS
