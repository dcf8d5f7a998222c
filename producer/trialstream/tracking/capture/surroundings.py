"""Facts about the process that do not change: host, Python, packages, command line."""

from __future__ import annotations

import getpass
import os
import platform
import re
import socket
import sys
from contextlib import suppress
from importlib import metadata
from typing import Any

__all__ = ["command", "host", "packages", "python"]

# Names of options whose values are secrets. `token` alone would also be the last word of --pad-token.
_SECRET = re.compile(
    r"(?:.*[-_.])?(?:password|passwd|passphrase|secret|credentials?"
    r"|(?:access|account|api|auth|private|secret)[-_]?key|(?:access|api|auth|bearer|hf|hub|id|refresh)[-_]token)"
    r"|token",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(://[^\s/?#@:]*:)[^\s/?#@]+@")
_HIDDEN = "***"


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
    """Return the command line without its secrets, and the working folder."""
    return {"line": _without_secrets(sys.orig_argv), "folder": os.getcwd()}  # noqa: PTH109 (a text)


def _without_secrets(arguments: list[str]) -> list[str]:
    """Hide passwords in URLs, and the values of options whose names are those of secrets."""
    shown: list[str] = []
    is_value = False
    for each in arguments:
        name, equals, value = each.partition("=")
        is_secret = _SECRET.fullmatch(name.lstrip("-+")) is not None
        if is_value:
            shown.append(_HIDDEN)
        elif is_secret and equals and value:
            shown.append(f"{name}={_HIDDEN}")
        else:
            shown.append(_URL_PASSWORD.sub(rf"\1{_HIDDEN}@", each))
        is_value = not is_value and is_secret and not equals and each.startswith("-")
    return shown
