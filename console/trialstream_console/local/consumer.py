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
    """Return the configuration as environment variables that `Config.from_env` reads back.

    Secrets replace the files that the environment of this process may name for them. The function `kafka_token` is left
    out.
    """
    readable = [each for each in fields(config) if each.name != "kafka_token"]
    files = {f"TRIALSTREAM_{each.name.upper()}_FILE": "" for each in readable if not each.repr}
    return files | {f"TRIALSTREAM_{each.name.upper()}": str(getattr(config, each.name)) for each in readable}


class ConsumerService(Server):
    """`trialstream consume` for one configuration.

    Attributes:
        config: Configuration of the consumer, given to the process as environment variables.
    """

    name = "consumer"
    title = "the consumer"

    def __init__(self, folder: Path, config: Config) -> None:
        super().__init__(folder)
        self.config = config

    @property
    def address(self) -> str:
        """Empty: the consumer does not listen."""
        return ""

    def _poll_startup(self) -> bool:
        # The service logs one JSON object a line, and the event "ready" when its partitions are assigned.
        return '"ready"' in self._log_text()

    def _prepare(self) -> None:
        """Do nothing: the consumer keeps no files."""

    def _command(self) -> Sequence[str | Path]:
        return [sys.executable, "-m", "trialstream_console.cli", "consume"]

    def _environment(self) -> Mapping[str, str]:
        return {**os.environ, **environment(self.config)}
