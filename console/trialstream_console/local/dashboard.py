"""The dashboard as a child process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from trialstream.config import Config

from trialstream_console.local.consumer import environment
from trialstream_console.local.ports import HOST, require_free
from trialstream_console.local.server import Server

__all__ = ["DashboardService", "is_installed"]

_PACKAGES = ("starlette", "uvicorn")


def is_installed() -> bool:
    """Whether the packages of the extra `dashboard` are installed."""
    try:
        for each in _PACKAGES:
            import_module(each)
    except ImportError:
        return False
    return True


class DashboardService(Server):
    """`trialstream dashboard` on loopback, for one configuration.

    Attributes:
        config: Configuration of what the dashboard reads, given to the process as environment variables.
        port: Port of the dashboard.
    """

    name = "dashboard"
    title = "the dashboard"

    def __init__(self, folder: Path, config: Config, port: int) -> None:
        super().__init__(folder)
        self.config = config
        self.port = port

    @property
    def address(self) -> str:
        """`host:port` at which the dashboard listens."""
        return f"{HOST}:{self.port}"

    def _poll_startup(self) -> bool:
        return self._listens(self.port)

    def _prepare(self) -> None:
        """Check the port: the dashboard keeps no files."""
        require_free(self.port, "the dashboard", "--dashboard-port")

    def _command(self) -> Sequence[str | Path]:
        options = ["--host", HOST, "--port", str(self.port)]
        return [sys.executable, "-m", "trialstream_console.cli", "dashboard", *options]

    def _environment(self) -> Mapping[str, str]:
        # Settings of the user's are for a dashboard that the user starts.
        own = {name: each for name, each in os.environ.items() if not name.startswith("TRIALSTREAM_DASHBOARD_")}
        return {**own, **environment(self.config)}
