"""Reports of the steps of starting and stopping the servers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["StepReport", "ignore_steps"]

StepReport: TypeAlias = Callable[[str, str], None]
"""Called with a step ("Starting Kafka") and its detail ("12 of 46 jars", or ""), each time either changes.

An empty step means that the last step is finished and none follows.
"""


def ignore_steps(_step: str, _detail: str) -> None:
    """Discard the report."""
