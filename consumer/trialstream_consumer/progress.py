"""The callback by which long operations report how far they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Progress"]

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with the step, how many items of the step are done, and how many there are."""
