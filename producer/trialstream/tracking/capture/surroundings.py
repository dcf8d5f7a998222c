"""Facts about the process that do not change: host, Python, packages, command line."""

from __future__ import annotations

import getpass
import os
import platform
import socket
import sys
from contextlib import suppress
from importlib import metadata
from typing import Any

__all__ = ["command", "host", "packages", "python"]


def host() -> dict[str, Any]:
    """Return the host: its name, system and number of processors, the user and the process id."""
    user = None
    with suppress(Exception):  # a container may have no user of this number
        user = getpass.getuser()
    return {
        "name": socket.gethostname(),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "user": user,
        "pid": os.getpid(),
    }


def python() -> dict[str, Any]:
    """Return the version and the path of Python."""
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "path": sys.executable,
    }


def packages() -> dict[str, str]:
    """Return the versions of the installed packages by name."""
    found = {each.metadata["Name"]: each.version for each in metadata.distributions() if each.metadata["Name"]}
    return dict(sorted(found.items()))


def command() -> dict[str, Any]:
    """Return the command line and the working folder."""
    return {"line": list(sys.orig_argv), "folder": os.getcwd()}  # noqa: PTH109 (a text)
