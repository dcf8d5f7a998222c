"""The consumer service as a child process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from trialstream.config import Config

from trialstream_console.local.server import Server

__all__ = ["ConsumerService", "environment"]


def environment(config: Config) -> dict[str, str]:
    """The settings as environment variables, such that `Config.from_env` gives them back."""
    return {f"TRIALSTREAM_{each.name.upper()}": str(getattr(config, each.name)) for each in fields(config)}


class ConsumerService(Server):
    """`trialstream consume` for one configuration."""

    name = "consumer"
    title = "the consumer"

    def __init__(self, folder: Path, config: Config) -> None:
        super().__init__(folder)
        self.config = config

    @property
    def address(self) -> str:
        """It listens nowhere."""
        return ""

    def answers(self) -> bool:
        """Whether it has logged that it is ready."""
        # The service logs one JSON object a line, and the event "ready" when its partitions are assigned.
        return '"ready"' in self._log_text()

    def _prepare(self) -> None:
        """It needs nothing but the two servers."""

    def _command(self) -> Sequence[str | Path]:
        return [sys.executable, "-m", "trialstream_console.cli", "consume"]

    def _environment(self) -> Mapping[str, str]:
        return {**os.environ, **environment(self.config)}
