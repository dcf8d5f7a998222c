"""Reasons: texts of errors, dead letters and log lines, at a bounded length whatever they quote."""

from __future__ import annotations

__all__ = ["MAX_REASON", "shortened"]

MAX_REASON = 2000
"""Maximum length of a reason, characters."""


def shortened(text: str, most: int = MAX_REASON) -> str:
    """Return a text with at most so many characters: its beginning and its end, and how much is left out between them.

    Args:
        text: The text.
        most: Maximum length, characters; at least 64.
    """
    if len(text) <= most:
        return text
    gap = f" … [{len(text) - most} characters and more left out] … "
    tail = (most - len(gap)) // 4
    return f"{text[: most - len(gap) - tail]}{gap}{text[-tail:]}"
