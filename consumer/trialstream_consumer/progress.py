"""The callback through which long operations report their progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Progress"]

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with the name of the step, the number of items that are done, and the number of all items of the step."""
